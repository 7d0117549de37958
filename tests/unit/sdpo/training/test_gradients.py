"""One λ a step, or one for a number of its pairs, however the step is split."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from artifacts.errors import InputError
from sdpo import objectives
from sdpo.objectives import PairPrediction
from sdpo.objectives.diffusion_kto import _mean_over_processes
from sdpo.safeguard import safe_scale
from sdpo.training.gradients import PairGradients, accumulate_gradients
from sdpo.training.processes import Processes

PAIRS, VALUES = 12, 6
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("diffusion_dpo", {"mu": 0.8}),
    ("dmpo", {"mu": 0.8, "pulled_back": "exempt"}),
    ("diffusion_dpo", {"mu": 0.1, "formula": "ovis"}),
    ("linear_dpo", {"mu": 0.8, "weights": "objective"}),
]


@dataclass(frozen=True)
class Part:
    """A micro-batch of the world's pairs; pair i has a share of noise of i / PAIRS."""

    rows: slice

    @property
    def timesteps(self) -> torch.Tensor:
        return (torch.arange(PAIRS, dtype=torch.float64) / PAIRS)[self.rows]

    def __len__(self) -> int:
        return len(self.timesteps)


class World:
    """A small denoiser, its reference, and pairs; everything seeded, so that each process builds the same."""

    def __init__(self) -> None:
        random = torch.Generator().manual_seed(3)

        def normal(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=random, dtype=torch.float64)

        self.parameters = [normal(VALUES, 8).requires_grad_(), normal(8, VALUES).requires_grad_()]
        self.reference = [p.detach() + 0.05 * normal(*p.shape) for p in self.parameters]
        self.winner, self.noise = normal(PAIRS, VALUES), normal(PAIRS, VALUES)
        self.loser = self.winner + 0.5 * normal(PAIRS, VALUES)

    def predict(self, rows: slice) -> PairPrediction:
        def network(x: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
            return torch.tanh(x @ weights[0]) @ weights[1]

        noise = self.noise[rows]
        noisy = [x[rows] + noise for x in (self.winner, self.loser)]
        policy = [network(x, self.parameters) for x in noisy]
        reference = [network(x, self.reference) for x in noisy]
        return PairPrediction(policy[0], policy[1], reference[0], reference[1], noise, noise)

    def gradients(self, objective: objectives.Objective, sizes: list[int]) -> tuple[list[torch.Tensor], torch.Tensor]:
        for parameter in self.parameters:
            parameter.grad = None
        starts = [sum(sizes[:i]) for i in range(len(sizes))]
        parts = [partial(self.predict, slice(a, a + size)) for a, size in zip(starts, sizes, strict=True)]
        _, scale = accumulate_gradients(objective, parts, self.parameters, pairs=sum(sizes))
        return [p.grad for p in self.parameters if p.grad is not None], scale

    def step(self, objective: objectives.Objective, size: int) -> tuple[list[torch.Tensor], dict[str, float | None]]:
        """Gradients and metrics of a whole step in micro-batches of ``size``, as training has them."""
        for parameter in self.parameters:
            parameter.grad = None
        device: Any = SimpleNamespace(device=torch.device("cpu"))
        base: Any = SimpleNamespace(coefficients=lambda t: (1.0 - t, t))
        own: Any = SimpleNamespace(trained=self.parameters)
        gradients = PairGradients(base, objective, own, device, Processes())
        gradients.predicted = lambda part, **_: self.predict(part.rows)  # type: ignore[method-assign, assignment]
        parts: Any = [Part(slice(a, a + size)) for a in range(0, PAIRS, size)]
        _, metrics = gradients.fill(parts, PAIRS)
        # The cosine is that of a micro-batch.
        del metrics["residual_cosine"]
        return [p.grad for p in self.parameters if p.grad is not None], metrics


def create(name: str, safeguard: dict[str, Any]) -> objectives.Objective:
    return objectives.create(name, beta=3.0, safeguard={"granularity": "global", **safeguard})


@pytest.mark.parametrize(("name", "safeguard"), SETTINGS)
@pytest.mark.parametrize("sizes", [[4, 4, 4], [1] * PAIRS, [7, 5]])
def test_any_split_gives_the_gradient_of_the_whole(name: str, safeguard: dict[str, Any], sizes: list[int]) -> None:
    world, objective = World(), create(name, safeguard)
    expected, scale = world.gradients(objective, [PAIRS])
    found, split_scale = world.gradients(objective, sizes)
    assert 0 < float(scale) < 1
    torch.testing.assert_close(split_scale, scale, rtol=1e-12, atol=0)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("name", "safeguard"), SETTINGS)
