"""Objectives: values by hand, the published rule written out a second time, the safeguard's effect, bad input."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from artifacts.errors import InputError
from sdpo.objectives import PairPrediction, create, dmpo, load, pair_weights
from sdpo.safeguard import Safeguard, safe_scale
from sdpo.training.gradients import accumulate_gradients

ROOT = Path(__file__).parents[4]
METRICS = {
    "winner_drift",
    "loser_drift",
    "margin",
    "implicit_accuracy",
    "safe_scale_mean",
    "safe_scale_min",
    "residual_cosine",
    "safe_scale",
}
HOSTS: list[tuple[str, dict[str, Any]]] = [
    ("diffusion_dpo", {}),
    ("dspo", {"form": "sd15"}),
    ("dspo", {"form": "sdxl"}),
    ("dmpo", {"alpha": 0.01}),
]
hosts = pytest.mark.parametrize(("name", "extra"), HOSTS, ids=["diffusion_dpo", "dspo-sd15", "dspo-sdxl", "dmpo"])
ALL: list[tuple[str, dict[str, Any]]] = [
    *HOSTS,
    ("diffusion_dpo", {"loss_type": "hinge"}),
    ("diffusion_dpo", {"loss_type": "ipo"}),
    ("diffusion_kto", {"liked_weight": 0.8}),
    ("diffusion_kto", {"utility": "loss_averse"}),
    ("diffusion_kto", {"utility": "risk_seeking"}),
    ("mapo", {}),
    ("linear_dpo", {"eta": 0.01}),
    ("anchored_dpo", {"anchor": "winner", "weight": 0.5}),
    ("anchored_dpo", {"anchor": "reference", "weight": 0.5}),
    ("anchored_dpo", {"anchor": "reference_square", "weight": 5.0}),
    ("chi_po", {"values": 3.0}),
    ("thermo_dpo", {"form": "winner_weighted"}),
    ("thermo_dpo", {"form": "plain"}),
    ("poly_dpo", {"alpha": 8.0}),
    ("bdpo", {"error_scale": 50.0}),
]
every = pytest.mark.parametrize(("name", "extra"), ALL, ids=[f"{n}-{'-'.join(map(str, e.values()))}" for n, e in ALL])


def prediction(
    seed: int = 0,
    *,
    batch: int = 3,
    shape: tuple[int, ...] = (4, 4, 2),
    shift: float = 0.02,
    agreement: float = 1.5,
    dtype: torch.dtype = torch.float64,
) -> PairPrediction:
    """A batch whose loser residuals are ``agreement`` times the winners' plus noise; policy tensors are leaves."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> torch.Tensor:
        return torch.randn(batch, *shape, generator=generator, dtype=torch.float64)

    target_winner, target_loser, residual = normal(), normal(), 0.3 * normal()
    policy_winner = target_winner + residual
    policy_loser = target_loser + agreement * residual + 0.1 * normal()
    reference_winner, reference_loser = policy_winner + shift * normal(), policy_loser + shift * normal()
    tensors = (policy_winner, policy_loser, reference_winner, reference_loser, target_winner, target_loser)
    time = torch.rand(batch, generator=generator, dtype=torch.float64)
    pair = PairPrediction(*(x.to(dtype) for x in (*tensors, time)))
    assert pair.policy_loser is not None
    pair.policy_winner.requires_grad_()
    pair.policy_loser.requires_grad_()
    return pair


def tensors_of(pair: PairPrediction) -> dict[str, torch.Tensor]:
    """The tensors that a pair has, by name."""
    return {f.name: value for f in fields(pair) if (value := getattr(pair, f.name)) is not None}


def numbers(winner: float, loser: float, reference_winner: float, reference_loser: float) -> PairPrediction:
    """One pair of one value with these residuals (targets 0), so that L = residual²."""
    values = (torch.tensor([[x]]) for x in (winner, loser, reference_winner, reference_loser, 0.0, 0.0))
    return PairPrediction(*values)


def gradients(loss: torch.Tensor, pair: PairPrediction) -> list[torch.Tensor]:
    assert pair.policy_loser is not None
    found = torch.autograd.grad(loss, [pair.policy_winner, pair.policy_loser], allow_unused=True)
    return [torch.zeros_like(pair.policy_winner) if g is None else g for g in found]


def published(name: str, pair: PairPrediction, beta: float, mu: float | None, **extra: Any) -> torch.Tensor:
    """The published micro-batch rule and losses: winners stacked on losers, λ by autograd at the output."""
    pairs = len(pair.policy_winner)
    tensors = tensors_of(pair)
    policy, reference, target = (
        torch.cat([tensors[f"{side}_winner"], tensors[f"{side}_loser"]]) for side in ("policy", "reference", "target")
    )
    scale: Any = 1.0
    if mu is not None:
        output = policy.detach().clone().requires_grad_()
        a = torch.mean((output[:pairs] - target[:pairs]) ** 2)
        b = torch.mean((output[pairs:] - target[pairs:]) ** 2)
        # both gradients have the shape of the stack and are zero in the other half; they are compared pair by pair
        g_a = torch.autograd.grad(a, output)[0][:pairs]
        g_b = torch.autograd.grad(b, output)[0][pairs:]
        dot = float((g_a * g_b).sum())
        scale = min(1.0, max(0.0, (1 - mu) * float((g_a**2).sum()) / (dot + 1e-9))) if dot > 0 else 1.0
    losses = []
    for i in range(pairs):
        w, l_ = i, pairs + i
        error_w = torch.mean((policy[w] - target[w]) ** 2)
        error_l = torch.mean((policy[l_] - target[l_]) ** 2)
        error_l = error_l.detach() + scale * (error_l - error_l.detach())
        base = torch.mean((reference[w] - target[w]) ** 2) - torch.mean((reference[l_] - target[l_]) ** 2)
        u = -0.5 * beta * ((error_w - error_l) - base)
        p = 1 / (1 + torch.exp(-u))
        moved = policy[w] - reference[w]
        if name == "diffusion_dpo":
            losses.append(torch.log1p(torch.exp(-u)))
        elif name == "dmpo":
            q = 1 - extra["alpha"]
            losses.append(p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q)))
        elif extra["form"] == "sd15":
            losses.append(torch.mean(((policy[w] - target[w]) - beta * (1 - p) * moved) ** 2))
        elif torch.mean((policy[:pairs] - reference[:pairs]) ** 2) >= 0.1:
            losses.append(torch.mean(((1 - p) * moved) ** 2))
        else:
            losses.append((1 - p) ** 2)
    return torch.stack(losses).mean()


