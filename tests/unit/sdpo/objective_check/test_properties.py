"""What holds for every objective on drawn inputs: the checks of ``sdpo check-objective``, splits, and scale."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sdpo.cli import main
from sdpo.objective_check.command import cases, failures
from sdpo.objective_check.properties import CHECKS, Draw, gradients, leaves, pairs, rows
from sdpo.objectives import Objective, PairPrediction, create, load, names
from sdpo.training.gradients import accumulate_gradients

pytestmark = pytest.mark.slow

# Whatever is there, and hyperparameters away from their defaults.
CASES = [(name, case) for name in names() for case in cases(load(name).Parameters)]
CASES += [
    ("dmpo", {"beta": 20.0, "alpha": 0.05}),
    ("diffusion_kto", {"beta": 20.0, "liked_weight": 0.8}),
    ("chi_po", {"beta": 20.0, "values": 4.0}),
    ("mapo", {"beta": 20.0, "timesteps": 20}),
    ("bdpo", {"beta": 20.0, "mix": 0.5, "error_scale": 10.0}),
]
IDS = ["-".join([name, *map(str, case.values())]) for name, case in CASES]
every = pytest.mark.parametrize(("name", "case"), CASES, ids=IDS)
with_loser = pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name, case in CASES if load(name).HAS_LOSER],
    ids=[i for i, (name, _) in zip(IDS, CASES, strict=True) if load(name).HAS_LOSER],
)
SEEDS, SLACKS, GRANULARITIES = st.integers(0, 10**6), st.floats(0, 1), st.sampled_from(["microbatch", "sample"])
AGREEMENTS = st.floats(-2, 3)
SCALES = st.one_of(st.floats(0, 1), st.lists(st.floats(0, 1), min_size=4, max_size=4))
DRAWS = st.builds(Draw, seed=SEEDS, agreement=AGREEMENTS, scale=SCALES, order=st.permutations(range(4)))
few = settings(max_examples=12, deadline=None, derandomize=True)
fewer = settings(max_examples=6, deadline=None, derandomize=True)


def tensors(pair: PairPrediction) -> dict[str, torch.Tensor]:
    return {field.name: getattr(pair, field.name) for field in fields(pair)}


def made(name: str, case: dict[str, Any], mu: float, granularity: str) -> Objective:
    return create(name, safeguard={"mu": mu, "granularity": granularity}, **case)


@pytest.mark.parametrize("check", CHECKS)
@every
@few
@given(DRAWS)
def test_what_check_objective_checks_holds_for_any_draw(
    name: str, case: dict[str, Any], check: str, draw: Draw
) -> None:
    assert CHECKS[check](create(name, **case), draw) == ""


@every
def test_check_objective_finds_nothing(name: str, case: dict[str, Any]) -> None:
    assert failures(create(name, **case)) == []


@with_loser
@few
@given(DRAWS)
def test_no_scale_changes_a_metric_and_a_scale_of_one_no_gradient(name: str, case: dict[str, Any], draw: Draw) -> None:
    """In fp32, to the last bit: the same operations on the same values."""
    pair, objective = pairs(draw, dtype=torch.float32), create(name, **case)
    plain, scaled = objective(pair), objective(pair, scale=torch.tensor(draw.scale))
    assert torch.equal(plain.loss, scaled.loss)
    assert all(torch.equal(x, scaled.metrics[key]) for key, x in plain.metrics.items() if "safe_scale" not in key)
    one = gradients(objective, pair, scale=torch.tensor(1.0))
    for before, after in zip(gradients(objective, pair), one, strict=True):
        assert torch.equal(before, after)


@with_loser
@few
@given(DRAWS, SLACKS, GRANULARITIES)
def test_gradients_under_the_safeguard_follow_the_order_of_the_pairs(
    name: str, case: dict[str, Any], draw: Draw, mu: float, granularity: str
) -> None:
    pair, objective, order = pairs(draw), made(name, case, mu, granularity), list(draw.order)
    expected = [gradient[order] for gradient in gradients(objective, pair)]
    torch.testing.assert_close(gradients(objective, rows(pair, order)), expected, rtol=1e-10, atol=1e-14)


@with_loser
@few
@given(SEEDS, AGREEMENTS, SLACKS)
def test_one_pair_has_one_scale(name: str, case: dict[str, Any], seed: int, agreement: float, mu: float) -> None:
    pair = pairs(Draw(seed, agreement), batch=1)
    shared, own = (made(name, case, mu, granularity) for granularity in ("microbatch", "sample"))
    torch.testing.assert_close(gradients(own, pair), gradients(shared, pair), rtol=1e-12, atol=1e-16)


@with_loser
@fewer
@given(SEEDS, AGREEMENTS, SLACKS, st.sets(st.integers(1, 5), min_size=1, max_size=5))
def test_global_scale_does_not_know_how_the_pairs_are_split(
    name: str, case: dict[str, Any], seed: int, agreement: float, mu: float, cuts: set[int]
) -> None:
    """The gradient by a matrix that both branches share is that of the batch as a whole."""
    whole = pairs(Draw(seed, agreement), batch=6)
    generator = torch.Generator().manual_seed(seed)
    inputs = [torch.randn(6, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2)]
    matrix = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    fixed = [x.detach() for x in leaves(whole)]

    def part(first: int, last: int) -> PairPrediction:
        winner, loser = (x[first:last] + y[first:last] @ matrix for x, y in zip(fixed, inputs, strict=True))
        return replace(rows(whole, slice(first, last)), policy_winner=winner, policy_loser=loser)

    objective = made(name, case, mu, "global")
    (expected,) = torch.autograd.grad(objective(part(0, 6)).loss, matrix)
    ends = sorted({0, 6, *cuts})
    parts = [lambda a=a, b=b: part(a, b) for a, b in pairwise(ends)]
    accumulate_gradients(objective, parts, [matrix], pairs=6)
    assert matrix.grad is not None
    torch.testing.assert_close(matrix.grad, expected, rtol=1e-9, atol=1e-13)


@with_loser
@few
@given(SEEDS, AGREEMENTS, SLACKS, GRANULARITIES, st.floats(-30, 30))
def test_scale_does_not_depend_on_the_size_of_the_residuals(
    name: str, case: dict[str, Any], seed: int, agreement: float, mu: float, granularity: str, exponent: float
) -> None:
    pair, objective = pairs(Draw(seed, agreement)), made(name, case, mu, granularity)
    factor = 10.0**exponent
    larger = PairPrediction(**{key: x if key == "time" else factor * x for key, x in tensors(pair).items()})
    found, expected = (objective.scale(objective.errors(x)) for x in (larger, pair))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("diffusion_dpo", {}),
        ("dspo", {"form": "sdxl"}),
        ("dmpo", {"alpha": 0.05}),
        ("diffusion_kto", {"liked_weight": 0.8}),
        ("diffusion_kto", {"utility": "loss_averse"}),
        ("diffusion_kto", {"utility": "risk_seeking"}),
    ],
)
@few
@given(SEEDS, AGREEMENTS, st.floats(-2, 2))
def test_errors_that_grow_are_a_larger_beta(
    name: str, extra: dict[str, Any], seed: int, agreement: float, exponent: float
) -> None:
    """The logistic loss, DSPO's form `sdxl`, DMPO and KTO see β times errors: c times the predictions are c²·β."""
    pair, factor = pairs(Draw(seed, agreement)), 10.0**exponent
    larger = PairPrediction(**{key: x if key == "time" else factor * x for key, x in tensors(pair).items()})
    beta = 0.5
    if extra.get("form") == "sdxl" and exponent > 0:
        return  # a shift that has grown is another loss
    found, expected = create(name, beta=beta, **extra)(larger), create(name, beta=beta * factor**2, **extra)(pair)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-8, atol=1e-14)


