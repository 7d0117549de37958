"""Training on tiny bases shaped like Stable Diffusion 1.5 and XL: cached or straight from images, every objective."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from artifacts import layout
from artifacts.contracts import read_table
from artifacts.errors import InputError
from sdpo import pairs
from sdpo.audit.command import audit
from sdpo.bases import Base, open_base
from sdpo.bases.sdxl import StableDiffusionXL
from sdpo.pairs import Pair, cache
from sdpo.training.drawing import Drawn, draw
from sdpo.training.job import train
from sdpo.training.order import Order

pytestmark = pytest.mark.slow

FAMILIES = ("sd15", "sdxl")
PARAMETERS: dict[str, dict[str, Any]] = {
    "anchored_dpo": {"beta": 2000.0, "anchor": "winner"},
    "chi_po": {"beta": 100.0},
    "diffusion_dpo": {"beta": 2000.0},
    "diffusion_kto": {"beta": 2000.0},
    "dmpo": {"beta": 2000.0, "alpha": 0.01},
    "dspo": {"beta": 0.001},
    "linear_dpo": {"beta": 2000.0},
    "mapo": {"beta": 0.1},
    "sft": {},
}
Build = Callable[..., Path]


def some_pairs() -> list[Pair]:
    """Eight pairs of wide pictures, the last two held out."""

    def picture(seed: int) -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((60, 40))

    return [
        Pair(
            f"{'prompt' if i < 6 else 'held out'} {i % 3}",
            (picture(i), picture(i + 1)),
            1.0,
            "train" if i < 6 else "heldout",
        )
        for i in range(8)
    ]


def drawn_of(base: Base, training: cache.Pairs, count: int, empty: float, *, seed: int, step: int) -> Drawn:
    """A step of pairs of one shape."""
    rows = Order(training.shapes, count, seed).rows(count, step)
    (drawn,) = draw(base, training, rows, empty_prompt_share=empty, seed=seed, step=step)
    return drawn


@pytest.fixture(scope="module")
def base_paths(tiny_sd15: Path, tiny_sdxl: Path) -> dict[str, Path]:
    return {"sd15": tiny_sd15, "sdxl": tiny_sdxl}


@pytest.fixture(scope="module")
def build(base_paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the cache of a family, each kind once."""
    made: dict[str, Path] = {}

    def make(family: str, **encoding: Any) -> Path:
        key = json.dumps([family, encoding], sort_keys=True)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("pairs") / "cache"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(pairs, "read", lambda source, options, *, base_path: iter(some_pairs()))
                cache.build(
                    {
                        "stage_version": 1,
                        "dataset": "set",
                        "source": "given",
                        "options": {},
                        "encoding": {"resolution": 32, "flips": True, **encoding},
                        "base": {"name": "tiny", "family": family, "path": str(base_paths[family])},
                        "out": str(made[key]),
                    }
                )
        return made[key]

    return make


