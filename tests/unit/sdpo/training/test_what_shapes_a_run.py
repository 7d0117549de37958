"""What makes a training start anew, and what lets it go on from its state."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from artifacts import layout
from artifacts.atomic import file_sha256
from sdpo import objectives
from sdpo.training import checkpoint
from sdpo.training.job import train
from sdpo.training.settings import RUN, TrainingSettings, shaping

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]
MEASURED = ["samples_per_second", "peak_memory_bytes"]
BASE = {"steps": 4, "checkpoint_every": 1, "drift_every": 3, "log_every": 3}
OTHER: dict[str, Any] = {
    "log_every": 1,
    "drift_every": 2,
    "sample_every": 2,
    "sample_prompts": 1,
    "sample_guidance": 1.0,
    "checkpoint_every": 100,
    "kept_checkpoints": 5,
    "keep_state": True,
    "loggers": ["mlflow"],
    "export_at": [1],
    "device": "cpu",
    "threads": 2,
    "gradient_checkpointing": True,
}


def outcome(job: dict[str, Any]) -> tuple[dict[str, str], pd.DataFrame, pd.DataFrame]:
    folder = layout.model(job["root"], "tiny/variant/seed0")
    weights = {path.name: file_sha256(path) for path in folder.rglob("*.safetensors")}
    log = pd.read_parquet(folder / "training.parquet").drop(columns=MEASURED)
    return weights, log, pd.read_parquet(folder / "drift.parquet")


def states(job: dict[str, Any]) -> list[str]:
    return sorted(path.name for path in Path(job["root"], "checkpoints").rglob("step-*.pt"))


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Any], int], None]:
    """Train until the state after a step is written."""

    def run(job: dict[str, Any], step: int) -> None:
        original = checkpoint.save

        def dying(folder: Path, at: int, state: dict[str, Any], **options: Any) -> None:
            original(folder, at, state, **options)
            if at == step:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(checkpoint, "save", dying)
            train(job)

    return run


def test_every_setting_of_a_run_is_tried() -> None:
    assert set(OTHER) == set(RUN)


@pytest.mark.parametrize("name", ["log_every", "checkpoint_every", "sample_every", "keep_state"])
def test_a_run_goes_on_when_only_its_notes_change(
    tiny_sd15_world: World,
    tiny_job: Job,
    interrupted: Callable[[dict[str, Any], int], None],
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    whole, job = (tiny_job(tiny_sd15_world, root=root, **BASE) for root in ("whole", "job"))
    train(whole)
    interrupted(job, 2)
    job["training"][name] = OTHER[name]
    train(job)
    assert "resumed at step 2 of 4" in capsys.readouterr().err
    assert outcome(job)[0] == outcome(whole)[0]
    assert states(job) == (["step-00000004.pt"] if name == "keep_state" else [])


@pytest.mark.parametrize("name", RUN)
def test_settings_of_a_run_are_outside_of_what_shapes_it(tiny_sd15_world: World, tiny_job: Job, name: str) -> None:
    training = tiny_job(tiny_sd15_world, **BASE)["training"]
    assert shaping({**training, name: OTHER[name]}) == shaping(training)
    TrainingSettings(**{**training, name: OTHER[name]})


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 8},
        {"learning_rate": 2e-4},
        {"warmup_steps": 1},
        {"heldout_pairs": 3},
        {"micro_batch_size": 2},
        {"tf32": True},
        {"precision": "bfloat16"},
        {"schedule": "linear"},
    ],
)
def test_all_else_shapes_it(tiny_sd15_world: World, tiny_job: Job, change: dict[str, Any]) -> None:
    training = tiny_job(tiny_sd15_world, **BASE)["training"]
    assert shaping({**training, **change}) != shaping(training)
    decaying = {**training, "schedule": "cosine"}
    assert shaping({**training, "steps": 9}) == shaping(training)
    assert shaping({**decaying, "steps": 9}) != shaping(decaying)


@pytest.mark.parametrize("settings", [{}, {"lora": {"rank": 2}, "ema_decay": 0.9}])
def test_a_longer_run_goes_on_from_a_kept_state_to_the_same_bits(
    tiny_sd15_world: World, tiny_job: Job, settings: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in its notes: those of the last step, which the shorter run made because it was the last, are taken back."""
    longer = {**BASE, "steps": 7, **settings}
    whole, job = (tiny_job(tiny_sd15_world, root=root, **longer) for root in ("whole", "job"))
    train(whole)
    short = {**job, "training": {**job["training"], "steps": 4, "keep_state": True}}
    train(short)
    assert outcome(short)[1]["step"].tolist() == [3, 4]
    assert states(short) == ["step-00000004.pt"]
    capsys.readouterr()
    train(job)
    assert "resumed at step 4 of 7" in capsys.readouterr().err
    (weights, log, drift), (other_weights, other_log, other_drift) = outcome(whole), outcome(job)
    assert weights == other_weights
    pd.testing.assert_frame_equal(log, other_log, check_exact=True)
    pd.testing.assert_frame_equal(drift, other_drift, check_exact=True)
    assert log["step"].tolist() == [3, 6, 7]
    assert states(job) == []


def test_a_shorter_run_drops_the_states_of_a_longer_one(
    tiny_sd15_world: World, tiny_job: Job, interrupted: Callable[[dict[str, Any], int], None]
) -> None:
    whole, job = (tiny_job(tiny_sd15_world, root=root, **{**BASE, "steps": 2}) for root in ("whole", "job"))
    train(whole)
    longer = {**job, "training": {**job["training"], "steps": 7}}
    interrupted(longer, 5)
    assert states(job) == ["step-00000004.pt", "step-00000005.pt"]
    interrupted(job, 1)
    assert states(job) == ["step-00000001.pt"]
    train(job)
    assert outcome(job)[0] == outcome(whole)[0]
    assert outcome(job)[1]["step"].tolist() == [2]


def test_changed_code_of_the_objective_starts_anew(
    tiny_sd15_world: World,
    tiny_job: Job,
    interrupted: Callable[[dict[str, Any], int], None],
    plug_in: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Interrupt, correct a sign, run again: not a model of two losses. A comment is no correction."""
    source = Path(str(objectives.load("diffusion_dpo").__file__)).read_text()
    module = plug_in("sdpo.objectives", "corrected", source)
    file = tmp_path / "plug-ins" / f"{module}.py"
    job = tiny_job(tiny_sd15_world, objective="corrected", **BASE)
    interrupted(job, 2)
    file.write_text(source + "\n# A comment.\n")
    interrupted(job, 3)
    assert "resumed at step 2" in capsys.readouterr().err
    file.write_text(source + "\nCORRECTED = True\n")
    interrupted(job, 1)
    assert "resumed" not in capsys.readouterr().err
    assert len(list(Path(job["root"], "checkpoints").rglob("step-00000003.pt"))) == 1
    assert len({path.parent for path in Path(job["root"], "checkpoints").rglob("step-*.pt")}) == 2