@hosts
@pytest.mark.parametrize("beta", [1e-3, 1.0, 100.0, 5000.0])
@pytest.mark.parametrize("mu", [None, 0.0, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("agreement", [1.5, -1.0])
def test_published_rule(name: str, extra: dict[str, Any], beta: float, mu: float | None, agreement: float) -> None:
    pair = prediction(agreement=agreement, shift=0.005)
    safeguard = None if mu is None else {"mu": mu}
    ours = create(name, beta=beta, safeguard=safeguard, **extra)(pair)
    theirs = published(name, pair, beta, mu, **extra)
    torch.testing.assert_close(ours.loss, theirs, rtol=1e-5, atol=0)
    for ours_, theirs_ in zip(gradients(ours.loss, pair), gradients(theirs, pair), strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-5, atol=1e-5 * float(theirs_.abs().max()))


@hosts
@pytest.mark.parametrize("mu", [None, 0.0, 0.2, 0.9, 1.0])
@pytest.mark.parametrize("beta", [1e-3, 20.0, 5000.0])
def test_published_rule_in_fp32(name: str, extra: dict[str, Any], beta: float, mu: float | None) -> None:
    """fp32 predictions, judged by the same rule in fp64: β multiplies what errors in fp32 would have lost."""
    agrees_in_fp32(prediction(dtype=torch.float32, shift=0.005), name, extra, beta, mu)


@hosts
@pytest.mark.parametrize("mu", [None, 0.9])
@pytest.mark.parametrize(("batch", "shape"), [(4, (16,)), (2, (4, 32, 32)), (1, (1,))])
def test_published_rule_in_fp32_on_other_shapes(
    name: str, extra: dict[str, Any], batch: int, shape: tuple[int, ...], mu: float | None
) -> None:
    """Rounding of residuals averages out over many values only; here over 1, 16 and 4096."""
    for seed in range(8):
        pair = prediction(seed, batch=batch, shape=shape, dtype=torch.float32, shift=0.002)
        agrees_in_fp32(pair, name, extra, 5000.0, mu)


def agrees_in_fp32(pair: PairPrediction, name: str, extra: dict[str, Any], beta: float, mu: float | None) -> None:
    exact = PairPrediction(**{name: x.detach().double() for name, x in tensors_of(pair).items()})
    assert exact.policy_loser is not None
    exact.policy_winner.requires_grad_()
    exact.policy_loser.requires_grad_()
    ours = create(name, beta=beta, safeguard=None if mu is None else {"mu": mu}, **extra)(pair)
    theirs = published(name, exact, beta, mu, **extra)
    assert ours.loss.dtype == torch.float32
    assert ours.loss.item() == pytest.approx(theirs.item(), rel=1e-5)
    for ours_, theirs_ in zip(gradients(ours.loss, pair), gradients(theirs, exact), strict=True):
        torch.testing.assert_close(ours_.double(), theirs_, rtol=1e-5, atol=1e-5 * float(theirs_.abs().max()))


@pytest.mark.parametrize("mu", [None, 0.9])
def test_published_rule_for_sdxl_dspo_far_from_the_reference(mu: float | None) -> None:
    pair = prediction(shift=0.5)
    ours = create("dspo", beta=1.0, form="sdxl", safeguard=None if mu is None else {"mu": mu})(pair)
    theirs = published("dspo", pair, 1.0, mu, form="sdxl")
    torch.testing.assert_close(ours.loss, theirs, rtol=1e-5, atol=0)
    for ours_, theirs_ in zip(gradients(ours.loss, pair), gradients(theirs, pair), strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-5, atol=1e-5 * float(theirs_.abs().max()))


@pytest.mark.parametrize(
    ("name", "extra", "expected"),
    [
        ("diffusion_dpo", {"beta": 5000.0}, math.log(2)),
        ("dmpo", {"beta": 2000.0}, 1.6145),
        ("dspo", {"beta": 5000.0, "form": "sdxl"}, 0.25),
        ("dspo", {"beta": 5000.0, "form": "sd15"}, 0.5**2),  # L_w
        ("sft", {}, 0.5**2),
    ],
)
def test_loss_where_policy_and_reference_agree(name: str, extra: dict[str, Any], expected: float) -> None:
    assert float(create(name, **extra)(numbers(0.5, 0.7, 0.5, 0.7)).loss) == pytest.approx(expected, abs=5e-5)


def test_loss_by_hand() -> None:
    # d_w = 0.25 - 0.16 = 0.09, d_l = 0.64 - 0.49 = 0.15, u = ½·20·0.06 = 0.6
    pair = numbers(0.5, 0.8, 0.4, 0.7)
    p = 1 / (1 + math.exp(-0.6))
    losses = {
        "diffusion_dpo": -math.log(p),
        "dmpo": p * math.log(p / 0.9) + (1 - p) * math.log((1 - p) / 0.1),
        "dspo": (0.5 - 20 * (1 - p) * 0.1) ** 2,
    }
    extra: dict[str, dict[str, Any]] = {"dmpo": {"alpha": 0.1}, "dspo": {"form": "sd15"}}
    for name, expected in losses.items():
        assert float(create(name, beta=20.0, **extra.get(name, {}))(pair).loss) == pytest.approx(expected, rel=1e-5)
    assert float(create("dspo", beta=20.0, form="sdxl")(pair).loss) == pytest.approx((1 - p) ** 2, rel=1e-5)


def dmpo_slope(u: float, alpha: float = 0.01) -> list[float]:
    """Loss and dloss/du, with the logit given directly."""
    logit = torch.tensor([u], requires_grad=True)
    errors: Any = SimpleNamespace(logit=lambda beta: logit)
    loss = dmpo.loss(errors, dmpo.Parameters(beta=1.0, alpha=alpha)).sum()
    return [float(loss.detach()), float(torch.autograd.grad(loss, logit)[0])]


def test_dmpo_slope() -> None:
    assert dmpo_slope(0.0) == [pytest.approx(1.6145, abs=5e-5), pytest.approx(-1.149, abs=5e-4)]
    target = math.log(0.99 / 0.01)
    assert dmpo_slope(target) == [pytest.approx(0, abs=1e-6), pytest.approx(0, abs=1e-6)]
    assert dmpo_slope(target + 1)[1] > 0 > dmpo_slope(target - 1)[1]
    slopes = {u / 10: dmpo_slope(u / 10)[1] for u in range(-30, 30)}
    steepest = min(slopes, key=lambda u: slopes[u])
    assert steepest == pytest.approx(-0.4, abs=0.11)
    assert slopes[steepest] == pytest.approx(-1.20, abs=5e-3)


@pytest.mark.parametrize(("u", "expected"), [(200.0, -math.log(0.99)), (-200.0, -math.log(0.01))])
def test_dmpo_is_finite_far_out(u: float, expected: float) -> None:
    assert dmpo_slope(u) == [pytest.approx(expected, rel=1e-5), pytest.approx(0, abs=1e-6)]


def test_dmpo_alpha_zero_is_the_clamped_target() -> None:
    assert dmpo_slope(0.0, alpha=0.0)[0] == pytest.approx(math.log(0.5) - 0.5 * math.log(1e-6), rel=1e-5)


def test_dmpo_beyond_its_target_is_pulled_back_and_still_scaled() -> None:
    """The reference code scales the loser there too; the winner's error is pushed up, the loser's down."""
    pair = prediction(shift=0.0)
    assert pair.target_loser is not None
    pair = replace(pair, reference_loser=pair.target_loser.clone())  # R_l = 0: d_w = 0, d_l = L_l > 0
    beta = 16.0 / float(create("dmpo", beta=1.0)(pair).metrics["margin"])  # u = 8 on average
    plain = create("dmpo", beta=beta)(pair)
    guarded = create("dmpo", beta=beta, safeguard={"mu": 0.9})(pair)
    scale = guarded.metrics["safe_scale"]
    assert 0 < scale < 0.2
    winner, loser = gradients(plain.loss, pair)
    assert float((winner * (pair.policy_winner - pair.target_winner).detach()).sum()) < 0
    torch.testing.assert_close(gradients(guarded.loss, pair), [winner, scale * loser])


@every
@pytest.mark.parametrize("granularity", ["microbatch", "sample"])
def test_only_the_losers_gradient_changes_and_by_the_scale(name: str, extra: dict[str, Any], granularity: str) -> None:
    pair = prediction(dtype=torch.float32)
    plain = create(name, beta=20.0, **extra)(pair)
    guarded = create(name, beta=20.0, safeguard={"mu": 0.8, "granularity": granularity}, **extra)(pair)
    assert guarded.loss.item() == plain.loss.item()
    scale = guarded.metrics["safe_scale"]
    assert pair.policy_loser is not None and pair.target_loser is not None
    expected = safe_scale(
        pair.policy_winner - pair.target_winner,
        pair.policy_loser - pair.target_loser,
        mu=0.8,
        granularity="sample" if granularity == "sample" else "microbatch",
    )
    assert torch.equal(scale, expected) and bool((scale < 0.3).all())
    (winner, loser), (winner_guarded, loser_guarded) = gradients(plain.loss, pair), gradients(guarded.loss, pair)
    assert torch.equal(winner_guarded, winner)
    assert float(loser.abs().max()) > 0
    torch.testing.assert_close(loser_guarded, scale.reshape(-1, 1, 1, 1) * loser, rtol=1e-5, atol=0)


@every
@pytest.mark.parametrize("weights", ["none", "objective"])
def test_global_scale_of_one_micro_batch_is_its_own(name: str, extra: dict[str, Any], weights: str) -> None:
    """Scaling all that comes through the loser's prediction, and scaling within the loss, are one."""
    pair = prediction(agreement=2.0)
    guard = {"mu": 0.8, "weights": weights}
    parameters = {"beta": 20.0, **extra}
    expected = gradients(create(name, safeguard=guard, **parameters)(pair).loss, pair)
    assert pair.policy_loser is not None
    leaves = [pair.policy_winner, pair.policy_loser]

    def predicted() -> PairPrediction:
        return replace(pair, policy_winner=leaves[0].clone(), policy_loser=leaves[1].clone())

    joint = create(name, safeguard={**guard, "granularity": "global"}, **parameters)
    _, scale = accumulate_gradients(joint, [predicted], leaves, pairs=3)
    assert 0 < float(scale) <= 1 and (float(scale) < 1 or weights == "objective")
    torch.testing.assert_close([x.grad for x in leaves], expected, rtol=1e-9, atol=1e-14)


@every
def test_a_scale_of_one_is_no_safeguard_to_the_bit(name: str, extra: dict[str, Any]) -> None:
    pair = prediction(dtype=torch.float32, agreement=-1.0)
    plain = create(name, beta=20.0, **extra)(pair)
    guarded = create(name, beta=20.0, safeguard={"mu": 0.9}, **extra)(pair)
    assert guarded.metrics["safe_scale"] == 1.0
    for before, after in zip(gradients(plain.loss, pair), gradients(guarded.loss, pair), strict=True):
        assert torch.equal(before, after)


def test_loser_off_leaves_a_quarter_beta_of_the_winners_gradient() -> None:
    pair = prediction(shift=0.0)
    out = create("diffusion_dpo", beta=8.0, safeguard={"mu": 1.0})(pair)
    winner, loser = gradients(out.loss, pair)
    residual = (pair.policy_winner - pair.target_winner).detach()
    torch.testing.assert_close(winner, 0.25 * 8.0 * 2 * residual / residual.numel())
    assert torch.equal(loser, torch.zeros_like(loser))


def test_no_gradient_reaches_reference_or_target() -> None:
    pair = prediction()
    given = {f.name: getattr(pair, f.name) for f in fields(PairPrediction) if getattr(pair, f.name) is not None}
    tensors = {name: tensor.detach().requires_grad_() for name, tensor in given.items()}
    create("dspo", beta=1.0, safeguard={"mu": 0.5})(PairPrediction(**tensors)).loss.backward()  # type: ignore[no-untyped-call]
    assert {n for n, x in tensors.items() if x.grad is not None} == {"policy_winner", "policy_loser"}


def test_metrics_by_hand() -> None:
    column = torch.tensor([[1.0], [1.0], [2.0], [0.5]])
    pair = PairPrediction(
        policy_winner=column,
        policy_loser=torch.tensor([[2.0], [1.0], [-1.0], [1.0]]),
        reference_winner=torch.tensor([[2.0], [1.0], [1.0], [0.5]]),
        reference_loser=torch.tensor([[1.0], [1.0], [1.0], [2.0]]),
        target_winner=torch.zeros(4, 1),
        target_loser=torch.zeros(4, 1),
    )
    metrics = create("diffusion_dpo", beta=1.0, safeguard={"mu": 0.5, "granularity": "sample"})(pair).metrics
    # d_w = -3, 0, 3, 0; d_l = 3, 0, 0, -3; margins 6, 0, -3, -3
    assert set(metrics) == METRICS
    assert metrics["winner_drift"] == 0.0
    assert metrics["loser_drift"] == 0.0
    assert metrics["margin"] == 0.0
    assert metrics["implicit_accuracy"] == pytest.approx((1 + 0.5) / 4)
    # products 2, 1, -2, 0.5; squares of the winner 6.25, of the loser 7
    assert metrics["residual_cosine"] == pytest.approx(1.5 / math.sqrt(6.25 * 7))
    assert metrics["safe_scale"].tolist() == pytest.approx([0.25, 0.5, 1.0, 0.25])
    assert metrics["safe_scale_mean"] == pytest.approx(0.5) and metrics["safe_scale_min"] == pytest.approx(0.25)


def test_metrics_average_over_pairs() -> None:
    metrics = create("diffusion_dpo", beta=1.0)(numbers(0.5, 0.8, 0.4, 0.6)).metrics
    assert metrics["winner_drift"] == pytest.approx(0.09)
    assert metrics["loser_drift"] == pytest.approx(0.28)
    assert metrics["margin"] == pytest.approx(0.19)
    assert metrics["implicit_accuracy"] == 1.0
    assert all(metrics[x] == 1.0 for x in ("safe_scale", "safe_scale_mean", "safe_scale_min"))
    assert all(x.ndim == 0 and not x.requires_grad for x in metrics.values())


def test_sft_reports_losers_but_does_not_train_on_them() -> None:
    pair = prediction()
    out = create("sft")(pair)
    _, loser = gradients(out.loss, pair)
    assert torch.equal(loser, torch.zeros_like(loser))
    assert set(out.metrics) == METRICS
    assert out.metrics["loser_drift"] == create("diffusion_dpo", beta=1.0)(pair).metrics["loser_drift"]
    alone = create("sft")(replace(pair, policy_loser=None, reference_loser=None, target_loser=None))
    assert alone.loss == out.loss
    assert set(alone.metrics) == METRICS - {"loser_drift", "margin", "implicit_accuracy", "residual_cosine"}


def test_bf16_predictions_are_compared_in_fp32() -> None:
    pair = prediction(dtype=torch.bfloat16)
    exact = PairPrediction(**{name: x.float() for name, x in tensors_of(pair).items()})
    objective = create("diffusion_dpo", beta=5000.0)
    assert objective(pair).loss.dtype == torch.float32
    assert objective(pair).loss == objective(exact).loss


def test_safeguard_given_as_model_or_mapping() -> None:
    assert create("dmpo", beta=1, safeguard=Safeguard(mu=0.5)) == create("dmpo", beta=1, safeguard={"mu": 0.5})


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("diffusion_dp", {}, "unknown objective 'diffusion_dp'.*did you mean 'diffusion_dpo'"),
        ("pair", {}, "unknown objective 'pair'"),
        ("dmpo", {"beta": 0.0}, "objective 'dmpo': beta = 0.0: .*greater than 0"),
        ("dmpo", {"beta": math.inf}, "beta = Infinity: expected a finite number"),
        ("dmpo", {"beta": math.nan}, "beta = NaN: expected a "),
        ("dmpo", {}, "objective 'dmpo': beta: missing: β > 0, for errors averaged"),
        ("dmpo", {"beta": "5000"}, 'beta = "5000": expected a number'),
        ("dmpo", {"beta": True}, "beta = true: expected a number"),
        ("mapo", {"timesteps": 1000.5}, "timesteps = 1000.5: expected an integer"),
        (
            "dmpo",
            {"beta": 1, "safeguard": {"mu": "0.9"}},
            "safeguard of objective 'dmpo': mu = \"0.9\": expected a number",
        ),
        ("dmpo", {"beta": 1.0, "alpha": 0.5}, "alpha = 0.5: .*less than 0.5"),
        ("dmpo", {"beta": 1.0, "alfa": 0.1}, "alfa: unknown key: expected one of beta, alpha.*'alpha'"),
        ("dmpo", {"beta": -1.0, "alpha": -1.0}, "beta = -1.0: .*; alpha = -1.0: "),
        ("dspo", {"beta": 1.0, "form": "sd1.5"}, 'form = "sd1.5": expected one of sd15, sdxl; did you mean'),
        ("sft", {"beta": 1.0}, "beta: unknown key: expected none, since there are none"),
        ("sft", {"safeguard": {"mu": 0.9}}, "objective 'sft': safeguard = {'mu': 0.9}: expected None.*no loser"),
        ("dmpo", {"beta": 1.0, "safeguard": {"mu": 1.1}}, "safeguard of objective 'dmpo': mu = 1.1"),
        ("dmpo", {"beta": 1.0, "safeguard": {}}, "safeguard of objective 'dmpo': mu: missing: Slack"),
        ("dmpo", {"beta": 1.0, "safeguard": {"mu": 0.5, "granularty": "sample"}}, "did you mean 'granularity'"),
        ("dmpo", {"beta": 1.0, "safeguard": 0.9}, "safeguard = 0.9: expected a mapping"),
    ],
)
def test_bad_arguments_are_named(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        create(name, **arguments)
    assert "\n" not in str(caught.value)


def test_bad_pairs_are_named() -> None:
    pair = prediction()
    with pytest.raises(ValueError, match="objective 'dmpo' needs losers"):
        create("dmpo", beta=1.0)(replace(pair, policy_loser=None, reference_loser=None, target_loser=None))
    with pytest.raises(ValueError, match="expected three tensors, or None"):
        replace(pair, target_loser=None)
    with pytest.raises(ValueError, match=r"reference_winner has shape \(1, 4, 4, 2\)"):
        replace(pair, reference_winner=pair.reference_winner[:1])


@pytest.mark.parametrize("field", [f.name for f in fields(PairPrediction) if f.name != "time"])
@pytest.mark.parametrize("safeguard", [None, {"mu": 0.5}, {"mu": 0.5, "granularity": "global"}])
def test_values_that_are_not_finite_are_named(field: str, safeguard: dict[str, Any] | None) -> None:
    """On every path: with the safeguard on and off, with a λ from outside, and over several micro-batches."""
    pair = prediction(dtype=torch.float32)
    values = getattr(pair, field).detach().clone()
    values[0, 1, 2, 0], values[2, 3, 3, 1], values[2, 3, 3, 0] = math.inf, math.nan, -math.inf
    bad = replace(pair, **{field: values.requires_grad_(field.startswith("policy"))})
    objective = create("diffusion_dpo", beta=1.0, safeguard=safeguard)
    message = rf"^{field} has 3 of 96 values that are not finite, the first inf: expected finite numbers$"
    with pytest.raises(ValueError, match=message):
        objective(bad)
    with pytest.raises(ValueError, match=message):
        objective(bad, scale=torch.tensor(0.5))
    if safeguard is not None:
        leaves = [x for x in (bad.policy_winner, bad.policy_loser) if x is not None]
        with pytest.raises(ValueError, match=message):
            accumulate_gradients(objective, [lambda: bad], leaves, pairs=3)


PLUG_IN = """
from pydantic import BaseModel, Field
HAS_LOSER = True
class Parameters(BaseModel):
    beta: float = Field(gt=0, description="β > 0.")
    steps: int = 3
def loss(errors, parameters):
    return -parameters.beta * errors.margin
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HAS_LOSER = True", "", "does not define HAS_LOSER"),
        ("HAS_LOSER = True", "HAS_LOSER = 'yes'", "HAS_LOSER is 'yes', expected a bool"),
        ("(BaseModel)", "", "Parameters is <class .*>, expected a pydantic model"),
        ("(errors, parameters)", "(errors)", r"loss\(errors\): too many positional arguments; it is called as loss\("),
        ("(errors, parameters)", "(errors, parameters, beta)", "missing a required argument: 'beta'"),
        ("def loss", "weights = 3\ndef loss", "weights is 3, expected a function"),
    ],
)
def test_a_plug_in_that_is_no_objective_is_refused(plug_in: Any, old: str, new: str, message: str) -> None:
    plug_in("sdpo.objectives", "odd", PLUG_IN.replace(old, new))
    with pytest.raises(InputError, match=message) as caught:
        load("odd")
    assert str(caught.value).startswith("objective 'odd'") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("(-parameters.beta * errors.margin).mean()", r"loss has shape \(\), expected \(3,\): one value a pair"),
        ("errors.winner_residual", r"loss has shape \(3, 4, 4, 2\), expected \(3,\)"),
        ("errors.margin[:, None]", r"loss has shape \(3, 1\), expected \(3,\)"),
        ("errors.margin.detach()", "loss carries no gradient: it is detached"),
        ("errors.reference_winner", "loss carries no gradient"),
        ("float(errors.margin.sum())", "loss returns float, expected a tensor"),
        ("None", "loss returns NoneType, expected a tensor"),
        ("errors.margins", r"loss fails: AttributeError: .*'margins' \(.*plug_in_0_odd\.py, line 8\)"),
        ("errors.margin @ errors.winner_residual", r"loss fails: RuntimeError: .*plug_in_0_odd\.py, line 8\)"),
    ],
)
@pytest.mark.parametrize("safeguard", [None, {"mu": 0.5}, {"mu": 0.5, "weights": "objective"}])
def test_a_loss_that_is_none_is_refused_in_one_line(
    plug_in: Any, returned: str, message: str, safeguard: dict[str, Any] | None
) -> None:
    plug_in("sdpo.objectives", "odd", PLUG_IN.replace("-parameters.beta * errors.margin", returned))
    objective = create("odd", beta=1.0, safeguard=safeguard)
    with pytest.raises(InputError, match=message) as caught:
        objective(prediction())
    assert str(caught.value).startswith("objective 'odd': ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"beta": "2000"}, 'beta = "2000": expected a number'),
        ({"beta": "big"}, 'beta = "big": expected a number'),
        ({"beta": math.inf}, "beta = Infinity: expected a finite number"),
        ({"beta": 1, "gamma": 2}, "gamma: unknown key: expected one of beta, steps"),
        ({"beta": 1, "steps": 2.0}, "steps = 2.0: expected an integer"),
        ({}, "beta: missing: β > 0."),
    ],
)
def test_parameters_of_a_plug_in_are_as_strict_as_the_built_in_ones(
    plug_in: Any, parameters: dict[str, Any], message: str
) -> None:
    plug_in("sdpo.objectives", "odd", PLUG_IN)
    with pytest.raises(InputError, match=message):
        create("odd", **parameters)


def test_names_and_parameters_do_not_import_torch() -> None:
    code = (
        "import sys, sdpo.objectives as o\n"
        "assert {'sft', 'diffusion_dpo', 'dspo', 'dmpo'} <= set(o.names()), o.names()\n"
        "assert 'sdpo.objectives.dmpo' not in sys.modules\n"
        "for name in o.names(): o.load(name).Parameters, o.load(name).HAS_LOSER\n"
        "o.create('dmpo', beta=1, safeguard={'mu': 0.5})\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def two_errors(winner: float, loser: float, reference_winner: float, reference_loser: float) -> PairPrediction:
    """One pair with these errors."""
    return numbers(*(math.sqrt(x) for x in (winner, loser, reference_winner, reference_loser)))


@pytest.mark.parametrize(
    ("name", "extra", "expected"),
    [
        ("diffusion_dpo", {"beta": 20.0, "loss_type": "hinge"}, 1.0),
        ("diffusion_dpo", {"beta": 20.0, "loss_type": "ipo"}, 1 / (4 * 20.0**2)),
        ("diffusion_kto", {"beta": 1000.0}, 0.5),
        ("diffusion_kto", {"beta": 1000.0, "utility": "loss_averse"}, 1 + math.log(2)),
        ("diffusion_kto", {"beta": 1000.0, "utility": "risk_seeking"}, 1 - math.log(2)),
        ("linear_dpo", {"beta": 100.0}, 0.5 * (0.3 - 0.4)),
    ],
)
def test_other_losses_where_policy_and_reference_agree(name: str, extra: dict[str, Any], expected: float) -> None:
    loss = create(name, **extra)(two_errors(0.3, 0.4, 0.3, 0.4)).loss
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_other_losses_by_hand() -> None:
    # L_w = 0.30, L_l = 0.50, R_w = 0.31, R_l = 0.48: d_w = -0.01, d_l = 0.02, margin x = 0.03
    pair = two_errors(0.30, 0.50, 0.31, 0.48)

    def sigma(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    def f(x: float) -> float:
        return 0.5 * x / math.expm1(0.5 * x)

    # Rewards 0.01 and -0.02: their mean is below 0, so the reference point is 0.
    kto = 0.5 * (2.0 * (1 - sigma(0.1)) + 3.0 * (1 - sigma(0.2)))
    expected: list[tuple[str, dict[str, Any], float]] = [
        ("diffusion_dpo", {"beta": 20.0, "loss_type": "hinge"}, 1 - 20 * 0.03),
        ("diffusion_dpo", {"beta": 50.0, "loss_type": "hinge"}, 0.0),
        ("diffusion_dpo", {"beta": 20.0, "loss_type": "ipo"}, (0.03 - 0.025) ** 2),
        ("diffusion_kto", {"beta": 10.0, "liked_weight": 2.0, "disliked_weight": 3.0}, kto),
        ("mapo", {"timesteps": 10}, 0.3 - 0.1 * math.log(sigma(10 * (f(0.3) - f(0.5))))),
        ("linear_dpo", {"beta": 50.0}, (0.5 - 0.2 * 50 * 0.03) * (0.3 - 0.5)),
        ("linear_dpo", {"beta": 1000.0, "eta": 0.05}, 0.05 * (0.3 - 0.5)),
    ]
    for name, extra, value in expected:
        assert float(create(name, **extra)(pair).loss) == pytest.approx(value, rel=2e-4, abs=1e-6), (name, extra)
    wrong = two_errors(0.50, 0.30, 0.30, 0.50)  # margin -0.4: the weight is cut at the top
    assert float(create("linear_dpo", beta=500.0, eta=0.1)(wrong).loss) == pytest.approx(0.9 * 0.2, rel=1e-4)
    assert float(create("linear_dpo", beta=500.0, largest_weight=1.0)(wrong).loss) == pytest.approx(0.2, rel=1e-4)


def test_a_largest_weight_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match=r"largest_weight is 0\.1, expected more than eta, which is 0\.2"):
        create("linear_dpo", beta=500.0, eta=0.2, largest_weight=0.1)


def test_reference_point_of_kto_is_the_mean_reward_where_positive() -> None:
    pair = two_errors(0.30, 0.40, 0.34, 0.42)  # rewards 0.04 and 0.02, mean 0.03
    expected = 0.5 * (1 - 1 / (1 + math.exp(-10 * 0.01)) + 1 - 1 / (1 + math.exp(-10 * 0.01)))
    assert float(create("diffusion_kto", beta=10.0)(pair).loss) == pytest.approx(expected, rel=1e-4)


def test_mapo_is_smooth_where_the_quotient_is_continued() -> None:
    from sdpo.objectives.mapo import bounded

    errors = torch.tensor(
        [0.0, 1e-12, 1e-6, 1.9e-4, 0.019, 0.021, 1.0, 300.0, 1600.0, 1e300], dtype=torch.float64, requires_grad=True
    )
    values = bounded(errors, 0.5)
    assert values[0] == 1.0 and values[6].item() == pytest.approx(0.5 / math.expm1(0.5), rel=1e-14)
    (slopes,) = torch.autograd.grad(values.sum(), errors)
    # f'(x) = ½·(−½ + y/6 − y³/180 + …) with y = x/2; it vanishes far out, where e^y is infinite.
    for error, slope in zip(errors[:6].tolist(), slopes[:6].tolist(), strict=True):
        y = error / 2
        assert slope == pytest.approx(0.5 * (-0.5 + y / 6 - y**3 / 180), rel=1e-11)
    assert slopes[6].item() == pytest.approx(0.5 * (math.expm1(0.5) - 0.5 * math.exp(0.5)) / math.expm1(0.5) ** 2)
    assert slopes[7:].tolist() == [pytest.approx(0, abs=1e-60), 0.0, 0.0]
    # A pair whose error is off the scale still learns from its first term.
    pair = numbers(40.0, 40.1, 40.0, 40.1)
    leaf = replace(pair, policy_winner=pair.policy_winner.clone().requires_grad_())
    (gradient,) = torch.autograd.grad(create("mapo")(leaf).loss, leaf.policy_winner)
    assert gradient.item() == pytest.approx(80.0)


@pytest.mark.parametrize("factor", [1e-30, 1e-20, 1.0, 1e15])
def test_cosine_of_residuals_does_not_underflow(factor: float) -> None:
    """Their squares leave the range of fp32."""
    column = torch.tensor([[3.0, 4.0]]) * factor
    turned = torch.tensor([[4.0, 3.0]]) * factor
    zero = torch.zeros(1, 2)
    pair = PairPrediction(column, turned, zero, zero, zero, zero)
    assert float(create("diffusion_dpo", beta=1.0)(pair).metrics["residual_cosine"]) == pytest.approx(24 / 25)
    still = replace(pair, policy_loser=zero)
    assert create("diffusion_dpo", beta=1.0)(still).metrics["residual_cosine"] == 0.0


@every
@pytest.mark.parametrize("mu", [None, 0.7])
def test_gradients_agree_with_finite_differences(name: str, extra: dict[str, Any], mu: float | None) -> None:
    """Of the loss with λ, the weights of Linear-DPO and the reference point of KTO held where they are."""
    pair = prediction(batch=2, shift=0.01)
    beta = {} if name == "mapo" else {"beta": 30.0}
    objective = create(name, safeguard=None if mu is None else {"mu": mu}, **beta, **extra)
    found = gradients(objective(pair).loss, pair)
    random = torch.Generator().manual_seed(1)
    assert pair.policy_loser is not None
    scale = float(objective.scale(objective.errors(pair)))
    for side, gradient, factor in (("policy_winner", found[0], 1.0), ("policy_loser", found[1], scale)):
        at = getattr(pair, side).detach()
        direction = torch.randn(at.shape, generator=random, dtype=torch.float64)
        step = 1e-6
        weights = objective.module.loss(objective.errors(pair), objective.parameters) if name == "linear_dpo" else None

        def value(
            offset: float,
            side: str = side,
            at: torch.Tensor = at,
            direction: torch.Tensor = direction,
            weights: torch.Tensor | None = weights,
        ) -> float:
            errors = objective.errors(replace(pair, **{side: at + offset * direction}))
            if weights is not None:
                before = objective.errors(pair)
                assert before.policy_loser is not None and errors.policy_loser is not None
                held = weights / (before.policy_winner - before.policy_loser)
                return (held * (errors.policy_winner - errors.policy_loser)).mean().item()
            return objective.module.loss(errors, objective.parameters).mean().item()

        numeric = (value(step) - value(-step)) / (2 * step)
        if name == "diffusion_kto":
            # The reference point moves with the errors in a difference; here it is at its floor of 0.
            errors = objective.errors(pair)
            assert (errors.winner_drift + errors.loser_drift).mean().item() > 0
        assert float((gradient * direction).sum()) == pytest.approx(factor * numeric, rel=1e-5, abs=1e-9)


@every
def test_order_of_pairs_does_not_matter(name: str, extra: dict[str, Any]) -> None:
    pair = prediction(batch=4)
    order = torch.tensor([2, 0, 3, 1])
    other = PairPrediction(**{name: x[order] for name, x in tensors_of(pair).items()})
    beta = {} if name == "mapo" else {"beta": 30.0}
    objective = create(name, safeguard={"mu": 0.7}, **beta, **extra)
    torch.testing.assert_close(objective(pair).loss, objective(other).loss)
    torch.testing.assert_close(objective(pair).metrics["safe_scale"], objective(other).metrics["safe_scale"])


@every
def test_weights_are_the_gradients_of_the_errors(name: str, extra: dict[str, Any]) -> None:
    """The loser's gradient at the output is −a_l·∇L_l, and the winner's a_w·∇L_w but for DSPO's shift."""
    pair = prediction(batch=3, shift=0.01)
    beta = {} if name == "mapo" else {"beta": 30.0}
    objective = create(name, **beta, **extra)
    errors = objective.errors(pair)
    winner, loser = pair_weights(objective, errors)
    assert winner.shape == loser.shape == (3,) and not winner.requires_grad
    assert errors.loser_residual is not None
    found = gradients(objective(pair).loss * 3, pair)
    values = errors.winner_residual[0].numel()
    expected = -loser.reshape(-1, 1, 1, 1) * 2 * errors.loser_residual.detach() / values
    if name == "anchored_dpo" and extra["anchor"] != "winner":
        plain = create("diffusion_dpo", beta=30.0)
        for own, dpo in zip((winner, loser), pair_weights(plain, errors), strict=True):
            torch.testing.assert_close(own, dpo)
        return
    torch.testing.assert_close(found[1], expected, rtol=1e-6, atol=1e-9)
    if extra.get("form") != "sd15":
        expected = winner.reshape(-1, 1, 1, 1) * 2 * errors.winner_residual.detach() / values
        torch.testing.assert_close(found[0], expected, rtol=1e-6, atol=1e-9)


def test_weighted_bound_protects_the_weighted_winners() -> None:
    """For MaPO, whose weights differ, the unweighted λ is stricter than needed, and the weighted one exact."""
    pair = prediction(batch=4, shift=0.01, agreement=4.0)
    scales = {}
    for weights in ("none", "objective"):
        objective = create("mapo", timesteps=10, beta=5.0, safeguard={"mu": 0.0, "weights": weights})
        out = objective(pair)
        scales[weights] = float(out.metrics["safe_scale"])
        winner, loser = gradients(out.loss, pair)
        a_w, _ = pair_weights(objective, objective.errors(pair))
        protected = a_w.reshape(-1, 1, 1, 1) * objective.errors(pair).winner_residual.detach()
        # A step along −gradient, both sides seen through the same (identity) Jacobian.
        change = -float((protected * (winner + loser)).sum())
        if weights == "objective":
            assert change == pytest.approx(0.0, abs=1e-9 * float(protected.square().sum()))
        else:
            assert change < 0
    assert 0 < scales["none"] < scales["objective"] < 1


def test_exempt_pairs_keep_their_gradient_and_leave_lambda_to_the_others() -> None:
    pair = prediction(batch=3, shift=0.0)
    tensors = {name: x.detach().clone() for name, x in tensors_of(pair).items()}
    tensors["reference_loser"][0] = tensors["target_loser"][0]  # R_l = 0: the first pair is far beyond its target
    pair = PairPrediction(**tensors)
    assert pair.policy_loser is not None and pair.target_loser is not None
    pair.policy_winner.requires_grad_()
    pair.policy_loser.requires_grad_()
    settings = {"mu": 0.9, "pulled_back": "exempt"}
    plain, guarded = create("dmpo", beta=60.0)(pair), create("dmpo", beta=60.0, safeguard=settings)(pair)
    among_others = safe_scale(
        (pair.policy_winner - pair.target_winner)[1:], (pair.policy_loser - pair.target_loser)[1:], mu=0.9
    )
    scale = guarded.metrics["safe_scale"]
    assert scale.tolist() == [1.0, pytest.approx(float(among_others)), pytest.approx(float(among_others))]
    (_, before), (_, after) = gradients(plain.loss, pair), gradients(guarded.loss, pair)
    assert torch.equal(before[0], after[0]) and float(before[0].abs().max()) > 0
    torch.testing.assert_close(after[1:], float(among_others) * before[1:])