def test_one_micro_batch_is_the_objective_as_it_is(name: str, safeguard: dict[str, Any]) -> None:
    """The two buffers put together are what backward gives with λ known beforehand."""
    world, objective = World(), create(name, safeguard)
    found, _ = world.gradients(objective, [PAIRS])
    expected = torch.autograd.grad(objective(world.predict(slice(PAIRS))).loss, world.parameters)
    torch.testing.assert_close(found, list(expected), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(("name", "safeguard"), SETTINGS)
def test_a_number_of_pairs_share_a_scale_whatever_the_micro_batch(name: str, safeguard: dict[str, Any]) -> None:
    """Groups of four within a micro-batch of 12 and 4, and made of micro-batches of 2 and 1."""
    world, objective = World(), create(name, {**safeguard, "granularity": 4})
    expected, metrics = world.step(objective, PAIRS)
    assert metrics["safe_scale_noise_1"] != metrics["safe_scale_noise_5"] != 1.0
    for size in (4, 2, 1):
        found, others = world.step(objective, size)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)
        assert others == pytest.approx(metrics, rel=1e-9)
    other, _ = world.step(create(name, {**safeguard, "granularity": 6}), PAIRS)
    assert not torch.allclose(other[0], expected[0], rtol=1e-3)


@pytest.mark.parametrize(("number", "name"), [(1, "sample"), (4, "microbatch"), (PAIRS, "global")])
def test_numbers_that_are_other_granularities(number: int, name: str) -> None:
    world = World()
    expected, metrics = world.step(create("diffusion_dpo", {"mu": 0.8, "granularity": name}), 4)
    found, others = world.step(create("diffusion_dpo", {"mu": 0.8, "granularity": number}), 4)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    assert others == pytest.approx(metrics, rel=1e-10)


def test_a_fixed_scale_is_the_same_for_all_groups_and_lies_between_off_and_whole() -> None:
    world, fixed = World(), {"mu": 0.6, "formula": "fixed"}
    expected, metrics = world.step(create("diffusion_dpo", fixed), PAIRS)
    assert metrics["safe_scale_mean"] == pytest.approx(0.4)
    found, _ = world.step(create("diffusion_dpo", {**fixed, "granularity": "sample"}), 4)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-13)
    none, _ = world.step(create("diffusion_dpo", {"mu": 1.0, "formula": "fixed"}), PAIRS)
    whole, _ = world.step(create("diffusion_dpo", {"mu": 0.0, "formula": "fixed"}), PAIRS)
    for scaled, without, plain in zip(expected, none, whole, strict=True):
        torch.testing.assert_close(scaled, without + 0.4 * (plain - without), rtol=1e-6, atol=1e-9)


def test_micro_batches_with_a_scale_each_give_something_else() -> None:
    world = World()
    whole, _ = world.gradients(create("diffusion_dpo", {"mu": 0.8}), [PAIRS])
    objective = objectives.create("diffusion_dpo", beta=3.0, safeguard={"mu": 0.8})
    losses = [objective(world.predict(slice(a, a + 4))).loss / 3 for a in (0, 4, 8)]
    apart = torch.autograd.grad(losses[0] + losses[1] + losses[2], world.parameters)
    assert not torch.allclose(apart[0], whole[0], rtol=1e-3)


def test_without_other_processes_global_is_one_scale_for_the_batch() -> None:
    random = torch.Generator().manual_seed(0)
    winner = torch.randn(5, 3, 4, generator=random)
    loser = winner + torch.randn(5, 3, 4, generator=random)
    assert torch.equal(safe_scale(winner, loser, mu=0.4, granularity="global"), safe_scale(winner, loser, mu=0.4))


