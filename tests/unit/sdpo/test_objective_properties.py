"""What holds for every objective on drawn inputs: order, λ and the value, splits, scale, finite differences."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdpo.accumulation import accumulate_gradients
from sdpo.objectives import Objective, PairPrediction, create, load, names

CASES: list[tuple[str, dict[str, Any]]] = [
    ("diffusion_dpo", {}),
    ("diffusion_dpo", {"loss_type": "hinge"}),
    ("diffusion_dpo", {"loss_type": "ipo"}),
    ("dspo", {"form": "sd15"}),
    ("dspo", {"form": "sdxl"}),
    ("dmpo", {"alpha": 0.05}),
    ("diffusion_kto", {"liked_weight": 0.8}),
    ("diffusion_kto", {"utility": "loss_averse"}),
    ("diffusion_kto", {"utility": "risk_seeking"}),
    ("mapo", {"timesteps": 20}),
    ("linear_dpo", {}),
    ("anchored_dpo", {"anchor": "winner"}),
    ("anchored_dpo", {"anchor": "reference"}),
    ("anchored_dpo", {"anchor": "reference_square"}),
    ("chi_po", {"values": 4.0}),
    ("thermo_dpo", {"form": "winner_weighted"}),
    ("thermo_dpo", {"form": "plain"}),
]
every = pytest.mark.parametrize(("name", "extra"), CASES, ids=["-".join([n, *map(str, e.values())]) for n, e in CASES])
SEEDS, SLACKS, GRANULARITIES = st.integers(0, 10**6), st.floats(0, 1), st.sampled_from(["microbatch", "sample"])
AGREEMENTS = st.floats(-2, 3)
few = settings(max_examples=12, deadline=None, derandomize=True)
fewer = settings(max_examples=6, deadline=None, derandomize=True)


def pairs(seed: int, agreement: float, batch: int = 4, dtype: torch.dtype = torch.float64) -> PairPrediction:
    """Pairs whose references are a little better than the policies, so that the reference point of KTO is 0."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> torch.Tensor:
        return torch.randn(batch, 2, 3, generator=generator, dtype=torch.float64)

    targets, residual = [normal(), normal()], 0.3 * normal() + 0.1
    residuals = [residual, agreement * residual + 0.1 * normal()]
    policies = [t + r for t, r in zip(targets, residuals, strict=True)]
    references = [t + 0.9 * r + 0.005 * normal() for t, r in zip(targets, residuals, strict=True)]
    time = torch.rand(batch, generator=generator, dtype=torch.float64) * 0.8 + 0.1
    made = PairPrediction(*(x.to(dtype) for x in (*policies, *references, *targets, time)))
    for leaf in leaves(made):
        leaf.requires_grad_()
    return made


def leaves(pair: PairPrediction) -> list[torch.Tensor]:
    assert pair.policy_loser is not None
    return [pair.policy_winner, pair.policy_loser]


def tensors(pair: PairPrediction) -> dict[str, torch.Tensor]:
    return {field.name: getattr(pair, field.name) for field in fields(pair)}


def rows(pair: PairPrediction, chosen: Any) -> PairPrediction:
    return PairPrediction(**{name: x[chosen] for name, x in tensors(pair).items()})


def made(name: str, extra: dict[str, Any], mu: float | None = None, granularity: str = "microbatch") -> Objective:
    return create(
        name, safeguard=None if mu is None else {"mu": mu, "granularity": granularity}, **{"beta": 20.0, **extra}
    )


def gradients(objective: Objective, pair: PairPrediction, **options: Any) -> list[torch.Tensor]:
    return list(torch.autograd.grad(objective(pair, **options).loss, leaves(pair)))


def test_no_objective_is_missing() -> None:
    assert {name for name, _ in CASES} == {name for name in names() if load(name).HAS_LOSER}


@every
@few
@given(SEEDS, AGREEMENTS, SLACKS, GRANULARITIES, st.permutations(range(4)))
def test_gradients_follow_the_order_of_the_pairs(
    name: str, extra: dict[str, Any], seed: int, agreement: float, mu: float, granularity: str, order: list[int]
) -> None:
    pair, objective = pairs(seed, agreement), made(name, extra, mu, granularity)
    permuted = rows(pair, order)
    expected = [gradient[order] for gradient in gradients(objective, pair)]
    found = list(torch.autograd.grad(objective(permuted).loss, leaves(permuted)))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@every
@few
@given(SEEDS, AGREEMENTS, st.one_of(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=4, max_size=4)))
def test_no_scale_changes_a_value_and_one_changes_nothing(
    name: str, extra: dict[str, Any], seed: int, agreement: float, scale: float | list[float]
) -> None:
    """In fp32, to the last bit."""
    pair, objective = pairs(seed, agreement, dtype=torch.float32), made(name, extra)
    plain = objective(pair)
    scaled = objective(pair, scale=torch.tensor(scale))
    assert torch.equal(plain.loss, scaled.loss)
    assert all(torch.equal(x, scaled.metrics[key]) for key, x in plain.metrics.items() if "safe_scale" not in key)
    (winner, loser), (scaled_winner, scaled_loser) = (
        gradients(objective, pair),
        gradients(objective, pair, scale=torch.tensor(scale)),
    )
    assert torch.equal(winner, scaled_winner)
    torch.testing.assert_close(scaled_loser, torch.tensor(scale).reshape(-1, 1, 1) * loser, rtol=1e-5, atol=1e-30)
    for before, after in zip([winner, loser], gradients(objective, pair, scale=torch.tensor(1.0)), strict=True):
        assert torch.equal(before, after)


