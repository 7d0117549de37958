from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from artifacts.errors import InputError
from sdpo import objectives
from sdpo.training.job import TrainingSettings
from worlds.toy_surface.joint_objectives import Predictions, joint_groups
from worlds.toy_surface.mlp_stack import Activations, MlpStack, initial, layer_sizes, layers_of, parameter_count
from worlds.toy_surface.outer_layers import TorchOuterLayers, outer_layers
from worlds.toy_surface.point_pairs import Points
from worlds.toy_surface.stack_run import StackRun, denormals_as_zero, rows_to_take
from worlds.toy_surface.surface import sample
from worlds.toy_surface.training import NOT_HERE

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
    return replace(settings, learning_rate=rate, max_grad_norm=limit)


def run(chosen: list[objectives.Objective], seeds: list[int], settings: TrainingSettings = SETTINGS) -> StackRun:
    each = [own(objective, settings) for objective in chosen]
    return StackRun(base(), chosen, each, points(200), points(80), seeds, label=None)


@pytest.mark.parametrize("layers", [3, 4])
def test_gradients_by_hand_are_those_of_autograd(layers: int) -> None:
    generator, sizes = torch.Generator().manual_seed(3), layer_sizes(hidden=16, layers=layers)
    stack = MlpStack(torch.stack([initial(sizes, generator).double() for _ in range(3)]), sizes)
    inputs = torch.randn(10, 4, generator=generator, dtype=torch.float64)
    upstream = torch.randn(10, 3, generator=generator, dtype=torch.float64)
    kept, out = Activations(10, sizes, torch.float64), torch.empty(10, 3, dtype=torch.float64)
    for model in range(3):
        stack.forward(model, inputs, kept, out)
        stack.backward(model, inputs, kept, upstream)
        row = stack.parameters[model].clone().requires_grad_()
        expected = outputs(row, inputs, sizes)
        (gradient,) = torch.autograd.grad((expected * upstream).sum(), row)
        assert torch.allclose(out, expected.detach(), rtol=1e-12, atol=1e-13)
        assert torch.allclose(stack.predict(model, inputs), expected.detach(), rtol=1e-12, atol=1e-13)
        assert torch.allclose(stack.gradient[model], gradient, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("layers", [3, 4])
@pytest.mark.parametrize("rows", [[1, 4, 5], []])
@pytest.mark.parametrize("outer", [None, TorchOuterLayers()], ids=["fastest", "torch"])
def test_rows_without_a_gradient_may_be_left_out(layers: int, rows: list[int], outer: TorchOuterLayers | None) -> None:
    generator, sizes = torch.Generator().manual_seed(3), layer_sizes(hidden=16, layers=layers)
    stack = MlpStack(initial(sizes, generator)[None], sizes, outer=outer)
    inputs, upstream = torch.randn(10, 4, generator=generator), torch.zeros(10, 3)
    upstream[rows] = torch.randn(len(rows), 3, generator=generator)
    kept, out = Activations(10, sizes, torch.float32), torch.empty(10, 3)
    stack.forward(0, inputs, kept, out)
    stack.backward(0, inputs, kept, upstream)
    whole = stack.gradient.clone()
    stack.gradient.fill_(torch.nan)
    stack.backward(0, inputs, kept, upstream, torch.tensor(rows, dtype=torch.int64))
    assert torch.allclose(stack.gradient, whole, rtol=1e-5, atol=1e-7)
    assert bool(whole.any()) == bool(rows)


def test_rows_are_left_out_by_the_largest_gradient_of_their_own_model() -> None:
    sizes = torch.ones(4, 10)
    sizes[0, [2, 5]] = torch.tensor([2.0**-31, 2.0**-33])  # one row too small, nine left
    sizes[1, :3] = torch.tensor([0.0, 2.0**-34, 2.0**-30])
    sizes[2] *= 2.0**-60  # small throughout
    sizes[3] = 0.0
    first, second, third, fourth = rows_to_take(sizes)
    assert first is not None and first.tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9]
    assert second is not None and second.tolist() == [2, 3, 4, 5, 6, 7, 8, 9]
    assert third is None
    assert fourth is not None and fourth.tolist() == []


def test_denormal_numbers_are_zero_in_training_only(monkeypatch: pytest.MonkeyPatch) -> None:
    within, one_step = [], StackRun.one_step

    def step(self: StackRun, *, logged: bool) -> list[dict[str, Any]]:
        within.append(half_of_the_smallest())
        if self.step == 2:
            raise InputError("stopped")
        return one_step(self, logged=logged)

    monkeypatch.setattr(StackRun, "one_step", step)
    with pytest.raises(InputError, match="stopped"):
        run([objectives.create("sft")], [0]).go(None)
    assert within == [0.0, 0.0]
    assert half_of_the_smallest() == 2.0**-127
    with denormals_as_zero():
        with denormals_as_zero():
            pass
        assert half_of_the_smallest() == 0.0