@pytest.fixture
def job(base_paths: dict[str, Path], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def make(family: str, folder: Path, *, objective: str = "diffusion_dpo", root: str = "run", **options: Any) -> Any:
        has_loser = objective != "sft"
        return {
            "stage_version": 1,
            "base": {"name": "tiny", "family": family, "path": str(base_paths[family])},
            "pairs": str(folder),
            "variant": objective,
            "objective": {
                "name": objective,
                "parameters": PARAMETERS[objective],
                "safeguard": {"mu": 0.5} if has_loser else None,
            },
            "training": {
                "steps": 3,
                "batch_size": 4,
                "learning_rate": 1e-4,
                "warmup_steps": 0,
                "optimizer": "adamw",
                "weight_decay": 0.01,
                "max_grad_norm": 1.0,
                "empty_prompt_share": 0.3,
                "log_every": 1,
                "checkpoint_every": 3,
                "drift_every": 3,
                "heldout_pairs": 2,
                **options,
            },
            "root": str(tmp_path / root),
            "seeds": [0],
        }

    return make


def outcome(job: dict[str, Any]) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    folder = layout.model(job["root"], f"tiny/{job['variant']}/seed0")
    weights = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    return weights, read_table(folder / "training.parquet", "training")


# What an objective is given is the same with every base.
@pytest.mark.parametrize(
    ("family", "objective"), [("sdxl", "diffusion_dpo"), *(("sd15", name) for name in sorted(PARAMETERS))]
)
def test_every_objective_trains(family: str, objective: str, build: Build, job: Any, base_paths: Any) -> None:
    chosen = job(family, build(family), objective=objective)
    train(chosen)
    weights, log = outcome(chosen)
    assert log["step"].tolist() == [1, 2, 3]
    assert np.isfinite(log["loss"]).all()
    assert (log["grad_norm"] > 0).all()
    before = open_base(family, base_paths[family]).load_denoiser().state_dict()
    assert set(weights) == set(before)
    assert all(not torch.equal(weights[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("family", "granularity"), [("sd15", "microbatch"), ("sdxl", "microbatch"), ("sd15", "global")]
)
def test_training_on_the_cache_is_training_from_images(family: str, granularity: str, build: Build, job: Any) -> None:
    cached, straight = (
        job(family, build(family, store=store, time_ids="image"), root=store, micro_batch_size=2)
        for store in ("latents", "images")
    )
    for each in (cached, straight):
        each["objective"]["safeguard"]["granularity"] = granularity
    train(cached)
    train(straight)
    (weights, log), (other_weights, other_log) = outcome(cached), outcome(straight)
    for column in ("loss", "winner_drift", "loser_drift", "safe_scale_mean", "grad_norm"):
        np.testing.assert_allclose(log[column], other_log[column], rtol=2e-3, atol=2e-6, err_msg=column)
    # Adam turns rounding into steps of the learning rate where a gradient is next to zero; three steps are 3e-4.
    differences = torch.cat([(other_weights[name] - value).abs().flatten() for name, value in weights.items()])
    assert float(differences.max()) < 3e-4
    assert float(differences.mean()) < 2e-6
    # Half precision in the cache is the same training too, less exactly.
    half = job(family, build(family, dtype="float16", time_ids="image"), root="half", micro_batch_size=2)
    train(half)
    np.testing.assert_allclose(outcome(half)[1]["loss"], log["loss"], rtol=0.05)


def test_base_that_predicts_v_is_trained_on_v(build: Build, job: Any, base_paths: Any, tmp_path: Path) -> None:
    """Its targets are α·ε − σ·x; noise as target gives another error before training, and another model after."""
    base_path = tmp_path / "v"
    shutil.copytree(base_paths["sd15"], base_path)
    file = base_path / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "prediction_type": "v_prediction"}))
    pairs_path = build("sd15")
    settings = {"objective": "sft", "steps": 12, "learning_rate": 2e-3, "drift_every": 12, "checkpoint_every": 12}
    by_v, by_noise = (job("sd15", pairs_path, root=root, **settings) for root in ("v", "noise"))
    by_v["base"] = {"name": "tiny", "family": "sd15", "path": str(base_path)}
    train(by_v)
    train(by_noise)
    (weights, log), (other_weights, other_log) = outcome(by_v), outcome(by_noise)
    # An untrained U-Net predicts next to nothing: its error is the mean square of its target.
    base = open_base("sd15", base_path)
    drawn = drawn_of(base, cache.load(pairs_path, "train"), 4, 0.3, seed=0, step=1)
    alpha, sigma = (x.reshape(-1, 1, 1, 1) for x in base.coefficients(drawn.timesteps))
    denoiser = base.load_denoiser().eval()
    with torch.no_grad():
        predicted = base.predict(
            denoiser, alpha * drawn.winner + sigma * drawn.noise, drawn.timesteps, drawn.winner_conditions
        )
    for found, target in ((log, alpha * drawn.noise - sigma * drawn.winner), (other_log, drawn.noise)):
        assert found["loss"].iloc[0] == pytest.approx(float((predicted - target).square().mean()), rel=1e-4)
    assert log["loss"].iloc[0] != pytest.approx(other_log["loss"].iloc[0], rel=0.01)
    assert log["winner_drift"].iloc[-1] < -0.01 * log["loss"].iloc[0]
    assert any(not torch.equal(value, other_weights[name]) for name, value in weights.items())


@pytest.mark.parametrize("store", ["latents", "images"])
@pytest.mark.parametrize("family", FAMILIES)
def test_everything_drawn_comes_from_seed_and_step(family: str, store: str, build: Build, base_paths: Any) -> None:
    base = open_base(family, base_paths[family])
    training = cache.load(build(family, store=store), "train", base=base)
    first, again, later = (drawn_of(base, training, 6, 0.5, seed=0, step=step) for step in (1, 1, 2))
    assert torch.equal(first.winner, again.winner)
    assert torch.equal(first.loser, again.loser)
    assert not torch.equal(first.winner_conditions["text"], later.winner_conditions["text"])
    for name in first.winner_conditions:
        assert torch.equal(first.winner_conditions[name], again.winner_conditions[name])


def test_posterior_is_drawn_anew_at_each_step_around_its_mean(build: Build, base_paths: Any) -> None:
    base = open_base("sd15", base_paths["sd15"])
    training = replace(cache.load(build("sd15"), "train"), flips=False)
    steps = [drawn_of(base, training, 6, 0.0, seed=0, step=step) for step in range(1, 201)]
    # Every step shows each of the six pairs once, in its own order: the first pair's place is found by its latents.
    mean = training.winners(torch.tensor([0])).latents.mean[0]
    std = training.winners(torch.tensor([0])).latents.std
    assert std is not None
    drawn = torch.stack([s.winner[(s.winner - mean).square().flatten(1).mean(1).argmin()] for s in steps])
    score = (drawn - mean) / std[0]
    assert abs(float(score.mean())) < 0.01
    assert abs(float(score.std()) - 1) < 0.01
    assert len({float(x.flatten()[0]) for x in drawn}) == 200


