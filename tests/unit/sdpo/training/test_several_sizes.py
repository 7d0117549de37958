"""Training on pairs of several shapes: what is drawn, what passes together, and that it goes on to the bit."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from artifacts import layout
from artifacts.errors import InputError
from artifacts.random_streams import stream
from sdpo import objectives, pairs
from sdpo.audit.measurement import Auditor
from sdpo.audit.settings import AuditSettings, StepSettings
from sdpo.bases import open_described
from sdpo.pairs import Pair, cache
from sdpo.training import checkpoint
from sdpo.training.drawing import Drawn, draw
from sdpo.training.heldout_drift import HeldoutProbe
from sdpo.training.job import train
from sdpo.training.micro_batches import micro_batches
from sdpo.training.order import Order
from sdpo.training.settings import TrainingSettings

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]
SQUARE, WIDE = (32, 32), (48, 32)
SETTINGS = {"micro_batch_size": 2, "learning_rate": 1e-3, "warmup_steps": 0, "heldout_pairs": 8, "drift_every": 2}


def some_pairs() -> list[Pair]:
    """Nine pairs that are trained on, four of them wide, and four held out."""

    def picture(seed: int, size: tuple[int, int]) -> Image.Image:
        coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize(size)

    found = []
    for i in range(13):
        size, split = WIDE if i % 2 else SQUARE, "train" if i < 9 else "heldout"
        found.append(Pair(f"{split} {i}", (picture(2 * i, size), picture(2 * i + 1, size)), 1.0, split))
    return found


def _world(request: pytest.FixtureRequest, family: str, folder: Path) -> World:
    flows = request.getfixturevalue("tiny_flows")
    path = flows.get(family) or request.getfixturevalue(f"tiny_{family}")
    base: dict[str, Any] = {"name": "tiny", "family": family, "path": str(path)}
    if family == "ovis_u1":
        base["language"] = request.getfixturevalue("tiny_pipelines").ovis_u1_language()
    encoding = {"sizes": [list(WIDE), list(SQUARE)], "flips": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "read", lambda source, options, *, base_path: iter(some_pairs()))
        cache.build({"dataset": "set", "source": "given", "encoding": encoding, "base": base, "out": str(folder)})
    return base, folder


@pytest.fixture(scope="module")
def sdxl_world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> World:
    return _world(request, "sdxl", tmp_path_factory.mktemp("pairs") / "sdxl")


def weights(job: dict[str, Any]) -> dict[str, torch.Tensor]:
    (file,) = layout.model(job["root"], "tiny/variant/seed0").glob("*/diffusion_pytorch_model.safetensors")
    found: dict[str, torch.Tensor] = load_file(file)
    return found


def test_one_shape_is_drawn_from_the_streams_from_which_it_always_was(tiny_sd15_world: World) -> None:
    base, training = open_described(tiny_sd15_world[0]), cache.load(tiny_sd15_world[1], "train")
    rows = torch.randperm(len(training), generator=stream(1, 5, 0))[4:8]
    assert torch.equal(Order(training.shapes, 2, 5).rows(4, 2), rows)
    (drawn,) = draw(base, training, rows, empty_prompt_share=0.5, seed=5, step=2, part=range(1, 3))
    random, posterior = stream(2, 5, 2), stream(6, 5, 2)
    noise = torch.randn(4, 4, 16, 16, generator=random)
    timesteps = base.draw_timesteps(4, random)
    empty = torch.rand(4, generator=random) < 0.5
    turned = torch.rand(2, 4, generator=stream(5, 5, 2)) < 0.5
    sides = training.winners(rows, turned[0]), training.losers(rows, turned[1])
    for found, side in zip((drawn.winner, drawn.loser), sides, strict=True):
        assert torch.equal(found, side.latents.sampled(posterior)[1:3])
    assert torch.equal(drawn.noise, noise[1:3])
    assert torch.equal(drawn.timesteps, timesteps[1:3])
    assert torch.equal(drawn.winner_conditions["text"], training.prompts(rows, empty)["text"][1:3])
    assert (drawn.rows.tolist(), drawn.places.tolist()) == (rows[1:3].tolist(), [1, 2])


def test_every_pair_gets_what_it_gets_in_the_whole_step(sdxl_world: World) -> None:
    base, training = open_described(sdxl_world[0]), cache.load(sdxl_world[1], "train")
    order = Order(training.shapes, 2, 0)
    mixed = next(s for s in range(1, 20) if len(training.shapes[order.rows(8, s)].unique()) == 2)
    rows = order.rows(8, mixed)

    def drawn(part: range | None) -> list[Drawn]:
        found = draw(base, training, rows, empty_prompt_share=0.5, seed=0, step=mixed, part=part)
        return Drawn.micro_batches(found, 2)

    whole, shared = drawn(None), [*drawn(range(4)), *drawn(range(4, 8))]
    assert [part.places.tolist() for part in whole] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [part.rows.tolist() for part in whole] == rows.reshape(4, 2).tolist()
    for one, other in zip(whole, shared, strict=True):
        height, width = one.noise.shape[-2:]
        assert one.winner.shape == one.loser.shape == one.noise.shape
        assert one.winner_conditions["time_ids"].tolist() == [[2 * height, 2 * width, 0, 0, 2 * height, 2 * width]] * 2
        for name in ("winner", "loser", "noise", "timesteps"):
            assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert torch.equal(one.winner_conditions["text"], other.winner_conditions["text"])
    seen = torch.cat([part.noise.flatten() for part in whole])
    assert len(seen.unique()) == len(seen)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["sdxl", "sd3", "flux", "ovis_u1"])
def test_a_training_goes_on_to_the_bit(
    family: str, request: pytest.FixtureRequest, tiny_job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = _world(request, family, tmp_path / "pairs")
    kind = type(open_described(world[0]))
    seen: list[tuple[int, ...]] = []
    predict = kind.predict

    def spy(base: Any, denoiser: Any, noisy: torch.Tensor, timesteps: Any, conditions: Any) -> torch.Tensor:
        seen.append(tuple(noisy.shape))
        return predict(base, denoiser, noisy, timesteps, conditions)

    monkeypatch.setattr(kind, "predict", spy)
    # Steps are random, but of the same seed everywhere: of eight micro-batches some are wide.
    guard = {"mu": 0.5, "granularity": "global"}
    settings = {**SETTINGS, "safeguard": guard, "sample_every": 4, "keep_state": True, "checkpoint_every": 2}
    whole, cut = ({**tiny_job(world, **settings), "root": str(tmp_path / root)} for root in ("whole", "cut"))
    train(whole)
    # Two held-out pairs of each shape at once; then micro-batches of two, winners and losers together and apart.
    assert {(2, 4, 16, 16), (2, 4, 16, 24), (4, 4, 16, 16), (4, 4, 16, 24)} <= set(seen)
    train({**cut, "training": {**cut["training"], "steps": 2}})
    train(cut)
    first, second = weights(whole), weights(cut)
    assert all(torch.equal(first[name], second[name]) for name in first)
    before = open_described(world[0]).load_denoiser().state_dict()
    assert any(not torch.equal(first[name], before[name]) for name in first)
    drift = pd.read_parquet(layout.model(whole["root"], "tiny/variant/seed0") / "drift.parquet")
    assert drift["winner_drift"][0] == 0 and drift["pairs"].tolist() == [4, 4, 4]
    samples = sorted((layout.model(whole["root"], "tiny/variant/seed0") / "samples").rglob("*.png"))
    assert {Image.open(file).size for file in samples} == {SQUARE, WIDE}


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("--sharding", "fsdp2")])
def test_two_processes_train_the_model_that_one_trains(
    options: tuple[str, ...],
    in_two_processes: Callable[..., subprocess.CompletedProcess[str]],
    sdxl_world: World,
    tiny_job: Job,
) -> None:
    """One has square pairs in passes in which the other has wide ones."""
    settings = {**SETTINGS, "batch_size": 8, "steps": 3, "safeguard": {"mu": 0.5, "granularity": "global"}}
    one, two = (tiny_job(sdxl_world, root=root, **settings) for root in ("one", "two"))
    shapes = cache.load(sdxl_world[1], "train").shapes
    passes = [shapes[Order(shapes, 2, 0).rows(8, step)][::2].reshape(2, 2) for step in (1, 2, 3)]
    assert any((own != other).any() for own, other in passes)
    done = in_two_processes(two, *options)
    assert done.returncode == 0, done.stderr
    train(one)
    columns = ["loss", "winner_drift", "safe_scale_mean", "grad_norm"]
    logs = [pd.read_parquet(layout.model(x["root"], "tiny/variant/seed0") / "training.parquet") for x in (one, two)]
    pd.testing.assert_frame_equal(logs[0][columns], logs[1][columns], rtol=1e-3, atol=1e-6)
    start = open_described(sdxl_world[0]).load_denoiser().state_dict()
    first, second = weights(one), weights(two)
    moved, apart = (torch.cat([(first[name] - x[name]).flatten() for name in first]).norm() for x in (start, second))
    assert float(apart / moved) < 0.02


def test_drift_is_the_mean_over_pairs_of_each_shape(sdxl_world: World) -> None:
    base, heldout = open_described(sdxl_world[0]), cache.load(sdxl_world[1], "heldout")
    probe = HeldoutProbe(base, heldout, 8)
    assert sorted(place for batch in probe.batches for place in batch.places.tolist()) == [0, 1, 2, 3]
    assert len(probe.batches) == 2
    torch.manual_seed(0)
    other = base.load_denoiser()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape))
    errors = probe._errors(other)
    for batch in probe.batches:
        alpha, sigma = (c[:, None, None, None] for c in base.coefficients(batch.timesteps))
        with torch.no_grad():
            noisy = alpha * batch.winner + sigma * batch.noise
            found = base.predict(other, noisy, batch.timesteps, batch.winner_conditions)
        expected = (found - batch.noise).square().flatten(1).mean(1)
        torch.testing.assert_close(errors[0, batch.places], expected, rtol=1e-5, atol=1e-6)


def test_a_micro_batch_of_the_audit_has_one_shape(sdxl_world: World) -> None:
    base, training = open_described(sdxl_world[0]), cache.load(sdxl_world[1], "train")
    denoisers = base.load_denoiser(), base.load_denoiser()
    auditor = Auditor(base, *denoisers, training, {}, AuditSettings(), StepSettings(batch_size=3))
    batches = [auditor.micro_batch(number) for number in range(6)]
    assert {tuple(batch.noisy.shape) for batch in batches} == {(6, 4, 16, 16), (6, 4, 16, 24)}
    for batch in batches:
        height, width = batch.noisy.shape[-2:]
        assert batch.conditions["time_ids"][:, 4:].tolist() == [[2 * height, 2 * width]] * 6


def test_the_pairs_of_a_step_that_is_not_finite_are_kept_by_shape(sdxl_world: World, tmp_path: Path) -> None:
    base, training = open_described(sdxl_world[0]), cache.load(sdxl_world[1], "train")
    drawn = draw(base, training, torch.arange(4), empty_prompt_share=0.0, seed=0, step=1)
    file = checkpoint.save_batch(tmp_path, drawn, [own.rows for own in drawn], process=0, step=1)
    saved = load_file(file)
    assert [saved[f"{i}.pair_ids"].tolist() for i in (0, 1)] == [[0, 2], [1, 3]]
    assert [tuple(saved[f"{i}.winner"].shape) for i in (0, 1)] == [(2, 4, 16, 16), (2, 4, 16, 24)]
    assert torch.equal(saved["1.loser.time_ids"], drawn[1].loser_conditions["time_ids"])


def test_steps_that_do_not_make_whole_micro_batches() -> None:
    objective = objectives.create("diffusion_dpo", beta=1.0)
    with pytest.raises(InputError, match=r"micro_batch_size is 3: expected a divisor of training.batch_size, 8: .*one"):
        micro_batches(TrainingSettings(batch_size=8, micro_batch_size=3), objective, 1, several_shapes=True)
    with pytest.raises(
        InputError, match=r"micro_batch_size is left out: expected a number .*several sizes, and 2 proc"
    ):
        micro_batches(TrainingSettings(batch_size=8), objective, 2, several_shapes=True)
    assert len(micro_batches(TrainingSettings(batch_size=8), objective, 1, several_shapes=True)) == 1
