from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from artifacts.errors import InputError
from sdpo import objectives
from sdpo.training.job import TrainingSettings
from worlds.toy_surface.joint_objectives import joint_loss, joint_pairs
from worlds.toy_surface.mlp_stack import initial, layer_sizes, parameter_count, predict
from worlds.toy_surface.point_pairs import Points
from worlds.toy_surface.stack_run import StackRun
from worlds.toy_surface.surface import sample
from worlds.toy_surface.training import HAS, INSTEAD, OWNER

SIZES = layer_sizes(hidden=16)
SETTINGS = TrainingSettings(
    steps=6, batch_size=32, learning_rate=1e-3, warmup_steps=0, optimizer="adam", weight_decay=0.0, max_grad_norm=1.0,
    empty_prompt_share=0.0, log_every=2, checkpoint_every=3, drift_every=3, heldout_pairs=64,
)  # fmt: skip
OBJECTIVES: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
    ("diffusion_dpo", {"beta": 6.0}, None),
    ("diffusion_dpo", {"beta": 600.0}, None),
    ("diffusion_dpo", {"beta": 6.0}, {"mu": 0.99}),
    ("diffusion_dpo", {"beta": 600.0}, {"mu": 0.5, "granularity": "sample"}),
    ("linear_dpo", {"beta": 30.0, "eta": 0.01, "largest_weight": 1.0, "reference_decay": 0.9}, None),
    ("chi_po", {"beta": 10.0, "values": 3.0}, None),
    ("thermo_dpo", {"beta": 3.0, "form": "winner_weighted"}, None),
    ("thermo_dpo", {"beta": 30.0, "form": "plain"}, None),
    ("poly_dpo", {"beta": 6.0}, None),
    ("bdpo", {"beta": 6.0, "error_scale": 3.0}, {"mu": 0.99}),
    ("anchored_dpo", {"beta": 6.0, "anchor": "reference", "weight": 1.7}, None),
    ("anchored_dpo", {"beta": 60.0, "anchor": "winner", "weight": 3.0}, None),
    ("sft", {}, None),
]


ALONE: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
    ("diffusion_dpo", {"beta": 60.0, "loss_type": "ipo"}, {"mu": 0.5, "pulled_back": "exempt"}),
    ("diffusion_dpo", {"beta": 60.0, "loss_type": "hinge"}, {"mu": 0.5, "added_epsilon": 1e-3}),
    ("diffusion_dpo", {"beta": 6.0}, {"mu": 0.9}),
    ("diffusion_dpo", {"beta": 60.0}, {"mu": 0.9}),
    ("diffusion_dpo", {"beta": 60.0}, {"mu": 0.2, "formula": "ovis"}),
    ("diffusion_dpo", {"beta": 600.0}, {"mu": 0.2, "formula": "ovis"}),
    ("linear_dpo", {"beta": 30.0, "eta": 0.01, "largest_weight": 1.0}, None),
    ("linear_dpo", {"beta": 300.0, "eta": 0.1, "largest_weight": 0.8}, None),
    ("dspo", {"beta": 0.1, "form": "sd15"}, {"mu": 0.5}),
    ("dspo", {"beta": 10.0, "form": "sd15"}, {"mu": 0.5}),
    ("dspo", {"beta": 60.0, "form": "sdxl"}, None),
    ("dmpo", {"beta": 60.0, "alpha": 0.01}, None),
    ("dmpo", {"beta": 600.0, "alpha": 0.1}, None),
    ("diffusion_kto", {"beta": 30.0}, {"mu": 0.5, "weights": "objective"}),
    ("diffusion_kto", {"beta": 300.0}, None),
    ("mapo", {"beta": 0.1}, None),
    ("mapo", {"beta": 1.0}, None),
]
"""Beside OBJECTIVES: where a value of one model could leak into another, or a tensor would not pass for a number."""


def made() -> list[objectives.Objective]:
    return [objectives.create(name, safeguard=guard, **values) for name, values, guard in OBJECTIVES]


def base() -> Any:
    rows = torch.stack([initial(SIZES, torch.Generator().manual_seed(seed)) for seed in range(2)])
    return SimpleNamespace(sizes=SIZES, parameters=rows, pretrained=lambda seed: rows[seed % 2])