@pytest.mark.parametrize("granularity", ["global", PAIRS])
def test_a_scale_over_several_shapes_is_that_of_the_gradients(granularity: Any) -> None:
    """Against autograd: of an error that is a mean over more values, the gradient at each of them is smaller."""
    world = World()
    objective = objectives.create("diffusion_dpo", beta=3.0, safeguard={"mu": 0.8, "granularity": granularity})

    def large() -> PairPrediction:
        """Eight pairs with four times the values."""
        found: dict[str, Any] = vars(world.predict(slice(4, PAIRS)))
        wide = {name: torch.stack([x, 0.9 * x, 1.2 * x, x - 0.1], 1) for name, x in found.items() if x is not None}
        return PairPrediction(**wide)

    parts: list[Callable[[], PairPrediction]] = [partial(world.predict, slice(4)), large]
    pairs = [part() for part in parts]
    errors = [objective.errors(pair) for pair in pairs]
    gradients = []
    for side in ("policy_winner", "policy_loser"):
        mean = torch.cat([getattr(x, side) for x in errors]).mean()
        found = torch.autograd.grad(mean, [getattr(pair, side) for pair in pairs], retain_graph=True)
        gradients.append(torch.cat([g.flatten() for g in found]))
    expected = 0.2 * gradients[0].dot(gradients[0]) / gradients[0].dot(gradients[1])
    assert 0 < float(expected) < 1
    for values in (VALUES, 4 * VALUES, 1000):
        _, scale = accumulate_gradients(objective, parts, world.parameters, pairs=PAIRS, values=values)
        torch.testing.assert_close(scale, expected, rtol=1e-12, atol=0)
    _, plain = accumulate_gradients(objective, parts, world.parameters, pairs=PAIRS)
    assert float(plain) != pytest.approx(float(expected), rel=1e-3)


def test_no_micro_batch_is_refused() -> None:
    world = World()
    with pytest.raises(InputError, match="at least one"):
        accumulate_gradients(create("diffusion_dpo", {"mu": 0.5}), [], world.parameters, pairs=1)


def worker(rank: int, rendezvous: str, out: str) -> None:
    """One of two processes: half of the pairs, gradients averaged as data-parallel training does."""
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
    world, half = World(), PAIRS // 2
    for field in ("winner", "loser", "noise"):
        setattr(world, field, getattr(world, field)[rank * half : (rank + 1) * half])
    results = []
    for name, safeguard in SETTINGS:
        found, scale = world.gradients(create(name, safeguard), [2, 4])
        for gradient in found:
            dist.all_reduce(gradient)
        results.append({"scale": float(scale), "gradients": [(g / 2).tolist() for g in found]})
    pair = world.predict(slice(half))
    assert pair.policy_loser is not None and pair.target_loser is not None
    direct = safe_scale(
        pair.policy_winner - pair.target_winner, pair.policy_loser - pair.target_loser, mu=0.8, granularity="global"
    )
    mean = _mean_over_processes(torch.arange(1.0, 2.0 + 2 * rank))
    if rank == 0:
        Path(out).write_text(json.dumps({"steps": results, "direct": float(direct), "mean": float(mean)}))
    dist.destroy_process_group()


def test_two_processes_give_the_gradient_of_one(warm: Path, tmp_path: Path) -> None:
    rendezvous, out = tmp_path / "rendezvous", tmp_path / "out.json"
    commands = [[warm / "python", __file__, str(rank), str(rendezvous), str(out)] for rank in (0, 1)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    result = json.loads(out.read_text())
    for (name, safeguard), step in zip(SETTINGS, result["steps"], strict=True):
        expected, scale = World().gradients(create(name, safeguard), [PAIRS])
        assert step["scale"] == pytest.approx(float(scale), rel=1e-10)
        for found, whole in zip(step["gradients"], expected, strict=True):
            torch.testing.assert_close(torch.tensor(found, dtype=torch.float64), whole, rtol=1e-9, atol=1e-13)
    # One process has the value 1, the other 1, 2 and 3: the mean of their means would be 1.5.
    assert result["mean"] == 7 / 4
    assert result["direct"] == pytest.approx(result["steps"][0]["scale"], rel=1e-10)


if __name__ == "__main__":
    worker(int(sys.argv[1]), sys.argv[2], sys.argv[3])
