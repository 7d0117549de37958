"""States are written while the training goes on, and are those of the moment at which they were asked for."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sdpo.training import checkpoint
from sdpo.training.job import train
from sdpo.training.run import TrainingRun
from sdpo.training.state_writing import StateWriter, on_host

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Writing waits for this event."""
    go_on, save = threading.Event(), checkpoint.save

    def waiting(*arguments: Any, **options: Any) -> None:
        assert go_on.wait(30)
        save(*arguments, **options)

    monkeypatch.setattr(checkpoint, "save", waiting)
    return go_on


def test_state_is_that_of_the_moment_it_was_asked_for(tmp_path: Path, held: threading.Event) -> None:
    """Weights change in place while it is written, those of the optimizer too."""
    weights = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.AdamW([weights], lr=0.5)
    state = {"step": 1, "weights": weights, "optimizer": optimizer.state_dict(), "average": [torch.zeros(2)]}
    with StateWriter() as writer:
        weights.grad = torch.ones(3)
        optimizer.step()
        state["optimizer"] = optimizer.state_dict()
        expected = weights.detach().clone()
        writer.write(tmp_path, 1, state, kept=2)
        optimizer.step()
        state["average"][0].add_(1)
        assert list(tmp_path.glob("step-*")) == []
        held.set()
    saved = checkpoint.load_newest(tmp_path)
    assert saved is not None
    assert torch.equal(saved["weights"], expected)
    assert not torch.equal(weights, expected)
    assert saved["optimizer"]["state"][0]["step"] == 1
    assert saved["average"][0].tolist() == [0, 0]
    assert saved["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)


def test_each_state_is_its_own_though_the_memory_of_the_first_serves_them_all(tmp_path: Path) -> None:
    """Also where tensors appear, grow, change their type or leave."""
    states: list[dict[str, Any]] = [
        {"weights": torch.ones(3), "moments": [torch.ones(2), torch.ones(1)], "gone": torch.ones(1)},
        {"weights": torch.full((3,), 2.0), "moments": [torch.full((2,), 2.0)], "new": torch.ones(1)},
        {"weights": torch.full((3,), 3.0, dtype=torch.float64), "moments": [torch.full((4,), 3.0)], "step": 3},
    ]
    with StateWriter() as writer:
        for step, state in enumerate(states, start=1):
            writer.write(tmp_path, step, state, kept=1)
            writer.finish()
            saved = checkpoint.load_newest(tmp_path)
            assert saved is not None
            torch.testing.assert_close(saved, state, rtol=0, atol=0)


def test_the_memory_of_a_former_copy_is_taken() -> None:
    first = on_host({"weights": torch.ones(3)})
    second = on_host({"weights": torch.zeros(3)}, first)
    assert second["weights"].data_ptr() == first["weights"].data_ptr()
    assert second["weights"].tolist() == [0, 0, 0]


def test_the_training_goes_on_while_a_state_is_written(
    tiny_sd15_world: World, tiny_job: Job, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of step 3 is written when step 5 begins, before which it is on no disk."""
    step, seen = TrainingRun.take_step, []
    job = tiny_job(tiny_sd15_world, checkpoint_every=3, steps=5)

    def watched(run: TrainingRun, *arguments: Any) -> dict[str, Any]:
        seen.append([path.name for path in Path(job["root"]).rglob("step-*.pt")])
        if run.step == 4:
            held.set()
        return step(run, *arguments)

    monkeypatch.setattr(TrainingRun, "take_step", watched)
    train(job)
    assert seen == [[]] * 5


def test_what_goes_wrong_is_raised_by_the_next(tmp_path: Path) -> None:
    with StateWriter() as writer:
        writer.write(tmp_path / "file", 1, {"step": 1}, kept=1)
        writer.finish()
        (tmp_path / "broken").write_text("no folder")
        writer.write(tmp_path / "broken", 2, {"step": 2}, kept=1)
        with pytest.raises(FileExistsError):
            writer.write(tmp_path / "file", 3, {"step": 3}, kept=1)
    assert [path.name for path in (tmp_path / "file").glob("*.pt")] == ["step-00000001.pt"]


def test_the_end_waits_and_tells_what_went_wrong(tmp_path: Path) -> None:
    (tmp_path / "broken").write_text("no folder")
    with pytest.raises(FileExistsError), StateWriter() as writer:
        writer.write(tmp_path / "broken", 2, {"step": 2}, kept=1)


def test_what_ended_the_training_is_told_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken").write_text("no folder")
    with pytest.raises(ZeroDivisionError), StateWriter() as writer:
        writer.write(tmp_path / "broken", 2, {"step": 2}, kept=1)
        raise ZeroDivisionError
    assert "warning: the last state could not be written ([Errno 17] File exists" in capsys.readouterr().err


def test_time_of_a_state_counts_while_it_is_written(tmp_path: Path, held: threading.Event) -> None:
    """For the time budget, before one has ever been whole."""
    with StateWriter() as writer:
        assert writer.longest == 0
        writer.write(tmp_path, 1, {"step": 1}, kept=1)
        time.sleep(0.05)
        assert writer.longest >= 0.05
        held.set()
        writer.finish()
        longest = writer.longest
        time.sleep(0.02)
        assert writer.longest == longest >= 0.05


def test_checksum_is_taken_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "file_sha256", lambda path: pytest.fail("read back"))
    checkpoint.save(tmp_path, 1, {"weights": torch.arange(100_000.0), "more": [torch.ones(3, 3)], "step": 1})
    digest = hashlib.sha256((tmp_path / "step-00000001.pt").read_bytes()).hexdigest()
    assert (tmp_path / "step-00000001.sha256").read_text() == f"{digest}\n"