def points(count: int) -> Points:
    rng = np.random.default_rng(count)
    return Points(*(torch.from_numpy(sample(r, count, rng)).float() for r in ("winner", "loser")))  # type: ignore[arg-type]


def own(objective: objectives.Objective, settings: TrainingSettings = SETTINGS) -> TrainingSettings:
    """Learning rate and clipping of a variant."""
    values = {"linear_dpo": (3e-4, 0.333333), "thermo_dpo": (1e-3, 0.05)}
    rate, limit = values.get(objective.name, (settings.learning_rate, settings.max_grad_norm))
    return settings.model_copy(update={"learning_rate": rate, "max_grad_norm": limit})


def run(chosen: list[objectives.Objective], seeds: list[int], settings: TrainingSettings = SETTINGS) -> StackRun:
    each = [own(objective, settings) for objective in chosen]
    return StackRun(base(), chosen, each, points(200), points(80), seeds, label=None)


def alone(row: torch.Tensor, inputs: torch.Tensor, sizes: tuple[int, ...] = SIZES) -> torch.Tensor:
    """Outputs of one model, (N, 3), for inputs (N, 4), by torch's own layers."""
    places = iter(row.split([n for a, b in pairwise(sizes) for n in (a * b, b)]))
    for layer, ((a, b), weight, bias) in enumerate(zip(pairwise(sizes), places, places, strict=True)):
        inputs = torch.nn.functional.linear(
            torch.nn.functional.silu(inputs) if layer else inputs, weight.view(a, b).T, bias
        )
    return inputs


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_a_stack_predicts_what_each_of_its_models_does(layers: int) -> None:
    generator, sizes = torch.Generator().manual_seed(3), layer_sizes(hidden=16, layers=layers)
    rows = torch.stack([initial(sizes, generator).double() for _ in range(3)])
    assert rows.shape == (3, parameter_count(sizes))
    inputs = torch.randn(3, 10, 4, generator=generator, dtype=torch.float64)
    found = predict(rows, inputs.mT, sizes)
    assert found.shape == (3, 3, 10)
    for row, own, expected in zip(rows, found, inputs, strict=True):
        assert torch.allclose(own.T, alone(row, expected, sizes), rtol=1e-12, atol=1e-13)


def test_a_perceptron_has_a_hidden_layer() -> None:
    with pytest.raises(InputError, match="layers is 1, expected at least 2"):
        layer_sizes(layers=1)


@pytest.mark.slow
def test_models_trained_together_are_those_trained_alone_by_autograd() -> None:
    """Against torch's own modules, clipping and Adam, with one call of the objective a model."""
    seeds = [0, 1, 7]
    together = run(made(), seeds)
    together.go(None)
    for variant, objective in enumerate(made()):
        settings = own(objective)
        assert together.rows[variant * len(seeds)][-1]["learning_rate"] == settings.learning_rate
        for place, seed in enumerate(seeds):
            row = base().pretrained(seed).clone().requires_grad_()
            reference = row.detach().clone()
            decay = float(getattr(objective.parameters, "reference_decay", 1.0))
            optimizer = torch.optim.Adam([row], lr=settings.learning_rate)
            for step in range(1, SETTINGS.steps + 1):
                batch = together.training.drawn([seed], step, SETTINGS.batch_size, losers=True)

                def both(parameters: torch.Tensor, inputs: torch.Tensor = batch.inputs[0].T) -> torch.Tensor:
                    return alone(parameters, inputs).view(2, -1, 3)

                target = batch.target[0].T.reshape(2, -1, 3)
                parts = (*both(row), *both(reference).detach(), *target)
                optimizer.zero_grad()
                objective(objectives.PairPrediction(*parts, time=batch.time[0])).loss.backward()
                torch.nn.utils.clip_grad_norm_([row], settings.max_grad_norm)
                optimizer.step()
                reference.lerp_(row.detach(), 1.0 - decay)
            found = together.model(variant * len(seeds) + place)
            assert (found - row.detach()).abs().max() < 1e-6, (objective.name, seed)
            assert (found - base().pretrained(seed)).abs().max() > 1e-3