@with_loser
@fewer
@given(SEEDS, AGREEMENTS, SLACKS, GRANULARITIES)
def test_the_loser_s_gradient_is_that_of_the_loss_times_the_scale(
    name: str, case: dict[str, Any], seed: int, agreement: float, mu: float, granularity: str
) -> None:
    pair, objective = pairs(Draw(seed, agreement)), made(name, case, mu, granularity)
    scale = objective.scale(objective.errors(pair)).reshape(-1, 1, 1)
    (winner, loser), (whole_winner, whole_loser) = (gradients(o, pair) for o in (objective, create(name, **case)))
    torch.testing.assert_close(winner, whole_winner, rtol=1e-12, atol=1e-16)
    torch.testing.assert_close(loser, scale * whole_loser, rtol=1e-12, atol=1e-16)


PLUG_IN = """
import torch
from pydantic import BaseModel, Field, field_validator

HAS_LOSER = True

class Parameters(BaseModel):
    beta: float = Field(gt=0, description="β > 0.")
    sign: bool = Field(default=False, description="Another form.")

def loss(errors, parameters):
    return -torch.nn.functional.logsigmoid(errors.logit(parameters.beta))
"""
LOSS = "-torch.nn.functional.logsigmoid(errors.logit(parameters.beta))"
WEIGHTS = """def weights(errors, parameters):
    half = 0.5 * parameters.beta * torch.sigmoid(-errors.logit(parameters.beta))
    return {}

def loss("""