def test_members_of_a_pair_are_mirrored_each_on_its_own(build: Build, base_paths: Any) -> None:
    base = open_base("sdxl", base_paths["sdxl"])
    training = cache.load(build("sdxl", time_ids="image"), "train")
    assert training.flips
    rows = torch.arange(6)
    seen = {"winner": 0, "loser": 0, "both": 0}
    for step in range(1, 101):
        drawn = drawn_of(base, training, 6, 0.0, seed=1, step=step)
        turned = {}
        for side, read, latents in (
            ("winner", training.winners, drawn.winner),
            ("loser", training.losers, drawn.loser),
        ):
            kinds = [read(rows, torch.full((6,), mirrored)).latents.mean for mirrored in (False, True)]
            distance = [torch.cdist(latents.flatten(1), kind.flatten(1)).min(1).values for kind in kinds]
            turned[side] = distance[1] < distance[0]
            seen[side] += int(turned[side].sum())
        seen["both"] += int((turned["winner"] & turned["loser"]).sum())
    # Of 600; four standard errors.
    assert abs(seen["winner"] - 300) < 49
    assert abs(seen["loser"] - 300) < 49
    assert abs(seen["both"] - 150) < 43


def test_sizes_reach_the_denoiser(build: Build, job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    predict = StableDiffusionXL.predict

    def spy(base: Any, denoiser: Any, noisy: Any, timesteps: Any, conditions: Any) -> Any:
        seen.append({name: x.shape for name, x in conditions.items()} | {"ids": conditions["time_ids"].tolist()})
        return predict(base, denoiser, noisy, timesteps, conditions)

    monkeypatch.setattr(StableDiffusionXL, "predict", spy)
    train(job("sdxl", build("sdxl"), steps=1))
    published = [32.0, 32.0, 0.0, 0.0, 32.0, 32.0]
    assert all(row == published for call in seen for row in call["ids"])
    assert seen[-1]["text"][1:] == (16, 80)
    assert seen[-1]["pooled"][1:] == (24,)
    seen.clear()
    train(job("sdxl", build("sdxl", time_ids="image"), steps=1, root="own"))
    # 60 x 40 pixels are resized to 48 x 32 and lose 8 columns on either side.
    assert all(row == [40.0, 60.0, 0.0, 8.0, 32.0, 32.0] for call in seen for row in call["ids"])


def test_empty_prompt_is_exactly_the_encoded_empty_prompt(build: Build, base_paths: Any) -> None:
    for family in FAMILIES:
        base = open_base(family, base_paths[family])
        training = cache.load(build(family), "train")
        drawn = drawn_of(base, training, 6, 1.0, seed=0, step=1)
        expected = base.encode_prompts([""])
        for name, value in expected.items():
            for conditions in (drawn.winner_conditions, drawn.loser_conditions):
                torch.testing.assert_close(conditions[name], value.expand_as(conditions[name]), atol=1e-5, rtol=1e-5)


def test_cache_of_another_base_is_refused_before_training(build: Build, job: Any) -> None:
    with pytest.raises(InputError, match=r"'text' of width 32, where the U-Net takes 'text' of width 80 and 'pooled'"):
        train(job("sdxl", build("sd15")))
    with pytest.raises(InputError, match=r"'pooled' of width 24 and 'text' of width 80, where the U-Net takes 'text'"):
        train(job("sd15", build("sdxl")))


def test_images_without_a_base_cannot_be_read(build: Build) -> None:
    with pytest.raises(InputError, match="holds images instead of latents; open it together with its base"):
        cache.load(build("sd15", store="images"), "train")


def test_audit_takes_a_base_with_conditions_of_every_kind(build: Build, base_paths: Any, tmp_path: Path) -> None:
    audit(
        {
            "base": {"name": "tiny", "family": "sdxl", "path": str(base_paths["sdxl"])},
            "pairs": str(build("sdxl")),
            "objective": {"name": "diffusion_dpo", "parameters": {"beta": 2000.0}},
            "step": {"batch_size": 2, "max_grad_norm": 1.0},
            "settings": {"batches": 1, "mu": [0.5], "sgd": [1e-6], "adamw": [], "warmed_batches": 0},
            "out": str(tmp_path),
        }
    )
    rows = read_table(tmp_path / "audit.parquet", "audit")
    largest = rows["winner_gradient_norm"] * rows["update_norm"]
    assert ((rows["predicted_change"] - rows["real_change"]).abs() < 2e-3 * largest).all()
    assert (rows["predicted_change"].abs() > 1e-2 * largest).all()