def test_what_else_is_in_the_stack_changes_a_gradient_by_rounding_only() -> None:
    """Seed 7 of each variant, alone and beside seeds 0 and 1 of all variants.

    An entry of a gradient is a sum over points. A point's share of it passes some 100 roundings of 2^-24 on its way
    (products over 4, 16 and 16 values, back over 3 and 16, 64 points), and an error in a logit is β times that in the
    errors it is made of. Another model's values would show at the size of the shares themselves.
    """
    free = SETTINGS.model_copy(update={"max_grad_norm": 1e9})
    shift = torch.randn(3, parameter_count(SIZES), generator=torch.Generator().manual_seed(1)) * 0.05

    def stepped(chosen: list[objectives.Objective], seeds: list[int]) -> StackRun:
        made = StackRun(base(), chosen, [free] * len(chosen), points(200), points(80), seeds, label=None)
        for variant in made.variants:
            variant.models.data += shift[-len(seeds) :]
        made.step = 1
        made.one_step(logged=False)
        return made

    together = stepped(made(), [0, 1, 7])
    batch = together.training.drawn([7], 1, SETTINGS.batch_size, losers=True)
    for variant, objective in zip(together.variants, made(), strict=True):
        (single,) = stepped([objective], [7]).variants
        assert variant.models.grad is not None and single.models.grad is not None
        count = (2 if objective.module.HAS_LOSER else 1) * SETTINGS.batch_size
        inputs, target = batch.inputs[:, :, :count], batch.target[:, :, :count]
        start = base().pretrained(7)[None]
        policy = predict(start + shift[-1:], inputs, SIZES).requires_grad_()
        pairs = joint_pairs(policy, predict(start, inputs, SIZES), target, batch.time)
        (upstream,) = torch.autograd.grad(joint_loss(objective, pairs, 1), policy)
        each = (start + shift[-1:]).repeat(count, 1).requires_grad_()
        shares = predict(each, inputs[0].T[:, :, None], SIZES)
        (shares,) = torch.autograd.grad(shares, each, upstream[0].T[:, :, None])
        beta = float(getattr(objective.parameters, "beta", 0.0))
        bound = 100 * 2.0**-24 * (1.0 + beta) * shares.abs().sum(0)
        assert ((variant.models.grad[2] - single.models.grad[0]).abs() <= bound).all(), objective
        assert torch.allclose(shares.sum(0), single.models.grad[0], rtol=0.0, atol=float(bound.max())), objective


def test_gradients_of_all_models_at_once_are_those_of_each_alone() -> None:
    """Models of one variant differ much, so that a mean or a λ over both would show."""
    every = [objectives.create(n, safeguard=guard, **values) for n, values, guard in OBJECTIVES + ALONE]
    assert {o.name for o in every} <= set(objectives.names())
    generator, models, batch = torch.Generator().manual_seed(5), 2, 32
    for objective in every:
        # Mean squares of the shift on either side of the threshold of DSPO's form sdxl.
        spread = torch.tensor([0.1, 3.0])[:, None, None]
        reference, target, change = torch.randn(3, models, 3, 2 * batch, generator=generator)
        policy = (reference + spread * change).requires_grad_()
        time = torch.rand(models, batch, generator=generator)
        (found,) = torch.autograd.grad(joint_loss(objective, joint_pairs(policy, reference, target, time), 2), policy)
        for model in range(models):
            leaf = policy[model].detach().requires_grad_()
            parts = [side.unflatten(1, (2, batch))[:, branch].T for side in (leaf, reference[model], target[model])
                     for branch in range(2)]  # fmt: skip
            loss = objective(objectives.PairPrediction(*parts, time=time[model])).loss
            (expected,) = torch.autograd.grad(loss, leaf)
            assert (found[model] - expected).abs().max() <= 1e-5 * expected.abs().max(), objective


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole = run(made(), [0, 1])
    whole.go(None)
    first = run(made(), [0, 1], SETTINGS.model_copy(update={"steps": 4}))
    first.go(tmp_path)
    (tmp_path / "step-00000004.pt").unlink()
    from sdpo.training import checkpoint

    second = run(made(), [0, 1])
    second.resume(checkpoint.load_newest(tmp_path))
    assert second.resumed_from == 3
    second.go(None)
    for resumed, straight in zip(second.variants, whole.variants, strict=True):
        assert torch.equal(resumed.models, straight.models)
    assert second.drift == whole.drift
    kept = ("step", "loss", "winner_drift", "grad_norm", "safe_scale_mean")
    assert [[{k: r[k] for k in kept} for r in log] for log in second.rows] == [
        [{k: r[k] for k in kept} for r in log] for log in whole.rows
    ]


