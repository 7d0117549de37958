from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors import safe_open

from artifacts.errors import InputError
from sdpo.bases import open_described
from sdpo.bases.sd15 import StableDiffusion
from sdpo.pairs import cache
from sdpo.training import checkpoint
from sdpo.training.drawing import draw
from sdpo.training.job import train
from sdpo.training.order import Order

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]


def test_newest_two_are_kept_and_the_newest_is_read(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        checkpoint.save(tmp_path, step, {"step": step, "weights": torch.full((2,), float(step))})
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("step-00000010.pt", "step-00000010.sha256", "step-00000100.pt", "step-00000100.sha256")
    ]
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 100
    assert state["weights"].tolist() == [100.0, 100.0]


def test_as_many_are_kept_as_asked(tmp_path: Path) -> None:
    for step in range(1, 6):
        checkpoint.save(tmp_path, step, {"step": step}, kept=3)
    assert [path.name for path in sorted(tmp_path.glob("*.pt"))] == [f"step-0000000{i}.pt" for i in (3, 4, 5)]
    assert len(list(tmp_path.iterdir())) == 6


def test_one_wrong_bit_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Torch itself reads a state whose weights have changed."""
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"step": step, "weights": torch.zeros(1000)})
    file = tmp_path / "step-00000002.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 1
    assert "step-00000002.pt cannot be read (its checksum is not the one written)" in capsys.readouterr().err


def test_state_without_its_checksum_is_not_taken_up(tmp_path: Path) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"step": step})
    (tmp_path / "step-00000002.sha256").unlink()
    state = checkpoint.load_newest(tmp_path)
    assert state is not None
    assert state["step"] == 1


def test_state_is_mapped_and_outlives_its_file(tmp_path: Path) -> None:
    """Eight processes that resume hold no copy each; what is written into the tensors stays out of the file."""
    checkpoint.save(tmp_path, 1, {"weights": torch.arange(100_000.0)})
    file = tmp_path / "step-00000001.pt"
    content = file.read_bytes()
    weights = checkpoint.read(file)["weights"]
    (mapping,) = [x for x in Path("/proc/self/maps").read_text().splitlines() if x.endswith(str(file))]
    first, last = (int(x, 16) for x in mapping.split()[0].split("-"))
    assert first <= weights.data_ptr() < last
    weights.add_(1)
    assert file.read_bytes() == content
    file.unlink()
    assert weights[-1] == 100_000


def test_no_state_at_all(tmp_path: Path) -> None:
    assert checkpoint.load_newest(tmp_path) is None
    assert checkpoint.load_newest(tmp_path / "absent") is None


def test_every_damaged_state_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"step": step})
    (tmp_path / "step-00000001.pt").write_bytes(b"")
    (tmp_path / "step-00000002.pt").write_bytes(b"PK\x03\x04 torn")
    assert checkpoint.load_newest(tmp_path) is None
    warnings = capsys.readouterr().err
    assert warnings.index("step-00000002.pt") < warnings.index("step-00000001.pt")


def test_damaged_state_does_not_count_among_the_kept(tmp_path: Path) -> None:
    """Its step is higher than that of the states written after going back."""
    for step in (2, 4):
        checkpoint.save(tmp_path, step, {"step": step})
    (tmp_path / "step-00000004.pt").write_bytes(b"torn")
    assert checkpoint.load_newest(tmp_path) == {"step": 2}
    checkpoint.save(tmp_path, 3, {"step": 3}, kept=1)
    assert checkpoint.load_newest(tmp_path) == {"step": 3}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("step-00000003.pt", "step-00000003.sha256", "step-00000004.pt.damaged")
    ]
    checkpoint.remove(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_state_that_would_run_code_is_not_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.save(tmp_path, 3, {"step": 3, "hidden": Path("x")})
    assert checkpoint.load_newest(tmp_path) is None
    assert "step-00000003.pt cannot be read" in capsys.readouterr().err


def test_failed_write_leaves_the_states_there_were(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, 1, {"step": 1})
    with pytest.raises(AttributeError):
        checkpoint.save(tmp_path, 2, {"step": lambda: None})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001.pt", "step-00000001.sha256"]


def _hold(folder: Path, seconds: float) -> None:
    with checkpoint.owned(folder):
        (folder / "held").touch()
        time.sleep(seconds)
        (folder / "done").touch()


def test_second_process_waits_for_the_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(tmp_path, 0.5))
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    with checkpoint.owned(tmp_path):
        assert (tmp_path / "done").exists()
    process.join()
    assert "waiting" in capsys.readouterr().err


@pytest.mark.parametrize("safeguard", [None, {"mu": 0.5}])
def test_batch_of_a_step_that_is_not_finite_is_saved(
    tiny_sd15_world: World, tiny_job: Job, safeguard: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prediction with one infinity in step 2: the weights are finite, and only the batch tells what happened."""
    job = tiny_job(tiny_sd15_world, safeguard=safeguard, checkpoint_every=1, empty_prompt_share=0.5)
    predict, calls = StableDiffusion.predict, []

    def broken(base: StableDiffusion, denoiser: Any, noisy: Any, timesteps: Any, conditions: Any) -> Any:
        predicted = predict(base, denoiser, noisy, timesteps, conditions)
        if next(denoiser.parameters()).requires_grad:
            calls.append(noisy)
            if len(calls) == 2:
                predicted = predicted.clone()
                predicted[0, 0, 0, 0] = float("inf")
        return predicted

    monkeypatch.setattr(StableDiffusion, "predict", broken)
    # The drift of the start is measured with the policy, too.
    monkeypatch.setattr("sdpo.training.heldout_drift.HeldoutProbe.measure", lambda *_: {"step": 0})
    with pytest.raises(
        InputError, match=r"variant seed 0: .* not finite.* at step 2; .*; the pairs of this step are in"
    ) as error:
        train(job)
    (file,) = Path(job["root"], "checkpoints").rglob("not-finite-step-00000002.safetensors")
    assert str(file) in str(error.value)
    assert [path.name for path in file.parent.glob("step-*.pt")] == ["step-00000001.pt"]
    with safe_open(file, "pt") as saved:
        about = json.loads(saved.metadata()["about"])
        tensors = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118
    assert (about["label"], about["seed"], about["step"]) == ("variant seed 0", 0, 2)
    base = open_described(tiny_sd15_world[0])
    training = cache.load(tiny_sd15_world[1], "train")
    rows = Order(training.shapes, 4, 0).rows(4, 2)
    (drawn,) = draw(base, training, rows, empty_prompt_share=0.5, seed=0, step=2)
    for name in ("winner", "loser", "noise", "timesteps"):
        assert torch.equal(tensors[name], getattr(drawn, name)), name
    assert torch.equal(tensors["winner.text"], drawn.winner_conditions["text"])
    index = pd.read_parquet(tiny_sd15_world[1] / "index.parquet")
    own = index[(index["split"] == "train") & (index["label"] == 1)]["pair_id"].to_numpy()
    assert tensors["pair_ids"].tolist() == own[drawn.rows.numpy()].tolist()
