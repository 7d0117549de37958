from __future__ import annotations

import json
import shutil
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from artifacts import layout
from artifacts.atomic import file_sha256, json_sha256, tree_sha256
from artifacts.contracts import read_table
from artifacts.errors import InputError
from sdpo import objectives
from sdpo.bases import open_base
from sdpo.bases.sd15 import StableDiffusion
from sdpo.pairs import cache
from sdpo.training import checkpoint, train_together
from sdpo.training.drawing import draw
from sdpo.training.heldout_drift import HeldoutProbe
from sdpo.training.job import TrainingRun, TrainingSettings, train
from sdpo.training.order import Order
from sdpo.training.precision import Precision

Job = Callable[..., dict[str, Any]]
# What a clock or the operating system measures, not the training.
MEASURED = ["samples_per_second", "peak_memory_bytes"]


COMPARED = ["loss", "winner_drift", "loser_drift", "safe_scale_mean", "grad_norm"]


def outcome(job: dict[str, Any], seed: int = 0) -> tuple[str, pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Digest of the weights, log without measurements, drift, provenance."""
    folder = layout.model(job["root"], layout.model_name("mini", job["variant"], seed))
    log = read_table(folder / "training.parquet", "training").drop(columns=MEASURED)
    drift = read_table(folder / "drift.parquet", "drift")
    weights = file_sha256(folder / "unet" / "diffusion_pytorch_model.safetensors")
    return weights, log, drift, json.loads((folder / "provenance.json").read_text())


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    weights, log, drift, _ = outcome(first)
    other_weights, other_log, other_drift, _ = outcome(second)
    pd.testing.assert_frame_equal(log, other_log, check_exact=True)
    pd.testing.assert_frame_equal(drift, other_drift, check_exact=True)
    assert weights == other_weights


def one_run(job: dict[str, Any], *, seed: int = 0) -> TrainingRun:
    base = open_base("miniature", job["base"]["path"])
    asked = job["objective"]
    objective = objectives.create(asked["name"], safeguard=asked["safeguard"], **asked["parameters"])
    settings = TrainingSettings(**job["training"])
    probe = HeldoutProbe(base, cache.load(Path(job["pairs"]), "heldout"), settings.heldout_pairs)
    training = cache.load(Path(job["pairs"]), "train")
    return TrainingRun(base, objective, settings, training, probe, seed, label="test")


def interrupt_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the next training die just after it saved the state of ``step``."""
    original = checkpoint.save

    def save(folder: Path, at: int, state: dict[str, Any], **options: Any) -> None:
        original(folder, at, state, **options)
        if at == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", save)


def saved_states(job: dict[str, Any]) -> list[Path]:
    return sorted(Path(job["root"], "checkpoints").rglob("step-*.pt"))


def test_all_of_the_policy_learns_and_nothing_of_the_reference(job: Job, tmp_path: Path) -> None:
    run = one_run(job(learning_rate=1e-3, steps=3))
    policy = run.policy.denoiser
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    run.go(tmp_path)
    unmoved = [name for name, value in policy.named_parameters() if torch.equal(value, before[name])]
    assert unmoved == []
    with run.policy.as_reference() as reference:
        for name, value in reference.state_dict().items():
            assert torch.equal(value, before[name]), name
        assert all(p.grad is None and not p.requires_grad for p in reference.parameters())


def test_denormals_are_zeros_in_a_step(job: Job, tmp_path: Path) -> None:
    run = one_run(job(steps=1))
    seen: list[float] = []
    half = torch.tensor(torch.finfo(torch.float32).tiny)
    run.optimizer.register_step_pre_hook(lambda *_: seen.append(float(half * 0.5)))
    run.go(tmp_path)
    assert seen == [0.0]


@pytest.mark.parametrize("safeguard", [None, {"mu": 0.5}])
def test_two_trainings_are_the_same_to_the_last_bit(job: Job, safeguard: dict[str, Any] | None) -> None:
    first, second = job(root="one", safeguard=safeguard), job(root="two", safeguard=safeguard)
    train(first)
    train(second)
    assert_same(first, second)


def test_seeds_of_one_job_are_those_of_jobs_of_their_own(job: Job) -> None:
    together, alone = job(root="together", seeds=(1, 0)), job(root="alone")
    train(together)
    train(alone)
    assert_same(together, alone)
    assert outcome(together, 1)[0] != outcome(together, 0)[0]
    assert (outcome(together, 1)[1]["loss"] != outcome(together, 0)[1]["loss"]).any()
    assert outcome(together, 1)[3]["seed"] == 1


def test_safeguard_changes_the_weights_and_shows_in_the_log(job: Job) -> None:
    plain, guarded = job(root="plain"), job(root="guarded", safeguard={"mu": 1.0})
    train(plain)
    train(guarded)
    assert outcome(plain)[0] != outcome(guarded)[0]
    assert (outcome(plain)[1]["safe_scale_mean"] == 1).all()
    # Members of a pair share their noise, so their residuals agree and mu = 1 switches the loser off.
    assert (outcome(guarded)[1]["safe_scale_mean"] == 0).all()


def test_interrupted_training_goes_on_to_the_same_result(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = job(root="whole"), job(root="broken")
    train(whole)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(patch, 4)
        train(broken)
    assert not layout.model(broken["root"], "mini/variant/seed0").exists()
    assert [path.name for path in saved_states(broken)] == ["step-00000002.pt", "step-00000004.pt"]
    train(broken)
    assert_same(whole, broken)
    assert outcome(broken)[3]["resumed_from_step"] == 4
    assert outcome(whole)[3]["resumed_from_step"] == 0
    assert saved_states(broken) == []


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_damaged_state_is_passed_over(
    job: Job, damage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = job(root="whole"), job(root="broken")
    train(whole)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(patch, 4)
        train(broken)
    newest = saved_states(broken)[-1]
    content = {"truncated": newest.read_bytes()[:-2000], "empty": b"", "text": b"not a state at all\n"}
    newest.write_bytes(content[damage])
    capsys.readouterr()
    train(broken)
    warning = capsys.readouterr().err
    assert "warning" in warning
    assert str(newest) in warning
    assert outcome(broken)[3]["resumed_from_step"] == 2
    assert_same(whole, broken)


def test_state_of_another_setting_is_not_taken_up(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(patch, 4)
        train(job())
    train(job(learning_rate=2e-4))
    assert outcome(job())[3]["resumed_from_step"] == 0


def test_members_of_a_pair_share_noise_timestep_and_prompt(
    job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = one_run(job())
    calls = []
    predict = StableDiffusion.predict

    def spy(base: StableDiffusion, denoiser: Any, noisy: Any, timesteps: Any, conditions: Any) -> Any:
        calls.append((denoiser, noisy, timesteps, conditions["text"]))
        return predict(base, denoiser, noisy, timesteps, conditions)

    monkeypatch.setattr(StableDiffusion, "predict", spy)
    run.take_step(run.drawn(1), tmp_path)
    (reference, *its), (policy, *own) = calls
    with run.policy.as_reference() as expected:
        assert reference is expected
    assert policy is run.policy.denoiser
    for mine, other in zip(own, its, strict=True):
        assert torch.equal(mine, other)
    noisy, timesteps, embeddings = own
    assert torch.equal(timesteps[:4], timesteps[4:])
    assert len(set(timesteps[:4].tolist())) > 1
    assert torch.equal(embeddings[:4], embeddings[4:])
    rows = Order(run.pairs.shapes, 4, 0).rows(4, 1)
    alpha, sigma = (c[:, None, None, None] for c in run.base.coefficients(timesteps[:4]))
    noise = [
        (half - alpha * side(rows).latents.mean) / sigma
        for half, side in ((noisy[:4], run.pairs.winners), (noisy[4:], run.pairs.losers))
    ]
    torch.testing.assert_close(noise[0], noise[1], atol=1e-4, rtol=0)
    assert 0.7 < float(noise[0].std()) < 1.3
    assert not torch.allclose(noise[0][0], noise[0][1])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_empty_prompt_replaces_the_given_share(
    job: Job, share: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = one_run(job(empty_prompt_share=share))
    seen = []
    predict = StableDiffusion.predict

    def spy(base: StableDiffusion, denoiser: Any, noisy: Any, timesteps: Any, conditions: Any) -> Any:
        seen.append(conditions["text"][:4])
        return predict(base, denoiser, noisy, timesteps, conditions)

    monkeypatch.setattr(StableDiffusion, "predict", spy)
    run.take_step(run.drawn(1), tmp_path)
    rows = Order(run.pairs.shapes, 4, 0).rows(4, 1)
    assert torch.equal(seen[0], run.pairs.prompts(rows, torch.full((4,), share == 1))["text"])
    empty = run.base.encode_prompts([""])["text"].expand(4, -1, -1)
    assert torch.allclose(seen[0], empty, atol=1e-5) == (share == 1)


def test_drift_is_exactly_zero_before_the_first_step_and_measured_where_asked(job: Job) -> None:
    chosen = job(steps=7)
    train(chosen)
    drift = outcome(chosen)[2]
    assert drift["step"].tolist() == [0, 3, 6, 7]
    assert drift.loc[0, ["winner_drift", "loser_drift", "margin"]].tolist() == [0, 0, 0]
    assert (drift.loc[1:, "winner_drift"] != 0).all()
    assert (drift["margin"] - (drift["loser_drift"] - drift["winner_drift"])).abs().max() < 1e-9
    counts = json.loads((Path(chosen["pairs"]) / "cache.json").read_text())["counts"]
    assert set(drift["pairs"]) == {counts["heldout"]}


def test_log_starts_from_a_policy_equal_to_the_reference(job: Job) -> None:
    chosen = job(log_every=4)
    train(chosen)
    log = outcome(chosen)[1]
    assert log["step"].tolist() == [4, 6]
    train(job(root="each"))
    first = outcome(job(root="each"))[1].loc[0]
    assert first["loss"] == pytest.approx(0.693147, abs=1e-5)
    assert first["margin"] == pytest.approx(0, abs=1e-6)
    assert first["grad_norm"] > 0


def test_learning_rate_warms_up_linearly_and_then_stays(job: Job) -> None:
    chosen = job(warmup_steps=4, learning_rate=1e-4)
    train(chosen)
    assert outcome(chosen)[1]["learning_rate"].tolist() == pytest.approx([2.5e-5, 5e-5, 7.5e-5, 1e-4, 1e-4, 1e-4])


def test_loss_that_is_not_finite_stops_the_training(job: Job) -> None:
    chosen = job(learning_rate=1e30, warmup_steps=0, checkpoint_every=100, drift_every=100)
    with pytest.raises(InputError, match=r"variant seed 0: .* not finite.* at step 2; lower training.learning_rate"):
        train(chosen)
    assert not layout.model(chosen["root"], "mini/variant/seed0").exists()


def test_a_step_that_fails_otherwise_is_not_blamed_on_the_learning_rate(job: Job) -> None:
    """THERMoDPO asks for the time of a pair, and a base of a DDPM schedule has none."""
    chosen = job(objective="thermo_dpo")
    chosen["objective"]["parameters"] = {"beta": 1.0}
    with pytest.raises(
        InputError, match=r"the pair has no time: .* at step 1; the pairs of this step are in "
    ) as caught:
        train(chosen)
    assert "lower" not in str(caught.value)


@pytest.mark.parametrize("file", ["shard-00000.safetensors", "index.parquet"])
def test_damaged_pair_cache_is_named(job: Job, file: str, pair_cache: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cache"
    shutil.copytree(pair_cache, copy)
    content = bytearray((copy / file).read_bytes())
    content[-5:] = b"wrong"
    (copy / file).write_bytes(content)
    with pytest.raises(InputError, match=rf"{file}: .*delete"):
        train(job(pairs=copy))


def test_provenance_names_settings_inputs_seed_and_outputs(job: Job, base_path: Path, pair_cache: Path) -> None:
    chosen = job(seeds=(5,))
    train(chosen)
    weights, _, _, found = outcome(chosen, 5)
    assert found["stage"] == "train"
    assert found["seed"] == 5
    assert found["inputs"] == {
        str(base_path): tree_sha256(base_path),
        str(pair_cache): cache.content_sha256(pair_cache),
    }
    assert found["spec"]["training"] == chosen["training"]
    assert found["config_sha256"] == json_sha256(found["spec"])
    assert found["outputs"] == {"unet/diffusion_pytorch_model.safetensors": weights}


def test_sft_reports_the_loser_and_learns_from_the_winner_alone(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = job(objective="sft")
    train(chosen)
    weights, log, drift, _ = outcome(chosen)
    # Four pairs leave some shares of noise empty.
    assert log.filter(regex="^(?!.*_noise_)").notna().all().all()
    assert (log.filter(like="pairs_noise_").sum(axis=1) == 4).all()
    assert drift.notna().all().all()

    load = cache.load

    def other_losers(folder: Path, split: str, **options: Any) -> cache.Pairs:
        pairs = load(folder, split, **options)
        return replace(pairs, loser_image=pairs.loser_image.flip(0))

    monkeypatch.setattr(cache, "load", other_losers)
    changed = job(root="changed", objective="sft")
    train(changed)
    other_weights, other_log, _, _ = outcome(changed)
    assert other_weights == weights
    assert other_log["loss"].tolist() == log["loss"].tolist()
    assert other_log["loser_drift"].tolist() != log["loser_drift"].tolist()


def test_losers_that_teach_nothing_are_predicted_without_gradients(job: Job) -> None:
    pair = {}
    for objective in ("sft", "diffusion_dpo"):
        run = one_run(job(objective=objective, precision="float32"))
        with torch.no_grad():
            for parameter in run.policy.trained:
                parameter.add_(0.01)
        pair[objective] = run.gradients.predicted(*run.drawn(1))
    own, other = pair["sft"], pair["diffusion_dpo"]
    assert own.policy_loser is not None and other.policy_loser is not None
    assert own.policy_winner.requires_grad and not own.policy_loser.requires_grad and other.policy_loser.requires_grad
    torch.testing.assert_close(own.policy_winner, other.policy_winner, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(own.policy_loser, other.policy_loser, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("objective", "unlogged"), [("sft", 4), ("mapo", 8), ("diffusion_dpo", 16)])
def test_what_the_objective_does_not_look_at_is_predicted_for_the_log_alone(
    job: Job, objective: str, unlogged: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four pairs: winners, losers, and both once more as the reference; no gradient changes."""
    run = one_run(job(objective=objective, steps=4, log_every=2))
    predict, images = Precision.predict, 0

    def counted(self: Precision, base: Any, denoiser: Any, noisy: torch.Tensor, *rest: Any) -> torch.Tensor:
        nonlocal images
        images += len(noisy)
        return predict(self, base, denoiser, noisy, *rest)

    monkeypatch.setattr(Precision, "predict", counted)
    found = {}
    for logged, expected in ((True, 16), (False, unlogged)):
        run.optimizer.zero_grad(set_to_none=True)
        images = 0
        loss, metrics = run.gradients.fill(run.drawn(1), 4, logged=logged)
        assert images == expected
        assert metrics["safe_scale_mean"] == 1.0
        known = logged or unlogged == 16
        for name in ("winner_drift", "loser_drift", "margin", "implicit_accuracy"):
            assert (metrics[name] is not None) == known
        assert any(metrics[f"winner_drift_noise_{k}"] is not None for k in range(1, 6)) == known
        found[logged] = loss, [p.grad.clone() for p in run.policy.trained if p.grad is not None]
    assert found[True][0] == found[False][0]
    assert all(torch.equal(one, two) for one, two in zip(found[True][1], found[False][1], strict=True))


def test_one_model_is_gone_before_the_next_is_made(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Any]] = []
    start = TrainingRun.__init__

    def watched(run: TrainingRun, *arguments: Any, **options: Any) -> None:
        assert [ref() for ref in made] == [None] * len(made)
        start(run, *arguments, **options)
        made.extend(map(weakref.ref, (run, run.policy.denoiser, run.policy.trained[0], run.optimizer)))

    monkeypatch.setattr(TrainingRun, "__init__", watched)
    train(job(seeds=(0, 1), steps=1))
    assert len(made) == 8


def test_noise_of_a_share_of_a_step_does_not_hold_that_of_the_others(job: Job) -> None:
    run = one_run(job())
    rows = Order(run.pairs.shapes, 4, 0).rows(4, 1)
    (share,) = draw(run.base, run.pairs, rows, empty_prompt_share=0.0, seed=0, step=1, part=range(1, 2))
    assert share.noise.untyped_storage().nbytes() == share.noise.numel() * 4


def test_written_denoiser_is_the_trained_one(job: Job) -> None:
    chosen = job()
    train(chosen)
    from diffusers import UNet2DConditionModel

    folder = layout.model(chosen["root"], "mini/variant/seed0")
    written = UNet2DConditionModel.from_pretrained(folder / "unet")
    run = one_run(chosen)
    run.go(folder.parent / "states")
    assert {value.dtype for value in written.state_dict().values()} == {torch.float32}
    for name, value in run.policy.denoiser.state_dict().items():
        assert torch.equal(value, written.state_dict()[name]), name


def test_global_scale_does_not_depend_on_the_micro_batch_size(job: Job) -> None:
    logs = []
    for size in (None, 4, 3, 1):
        guard = {"mu": 0.7, "granularity": "global"}
        spec = job(root=f"size-{size}", safeguard=guard, steps=3, micro_batch_size=size, empty_prompt_share=0.5)
        train(spec)
        logs.append(outcome(spec)[1])
    assert (logs[0]["safe_scale_mean"] < 0.9).all()
    for log in logs[1:]:
        pd.testing.assert_frame_equal(log[COMPARED], logs[0][COMPARED], rtol=2e-3, atol=1e-7)


def test_scale_of_each_micro_batch_is_that_of_its_own_pairs(job: Job) -> None:
    whole, split = (
        job(root=f"size-{size}", safeguard={"mu": 0.7}, steps=1, micro_batch_size=size, batch_size=4) for size in (4, 2)
    )
    train(whole)
    train(split)
    (one,), (two,) = (outcome(spec)[1].to_dict("records") for spec in (whole, split))
    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
    assert two["safe_scale_min"] < two["safe_scale_mean"]
    assert one["safe_scale_min"] == one["safe_scale_mean"] != two["safe_scale_mean"]


def test_reference_of_linear_dpo_follows_the_policy_and_is_resumed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = job(root="whole", objective="linear_dpo"), job(root="broken", objective="linear_dpo")
    train(whole)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_after(patch, 4)
        train(broken)
    train(broken)
    assert_same(whole, broken)


def test_reference_is_the_moving_average_of_the_policy(job: Job, tmp_path: Path) -> None:
    run = one_run(job(objective="linear_dpo", steps=1, learning_rate=1e-2, warmup_steps=0))
    with run.policy.as_reference() as reference:
        before = {name: value.clone() for name, value in reference.named_parameters()}
        run.go(tmp_path)
        moved = dict(reference.named_parameters())
    for name, value in run.policy.denoiser.named_parameters():
        expected = 0.99 * before[name] + 0.01 * value
        torch.testing.assert_close(moved[name], expected, msg=name)
    assert max(float((value - before[name]).abs().max()) for name, value in moved.items()) > 1e-5


def test_finished_seeds_of_a_killed_job_are_not_trained_again(
    job: Job, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, broken = job(root="whole", seeds=(0, 1)), job(root="broken", seeds=(0, 1))
    train(whole)
    assert saved_states(whole) == []
    saved: list[int] = []
    original = checkpoint.save

    def die_in_the_second_model(folder: Path, at: int, state: dict[str, Any], **options: Any) -> None:
        original(folder, at, state, **options)
        saved.append(at)
        if saved.count(4) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", die_in_the_second_model)
        train(broken)
    # The workflow deletes every output of the job before it runs it again.
    shutil.rmtree(layout.model(broken["root"], "mini/variant/seed0"))
    train(broken)
    assert "variant seed 0: resumed at step 6 of 6" in capsys.readouterr().err
    for seed in (0, 1):
        assert outcome(broken, seed)[0] == outcome(whole, seed)[0]
        pd.testing.assert_frame_equal(outcome(broken, seed)[1], outcome(whole, seed)[1], check_exact=True)
    assert saved_states(broken) == []


def test_finished_variants_of_a_killed_job_are_not_trained_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two variants with two seeds each, the job dies in the last model; each step of each model is taken once."""
    together = [{**job(seeds=(0, 1), learning_rate=rate), "variant": f"rate{rate}"} for rate in (1e-4, 2e-4)]
    taken: Counter[tuple[str, int]] = Counter()
    step = TrainingRun.take_step

    def counted(run: TrainingRun, *arguments: Any) -> dict[str, Any]:
        taken[run.label, run.step + 1] += 1
        return step(run, *arguments)

    def die_in_the_last_model(run: TrainingRun, *arguments: Any) -> dict[str, Any]:
        if run.label == "rate0.0002 seed 1" and run.step == 4:
            raise KeyboardInterrupt
        return counted(run, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TrainingRun, "take_step", die_in_the_last_model)
        train_together(together)
    monkeypatch.setattr(TrainingRun, "take_step", counted)
    shutil.rmtree(Path(together[0]["root"], "models"))
    train_together(together)
    models = [f"rate{rate} seed {seed}" for rate in (1e-4, 2e-4) for seed in (0, 1)]
    assert taken == Counter({(model, at): 1 for model in models for at in range(1, 7)})
    assert [outcome(spec, seed)[3]["resumed_from_step"] for spec in together for seed in (0, 1)] == [6, 6, 6, 4]
    assert saved_states(together[0]) == []