def test_a_stack_without_losers_trains_on_winners_alone() -> None:
    only = run([objectives.create("sft")], [0, 1])
    only.go(None)
    mixed = run([objectives.create("sft"), objectives.create("diffusion_dpo", beta=6.0)], [0, 1])
    mixed.go(None)
    assert (only.variants[0].models - mixed.variants[0].models).abs().max() < 1e-6
    assert only.rows[0][-1]["margin"] is None
    assert only.drift[0][-1]["winner_drift"] != 0.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("lora", {"rank": 4}), ("ema_decay", 0.9), ("schedule", "cosine"), ("empty_prompt_share", 0.5)],
        *[
            ("embedded_guidance", 3.5),
            ("tf32", True),
            ("sample_prompts", 5),
            ("timesteps", {"density": "logit_normal"}),
        ],
    ],
)
def test_settings_of_the_common_trainer_that_do_nothing_here_are_refused(name: str, value: Any) -> None:
    settings = SETTINGS.model_copy(update={name: value})
    with pytest.raises(
        InputError, match=rf"training.{name} is .* base family 'toy_surface' does not have; leave it out"
    ):
        settings.refuse_all_but(OWNER, HAS, INSTEAD)


def test_what_the_toy_surface_has_passes_and_what_takes_the_place_of_micro_batches_is_named() -> None:
    SETTINGS.refuse_all_but(OWNER, HAS, INSTEAD)
    with pytest.raises(
        InputError, match=r"micro_batch_size is 8, which .* leave it out; .* safeguard has granularity: N"
    ):
        SETTINGS.model_copy(update={"micro_batch_size": 8}).refuse_all_but(OWNER, HAS, INSTEAD)


def test_a_setting_that_is_new_is_refused() -> None:
    class Later(TrainingSettings):
        momentum: float = 0.0

    Later(momentum=0.0).refuse_all_but(OWNER, HAS, INSTEAD)
    with pytest.raises(InputError, match=r"training.momentum is 0.5, which base family 'toy_surface' does not have"):
        Later(momentum=0.5).refuse_all_but(OWNER, HAS, INSTEAD)


def test_a_step_that_is_not_finite_is_refused_with_the_model_that_took_it() -> None:
    broken = run(made()[:2], [0, 1])
    broken.variants[1].models.data[1] = torch.nan
    with pytest.raises(InputError, match=r"model 3 \(variant 1, seed 1\) is not finite at step 1"):
        broken.go(None)


def test_a_gradient_that_is_not_finite_is_refused_with_its_model() -> None:
    steep = run([objectives.create("diffusion_dpo", beta=beta) for beta in (6.0, 1e300)], [0, 1])
    with pytest.raises(InputError, match=r"gradient norm of model 2 \(variant 1, seed 0\) is not finite"):
        steep.go(None)


@pytest.mark.parametrize(("name", "rows"), [("quick", 2), ("rivals", 4)])
def test_the_smaller_configs_have_rows_of_the_whole_one(name: str, rows: int) -> None:
    """So that their figures are those of the same rows, but for the seeds that are left out."""
    folder = Path(__file__).parents[4] / "config"
    part, whole = (
        yaml.safe_load((folder / f"toy-surface{which}.yaml").read_text("utf-8")) for which in (f"-{name}", "")
    )
    known = {variant["name"]: variant for variant in whole["variants"]}
    common = [variant for variant in part["variants"] if variant["name"] in known]
    assert common == [known[variant["name"]] for variant in common] and len(common) == rows
    assert set(part["seeds"]) <= set(whole["seeds"])
    own = ("benchmark", "variants", "seeds", "execution")
    assert {k: v for k, v in part.items() if k not in own} == {k: v for k, v in whole.items() if k not in own}