def half_of_the_smallest() -> float:
    """Of normal float32 numbers."""
    return float(torch.tensor(2.0**-126) / 2.0)


def outputs(row: torch.Tensor, inputs: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    *hidden, (weight, bias) = layers_of(row, sizes)
    for w, b in hidden:
        inputs = torch.nn.functional.silu(inputs @ w + b)
    return inputs @ weight + bias


@pytest.mark.parametrize(("hidden", "layers"), [(32, 3), (32, 4), (128, 3)])
def test_compiled_layers_are_as_exact_as_those_of_torch(hidden: int, layers: int) -> None:
    """Both against float64, with values from -100 to 100, where e^x leaves the range of float32."""
    generator, sizes = torch.Generator().manual_seed(4), layer_sizes(hidden=hidden, layers=layers)
    compiled = outer_layers(hidden, torch.float32)
    if isinstance(compiled, TorchOuterLayers):
        pytest.skip("no gcc")
    assert compiled.name.startswith("gcc ") and "-O3 -march=native" in compiled.name
    assert isinstance(outer_layers(20, torch.float32), TorchOuterLayers)
    row = initial(sizes, generator)
    inputs = torch.randn(50, 4, generator=generator) * torch.logspace(-2, 2, 50)[:, None]
    upstream = torch.randn(50, 3, generator=generator)
    wide = row.double().requires_grad_()
    expected = outputs(wide, inputs.double(), sizes)
    (gradient,) = torch.autograd.grad((expected * upstream).sum(), wide)
    for outer in (compiled, TorchOuterLayers()):
        stack = MlpStack(row[None].clone(), sizes, outer=outer)
        kept, out = Activations(50, sizes, torch.float32), torch.empty(50, 3)
        stack.forward(0, inputs, kept, out)
        stack.backward(0, inputs, kept, upstream)
        assert torch.allclose(out.double(), expected.detach(), rtol=1e-5, atol=1e-5), outer.name
        assert (stack.gradient[0] - gradient).abs().max() < 1e-6 * gradient.abs().max(), outer.name


def test_compiled_layers_pass_on_what_is_not_a_number() -> None:
    stack = MlpStack(torch.full((1, parameter_count(SIZES)), 0.1), SIZES)
    inputs = torch.zeros(2, 4)
    inputs[1, 2] = torch.nan
    kept, out = Activations(2, SIZES, torch.float32), torch.empty(2, 3)
    stack.forward(0, inputs, kept, out)
    assert out.isnan().any(dim=1).tolist() == [False, True]
    stack.backward(0, inputs, kept, torch.ones(2, 3))
    assert stack.gradient.isnan().any()


def test_a_perceptron_has_a_hidden_layer_between_the_outer_ones() -> None:
    with pytest.raises(InputError, match="layers is 2, expected at least 3"):
        layer_sizes(layers=2)


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

                def predict(parameters: torch.Tensor, inputs: torch.Tensor = batch.inputs[0]) -> torch.Tensor:
                    return outputs(parameters, inputs, SIZES).view(2, -1, 3)

                target = batch.target.view(2, -1, 3)
                parts = (*predict(row), *predict(reference).detach(), *target)
                optimizer.zero_grad()
                objective(objectives.PairPrediction(*parts, time=batch.time[0])).loss.backward()
                torch.nn.utils.clip_grad_norm_([row], settings.max_grad_norm)
                optimizer.step()
                reference.lerp_(row.detach(), 1.0 - decay)
            found = together.stack.parameters[variant * len(seeds) + place]
            assert (found - row.detach()).abs().max() < 1e-6, (objective.name, seed)
            assert (found - base().pretrained(seed)).abs().max() > 1e-3


def test_gradients_of_all_models_at_once_are_those_of_each_alone() -> None:
    """Models of one variant differ much, so that a mean or a λ over both would show."""
    every = [objectives.create(n, safeguard=guard, **values) for n, values, guard in OBJECTIVES + ALONE]
    assert {o.name for o in every} <= set(objectives.names())
    generator, seeds, batch = torch.Generator().manual_seed(5), 2, 32
    models = len(every) * seeds
    shape = (2, 3, models, batch)
    # Mean squares of the shift on either side of the threshold of DSPO's form sdxl.
    spread = torch.tensor([0.1, 3.0]).repeat(len(every))[:, None]
    reference, target = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    policy = reference + spread * torch.randn(shape, generator=generator)
    time = torch.rand(models, batch, generator=generator)
    reference_error = (reference - target).double().square().mean(1)
    together = Predictions(policy, reference, target, reference_error, time)
    groups = joint_groups(every, seeds, batch)
    found = torch.cat([group.gradient(together.of(group.models)) for group in groups])
    for model in range(models):
        alone = together.of(slice(model, model + 1))
        leaf = alone.policy.clone().requires_grad_()
        alone = replace(alone, policy=leaf)
        objective = every[model // seeds]
        (expected,) = torch.autograd.grad(objective(alone.pairs()).loss, leaf)
        error = (found[model] - expected.squeeze(2).transpose(1, 2)).abs().max()
        assert error <= 1e-5 * expected.abs().max(), (objective.name, objective.parameters, objective.safeguard)
    # What differs in β only is one call: plain and under μ = 0.9 and by formula `ovis`, anything else is its own.
    assert [g.models.start // seeds for g in groups if len(g.own) > seeds] == [0, 13, 15]


def test_preferences_met_by_a_wide_margin_are_left_out_of_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    free = replace(SETTINGS, max_grad_norm=1e9)
    chosen = [objectives.create("diffusion_dpo", beta=beta) for beta in (6.0, 6e3)]
    stepped = StackRun(base(), chosen, [free] * 2, points(200), points(80), [0], label=None)
    stepped.stack.parameters.add_(torch.randn(stepped.stack.parameters.shape, generator=torch.manual_seed(0)) * 0.3)
    start = stepped.stack.parameters.clone()
    gone_through: list[int] = []
    backward = stepped.stack.backward

    def recorded(model: int, inputs: Any, kept: Any, gradient: Any, rows: Any) -> None:
        gone_through.append(len(inputs) if rows is None else len(rows))
        backward(model, inputs, kept, gradient, rows)

    monkeypatch.setattr(stepped.stack, "backward", recorded)
    stepped.step = 1
    stepped.one_step(logged=False)
    assert gone_through[0] == 64 and 4 <= gone_through[1] <= 56
    batch = stepped.training.drawn([0], 1, 32, losers=True)
    for model, objective in enumerate(chosen):
        row = start[model].clone().requires_grad_()
        predicted = (*outputs(row, batch.inputs[0], SIZES).view(2, -1, 3),)
        fixed = (*outputs(base().pretrained(0), batch.inputs[0], SIZES).view(2, -1, 3), *batch.target.view(2, -1, 3))
        (expected,) = torch.autograd.grad(objective(objectives.PairPrediction(*predicted, *fixed)).loss, row)
        assert (stepped.stack.gradient[model] - expected).abs().max() < 1e-5 * expected.abs().max()


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    whole = run(made(), [0, 1])
    whole.go(None)
    first = run(made(), [0, 1], replace(SETTINGS, steps=4))
    first.go(tmp_path)
    (tmp_path / "step-00000004.pt").unlink()
    from sdpo.training import checkpoint

    second = run(made(), [0, 1])
    second.resume(checkpoint.load_newest(tmp_path))
    assert second.resumed_from == 3
    second.go(None)
    assert second.stack.parameters.numpy().tobytes() == whole.stack.parameters.numpy().tobytes()
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
    assert (only.stack.parameters - mixed.stack.parameters[:2]).abs().max() < 1e-6
    assert only.rows[0][-1]["margin"] is None
    assert only.drift[0][-1]["winner_drift"] != 0.0


@pytest.mark.parametrize(("name", "value"), [("lora", {"rank": 4}), ("ema_decay", 0.9), ("schedule", "cosine")])
def test_settings_of_the_common_trainer_that_do_nothing_here_are_refused(name: str, value: Any) -> None:
    settings = replace(SETTINGS, **{name: value})
    with pytest.raises(
        InputError, match=rf"training.{name} is .* base family 'toy_surface' does not have; leave it out"
    ):
        settings.refuse("base family 'toy_surface'", *NOT_HERE)
    SETTINGS.refuse("base family 'toy_surface'", *NOT_HERE)


def test_a_step_that_is_not_finite_is_refused_with_the_model_that_took_it() -> None:
    from artifacts.errors import InputError

    broken = run(made()[:2], [0, 1])
    broken.stack.parameters[3] = torch.nan
    with pytest.raises(InputError, match=r"model 3 \(variant 1, seed 1\) is not finite at step 1"):
        broken.go(None)


def test_a_gradient_that_is_not_finite_is_refused_with_its_model() -> None:
    steep = run([objectives.create("diffusion_dpo", beta=beta) for beta in (6.0, 1e300)], [0, 1])
    with pytest.raises(InputError, match=r"gradient of a prediction of model 2 \(variant 1, seed 0\) is not finite"):
        steep.go(None)