@every
@few
@given(SEEDS, AGREEMENTS, SLACKS)
def test_one_pair_has_one_scale(name: str, extra: dict[str, Any], seed: int, agreement: float, mu: float) -> None:
    pair = pairs(seed, agreement, batch=1)
    shared, own = (made(name, extra, mu, granularity) for granularity in ("microbatch", "sample"))
    torch.testing.assert_close(gradients(own, pair), gradients(shared, pair), rtol=1e-12, atol=1e-16)


@every
@fewer
@given(SEEDS, AGREEMENTS, SLACKS, st.sets(st.integers(1, 5), min_size=1, max_size=5))
def test_global_scale_does_not_know_how_the_pairs_are_split(
    name: str, extra: dict[str, Any], seed: int, agreement: float, mu: float, cuts: set[int]
) -> None:
    """The gradient by a matrix that both branches share is that of the batch as a whole."""
    whole = pairs(seed, agreement, batch=6)
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(6, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2)]
    matrix = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    fixed = [x.detach() for x in leaves(whole)]

    def part(first: int, last: int) -> PairPrediction:
        winner, loser = (x[first:last] + y[first:last] @ matrix for x, y in zip(fixed, inputs, strict=True))
        return replace(rows(whole, slice(first, last)), policy_winner=winner, policy_loser=loser)

    objective = made(name, extra, mu, "global")
    (expected,) = torch.autograd.grad(objective(part(0, 6)).loss, matrix)
    ends = sorted({0, 6, *cuts})
    parts = [lambda a=a, b=b: part(a, b) for a, b in pairwise(ends)]
    accumulate_gradients(objective, parts, [matrix], pairs=6)
    assert matrix.grad is not None
    torch.testing.assert_close(matrix.grad, expected, rtol=1e-9, atol=1e-13)


@every
@few
@given(SEEDS, AGREEMENTS, SLACKS, GRANULARITIES, st.floats(-30, 30))
def test_scale_does_not_depend_on_the_size_of_the_residuals(
    name: str, extra: dict[str, Any], seed: int, agreement: float, mu: float, granularity: str, exponent: float
) -> None:
    pair, objective = pairs(seed, agreement), made(name, extra, mu, granularity)
    factor = 10.0**exponent
    larger = PairPrediction(**{key: x if key == "time" else factor * x for key, x in tensors(pair).items()})
    found, expected = (objective.scale(objective.errors(x)) for x in (larger, pair))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("name", "extra"), [CASES[0], *CASES[4:9]])
@few
@given(SEEDS, AGREEMENTS, st.floats(-2, 2))
def test_errors_that_grow_are_a_larger_beta(
    name: str, extra: dict[str, Any], seed: int, agreement: float, exponent: float
) -> None:
    """The logistic loss, DSPO's form `sdxl`, DMPO and KTO see β times errors: c times the predictions are c²·β."""
    pair, factor = pairs(seed, agreement), 10.0**exponent
    larger = PairPrediction(**{key: x if key == "time" else factor * x for key, x in tensors(pair).items()})
    beta = 0.5
    if extra.get("form") == "sdxl" and exponent > 0:
        return  # a shift that has grown is another loss
    found, expected = create(name, beta=beta, **extra)(larger), create(name, beta=beta * factor**2, **extra)(pair)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize(("name", "extra"), [case for case in CASES if case[0] != "linear_dpo"])
@fewer
@given(SEEDS, AGREEMENTS, SLACKS, GRANULARITIES)
def test_gradients_are_those_of_finite_differences(
    name: str, extra: dict[str, Any], seed: int, agreement: float, mu: float, granularity: str
) -> None:
    """The loser's are λ times those of the loss; Linear-DPO, whose weights are held, is checked elsewhere."""
    pair, objective = pairs(seed, agreement), made(name, extra, mu, granularity)
    scale = objective.scale(objective.errors(pair)).reshape(-1, 1, 1)
    generator = torch.Generator().manual_seed(seed)
    for side, gradient, factor in zip(
        ("policy_winner", "policy_loser"), gradients(objective, pair), (1.0, scale), strict=True
    ):
        at = getattr(pair, side).detach()
        direction = torch.randn(at.shape, generator=generator, dtype=torch.float64)

        def value(step: float, side: str = side, by: torch.Tensor = factor * direction, at: torch.Tensor = at) -> float:
            return objective(replace(pair, **{side: at + step * by})).loss.item()

        step = 1e-5
        numeric = (value(step) - value(-step)) / (2 * step)
        assert (gradient * direction).sum().item() == pytest.approx(numeric, rel=1e-5, abs=1e-8)