@pytest.fixture
def checked(plug_in: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Exit status and lines of ``sdpo check-objective`` on the plug-in with a piece replaced."""

    def check(old: str = "", new: str = "", *more: str) -> tuple[int, list[str]]:
        assert old in PLUG_IN
        plug_in("sdpo.objectives", "odd", PLUG_IN.replace(old, new) if old else PLUG_IN)
        status = main(["check-objective", "odd", *more])
        shown = capsys.readouterr()
        return status, (shown.out + shown.err).splitlines()

    return check


def test_a_plug_in_that_is_right_passes(checked: Callable[..., tuple[int, list[str]]]) -> None:
    assert checked() == (0, ['odd {"beta": 20.0}: ok', 'odd {"beta": 20.0, "sign": true}: ok'])


def test_built_in_objectives_and_given_hyperparameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-objective", "dmpo", "--parameters", '{"beta": 7, "alpha": 0.2}']) == 0
    assert capsys.readouterr().out == 'dmpo {"beta": 7, "alpha": 0.2}: ok\n'


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (LOSS, "errors.margin.mean()", "one finite loss a pair: objective 'odd': loss has shape (), expected (4,)"),
        (LOSS, "errors.margin.detach()", "one finite loss a pair: objective 'odd': loss carries no gradient"),
        (LOSS, "errors.margins", "one finite loss a pair: objective 'odd': loss fails: AttributeError: "),
        (
            LOSS,
            "errors.margin.abs().sqrt()",
            "one finite loss a pair: the gradient is not finite in float64 where policy",
        ),
        (LOSS, "errors.margin.log()", "one finite loss a pair: the loss is not finite in float64"),
        (LOSS, "errors.margin * torch.rand(())", "the same again: the same pairs have another loss the second time"),
        (LOSS, "errors.margin * torch.arange(len(errors.margin))", "order of the pairs: pairs in another order have"),
        (LOSS, "errors.margin - errors.margin.mean()", "pairs alone: a pair alone has another loss than among others"),
        (LOSS, "errors.margin.mean().expand(4)", "pairs alone: "),
        (LOSS, "errors.margin * errors.margin.detach()", "finite differences: the gradient by the winner's prediction"),
        (
            LOSS,
            "errors.policy_winner + errors.policy_loser.detach()",
            "finite differences: the gradient by the loser's",
        ),
        (
            LOSS,
            "errors.policy_winner",
            "loser: no gradient reaches the loser's prediction at any of 14 inputs; say HAS_L",
        ),
        (LOSS, "-errors.policy_loser", "loser: no gradient reaches the winner's prediction at any of 14 inputs"),
        ("HAS_LOSER = True", "HAS_LOSER = False", "says HAS_LOSER = False, and its loss asks for the loser: "),
        (
            "HAS_LOSER = True",
            "HAS_LOSER = True\nUSES_REFERENCE = False",
            "says USES_REFERENCE = False, and its loss or gradient is another one with another reference",
        ),
        (
            LOSS,
            LOSS.replace("errors.logit", "-errors.logit"),
            "direction: a_w is -5 where policy and reference are equal: the winner's error is raised",
        ),
        (
            LOSS,
            "-torch.nn.functional.logsigmoid(errors.logit(parameters.beta)) - 20 * errors.policy_winner.detach()"
            " + 0 * errors.margin - 20 * errors.policy_loser + 30 * errors.policy_loser",
            "direction: a_l is -5 where policy and reference are equal: the loser's error is lowered",
        ),
        (
            LOSS,
            "-torch.nn.functional.logsigmoid(10 * (errors.loser_residual.square().mean((1, 2)) - errors.reference_loser"
            " - errors.winner_residual.square().mean((1, 2)) + errors.reference_winner))",
            "weights: objective 'odd': loss carries no gradient: it is detached, or uses none of the policy's errors, "
            "residuals and shifts; or gradients reach the predictions, and none by the errors: then define weights(",
        ),
        (
            LOSS,
            LOSS + " + 3 * errors.winner_residual.square().mean((1, 2))",
            "along the residual: it passes by the errors, so define weights(errors, parameters)",
        ),
        ("def loss(", WEIGHTS.format("half, 10 * half"), "weights: a_l of a pair is 42.1"),
        ("def loss(", WEIGHTS.format("half, -half"), "weights: a_l of a pair is -"),
        ("def loss(", WEIGHTS.format("20 / 2 - half, 20 / 2 - half"), "weights: a_w of a pair is "),
        (
            "def loss(",
            WEIGHTS.format("half[:, None], half"),
            "weights: objective 'odd': weights' a_w has shape (4, 1), expected (4,): one value a pair",
        ),
        ("def loss(", WEIGHTS.format("half, half.mean()"), "weights: objective 'odd': weights' a_l has shape (), exp"),
        (
            "def loss(",
            WEIGHTS.format("half, 1.0"),
            "weights: objective 'odd': weights' a_l has type float, expected (4",
        ),
        ("def loss(", WEIGHTS.format("[half]"), "weights: objective 'odd': weights returns list, expected two tensors"),
        ("def loss(", WEIGHTS.format("half, errors.halves"), "weights: objective 'odd': weights fails: AttributeError"),
        (
            LOSS,
            LOSS.replace("errors.logit", "errors.known_time * errors.logit"),
            "time: asks for what a base that is no flow does not have: the pair has no time: ",
        ),
        (', description="Another form."', "", "hyperparameters: Parameters.sign has no description"),
        (
            "def loss(",
            "    @field_validator('beta', mode='before')\n    def _b(cls, value): return float(value)\n\ndef loss(",
            'hyperparameters: Parameters takes {"beta": "20.0"}',
        ),
        (
            "(errors, parameters)",
            "(errors)",
            "error: objective 'odd' of package their-odd, entry point plug_in_0_odd: ",
        ),
        ("HAS_LOSER = True", "import nothing_of_the_kind", "cannot be imported: ModuleNotFoundError: "),
        (
            "gt=0",
            "gt=100",
            "error: objective 'odd': beta has no default, and none of the values tried fits it; give --p",
        ),
    ],
)
def test_each_mistake_has_a_line_of_its_own(
    checked: Callable[..., tuple[int, list[str]]], old: str, new: str, line: str
) -> None:
    status, lines = checked(old, new)
    assert status in (1, 2)
    assert any(line in found for found in lines), lines
    assert not any("Traceback" in found for found in lines)


def test_weights_that_are_right_pass(checked: Callable[..., tuple[int, list[str]]]) -> None:
    assert checked("def loss(", WEIGHTS.format("half, half"))[0] == 0


def test_weights_leave_out_what_pulls_along_the_shift(checked: Callable[..., tuple[int, list[str]]]) -> None:
    anchored = f"{LOSS} + 3 * errors.winner_shift.square().mean((1, 2))"
    assert checked(PLUG_IN[PLUG_IN.index("def loss") :], WEIGHTS.format("half, half")[: -len("def loss(")]
                   + f"def loss(errors, parameters):\n    return {anchored}\n")[0] == 0  # fmt: skip


@pytest.mark.parametrize("says", ["", "STARTS_BACKWARDS = True\n"])
def test_a_start_that_is_backwards_on_purpose_is_believed(
    checked: Callable[..., tuple[int, list[str]]], says: str
) -> None:
    backwards = "def loss(errors, parameters):\n    return errors.margin\n"
    status, lines = checked(PLUG_IN[PLUG_IN.index("def loss") :], f"{says}{backwards}")
    assert status == (0 if says else 1)
    assert any("direction: a_w is -1 where policy" in line for line in lines) == (not says)


def test_what_a_module_declares_is_believed(checked: Callable[..., tuple[int, list[str]]]) -> None:
    status, lines = checked(
        PLUG_IN[PLUG_IN.index("def loss") :],
        "REDUCES = True\nSTOPS_GRADIENT = True\n"
        "def loss(errors, parameters):\n    return errors.margin * errors.margin.detach() - errors.margin.mean()\n",
    )
    assert (status, lines[0]) == (0, 'odd {"beta": 20.0}: ok')
