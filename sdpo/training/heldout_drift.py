"""How far the denoising errors on held-out pairs have drifted from the reference's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from artifacts.random_streams import stream
from sdpo.training.drawing import HELDOUT, Drawn
from sdpo.training.policy import load_denoiser
from sdpo.training.precision import Precision
from sdpo.training.processes import Processes
from sdpo.training.sharding import spread

if TYPE_CHECKING:
    import torch

    from sdpo.bases import Base
    from sdpo.pairs.cache import Pairs

_BATCH, _LATENT_PIXELS = 128, 128 * 64 * 64
"""Images, and pixels of their latents, that pass through the denoiser at once, at most."""


def drift_row(winner: torch.Tensor, loser: torch.Tensor, step: int) -> dict[str, float]:
    """One row of contract ``drift`` from d_w and d_l of N pairs, (N,) in float64."""
    margin = loser - winner
    return {
        "step": step,
        "winner_drift": float(winner.mean()),
        "loser_drift": float(loser.mean()),
        "margin": float(margin.mean()),
        "implicit_accuracy": float(((margin > 0).double() + (margin == 0).double() / 2).mean()),
        "pairs": len(margin),
    }


class HeldoutProbe:
    """Drift on a sample of the held-out pairs, which is, with noise and timesteps, that of every model of a pair set.

    Timesteps are spread evenly over the schedule. Latents are those of the images as they are, unmirrored, and the
    mean of the posterior where there is one. The reference's errors are computed once. Several processes share the
    work, and all of them learn the result.

    Args:
        base: of the model.
        pairs: of the held-out split.
        limit: pairs to use, at most.
        precision: in which the models compute.
        processes: those that measure together.
    """

    def __init__(
        self,
        base: Base,
        pairs: Pairs,
        limit: int,
        *,
        precision: Precision | None = None,
        processes: Processes | None = None,
    ) -> None:
        import torch

        count = min(limit, len(pairs))
        self.base = base
        self.precision, self.processes = precision or Precision(), processes or Processes()
        # A sample, since sources keep their own order; sorted, since the cache is read from front to back.
        rows = torch.randperm(len(pairs), generator=stream(HELDOUT, 2))[:count].sort().values
        # Shuffled: pair i must not get the i-th timestep from below.
        timesteps = base.spread_timesteps(count)[torch.randperm(count, generator=stream(HELDOUT, 0))]
        self.count, self.batches = count, list[Drawn]()
        for shape, places in pairs.by_shape(rows):
            own = rows[places]
            sides, prompts = [pairs.winners(own), pairs.losers(own)], pairs.prompts(own)
            winner, loser = (side.latents.mean for side in sides)
            conditions = [{**prompts, **base.image_conditions(side.sizes)} for side in sides]
            noise = torch.randn(winner.shape, generator=stream(HELDOUT, 1, shape))
            drawn = Drawn(own, places, winner, loser, noise, timesteps[places], conditions[0], conditions[1])
            height, width = noise.shape[-2:]
            self.batches += drawn.split(max(1, min(_BATCH, _LATENT_PIXELS // (height * width))))
        sharded = self.processes.sharded
        reference = load_denoiser(base, sharded=sharded).eval().requires_grad_(False)
        if self.precision.channels_last:
            reference.to(memory_format=torch.channels_last)
        if sharded:
            spread(reference, self.precision.device)
        self.reference = self._errors(reference)

    def _errors(self, denoiser: torch.nn.Module) -> torch.Tensor:
        """Denoising errors (2, N): winners, losers."""
        import torch

        from sdpo.diffusion.noising import noised, target

        own = self.processes.share(range(len(self.batches)))
        # All make as many passes: where weights are shared out, each needs all processes.
        passes = -(-len(self.batches) // self.processes.count)
        errors = torch.zeros(2, self.count, device=self.precision.device)
        # Under `inference_mode` shared weights would be brought together in tensors that no later pass may fill.
        with torch.no_grad():
            for number in [*own, *range(passes - len(own))]:
                batch = self.batches[number].to(self.precision.device)
                sides = (batch.winner, batch.winner_conditions), (batch.loser, batch.loser_conditions)
                for side, (clean, conditions) in zip(errors, sides, strict=True):
                    process = clean, batch.noise, *self.base.coefficients(batch.timesteps)
                    predicted = self.precision.predict(
                        self.base, denoiser, noised(*process), batch.timesteps, conditions
                    )
                    residual = predicted - target(self.base.parametrisation, *process)
                    if number in own:
                        side[batch.places.to(side.device)] = residual.square().flatten(1).mean(1)
        self.processes.add_up([errors])
        return errors

    def measure(self, denoiser: torch.nn.Module, step: int) -> dict[str, float]:
        """One row of contract ``drift``."""
        winner, loser = (self._errors(denoiser) - self.reference).double().cpu()
        return drift_row(winner, loser, step)
