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

from sdpo import objectives
from sdpo.objectives import PairPrediction, create, dmpo, load, names
from sdpo.safeguard import Safeguard, safe_scale

ROOT = Path(__file__).parents[3]
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


def prediction(
    seed: int = 0, *, batch: int = 3, shift: float = 0.02, agreement: float = 1.5, dtype: torch.dtype = torch.float64
) -> PairPrediction:
    """A batch whose loser residuals are ``agreement`` times the winners' plus noise; policy tensors are leaves."""
    generator = torch.Generator().manual_seed(seed)

    def normal() -> torch.Tensor:
        return torch.randn(batch, 4, 4, 2, generator=generator, dtype=torch.float64)

    target_winner, target_loser, residual = normal(), normal(), 0.3 * normal()
    policy_winner = target_winner + residual
    policy_loser = target_loser + agreement * residual + 0.1 * normal()
    reference_winner, reference_loser = policy_winner + shift * normal(), policy_loser + shift * normal()
    tensors = (policy_winner, policy_loser, reference_winner, reference_loser, target_winner, target_loser)
    pair = PairPrediction(*(x.to(dtype) for x in tensors))
    assert pair.policy_loser is not None
    pair.policy_winner.requires_grad_()
    pair.policy_loser.requires_grad_()
    return pair


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
    tensors: dict[str, torch.Tensor] = {f.name: getattr(pair, f.name) for f in fields(pair)}
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
@pytest.mark.parametrize("mu", [None, 0.9])
def test_published_rule_in_fp32(name: str, extra: dict[str, Any], mu: float | None) -> None:
    pair = prediction(dtype=torch.float32)
    ours = create(name, beta=20.0, safeguard=None if mu is None else {"mu": mu}, **extra)(pair)
    theirs = published(name, pair, 20.0, mu, **extra)
    assert ours.loss.dtype == torch.float32
    torch.testing.assert_close(ours.loss, theirs, rtol=1e-5, atol=0)
    for ours_, theirs_ in zip(gradients(ours.loss, pair), gradients(theirs, pair), strict=True):
        torch.testing.assert_close(ours_, theirs_, rtol=1e-4, atol=1e-5 * float(theirs_.abs().max()))


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
    target = dmpo.target_logit(dmpo.Parameters(beta=1.0))
    assert target == pytest.approx(4.595, abs=5e-4)
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


@hosts
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


@hosts
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
    tensors = {f.name: getattr(pair, f.name).detach().requires_grad_() for f in fields(PairPrediction)}
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
    exact = PairPrediction(*(getattr(pair, f.name).float() for f in fields(pair)))
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
        ("dmpo", {"beta": math.inf}, "beta = inf: .*finite"),
        ("dmpo", {"beta": math.nan}, "beta = nan"),
        ("dmpo", {}, "beta is missing"),
        ("dmpo", {"beta": 1.0, "alpha": 0.5}, "alpha = 0.5: .*less than 0.5"),
        ("dmpo", {"beta": 1.0, "alfa": 0.1}, "unknown parameter alfa = 0.1: expected one of beta, alpha.*'alpha'"),
        ("dmpo", {"beta": -1.0, "alpha": -1.0}, "beta = -1.0: .*; alpha = -1.0: "),
        ("dspo", {"beta": 1.0, "form": "sd1.5"}, "form = 'sd1.5': .*'sd15' or 'sdxl'"),
        ("sft", {"beta": 1.0}, "unknown parameter beta = 1.0: expected no parameters"),
        ("sft", {"safeguard": {"mu": 0.9}}, "objective 'sft': safeguard = {'mu': 0.9}: expected None.*no loser"),
        ("dmpo", {"beta": 1.0, "safeguard": {"mu": 1.1}}, "safeguard of objective 'dmpo': mu = 1.1"),
        ("dmpo", {"beta": 1.0, "safeguard": {}}, "safeguard of objective 'dmpo': mu is missing"),
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
    bad = replace(pair, policy_loser=torch.full_like(pair.policy_winner, math.nan))
    with pytest.raises(ValueError, match="loser_residual has values that are not finite"):
        create("dmpo", beta=1.0, safeguard={"mu": 0.5})(bad)


def test_a_plug_in_that_is_no_objective_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Registry:
        def load(self, name: str) -> Any:
            return SimpleNamespace(__name__="somewhere.odd", HAS_LOSER=True)

    monkeypatch.setattr(objectives, "_REGISTRY", Registry())
    with pytest.raises(ValueError, match=r"objective 'odd': module somewhere\.odd does not define Parameters, loss"):
        load("odd")


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


def test_every_hyperparameter_is_described_and_models_are_closed() -> None:
    for name in names():
        model = load(name).Parameters
        assert all(field.description for field in model.model_fields.values())
        assert (model.model_config.get("frozen"), model.model_config.get("extra")) == (True, "forbid")
