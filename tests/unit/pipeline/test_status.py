from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifacts import layout, locks
from pipeline.config import validate
from pipeline.jobs import Plan
from pipeline.status import WIDTH, ModelStatus, model_statuses, report, stage_counts

ROOT = Path(__file__).parents[3]
NOW = 1_000_000.0

pytestmark = pytest.mark.usefixtures("few_names")


@pytest.fixture
def plan(config: dict[str, Any], tmp_path: Path) -> Plan:
    config["training"] = {"steps": 40, "warmup_steps": 1, "batch_size": 8, "export_at": [20]}
    config["variants"] = config["variants"][2:]
    return Plan(validate(config, check_files=False), tmp_path)


def begun(plan: Plan, model: str, step: int, *, digest: str = "d" * 16, age: float = 60.0) -> Path:
    """Log and states of a training that has come to a step, the last of them two steps before it."""
    folder = layout.checkpoints(plan.root, model, digest)
    folder.mkdir(parents=True)
    (folder / "lock").touch()
    drift = [{"step": 0, "winner_drift": 0.0}, {"step": step, "winner_drift": -0.00125}]
    training = [{"step": s, "safe_scale_mean": s / 100, "samples_per_second": 4.0} for s in range(1, step + 1)]
    for name, rows in (("drift", drift), ("training", training)):
        (folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    for state in (step - 4, step - 2):
        (folder / f"step-{state:08d}.pt").touch()
    for file in folder.iterdir():
        os.utime(file, (NOW - age, NOW - age))
    return folder


def write_model(plan: Plan, model: str, age: float) -> None:
    file = layout.model(plan.root, model) / "provenance.json"
    file.parent.mkdir(parents=True)
    file.touch()
    os.utime(file, (NOW - age, NOW - age))


def by_name(plan: Plan) -> dict[str, ModelStatus]:
    return {status.name.removeprefix("miniature/dmpo+sdpo"): status for status in model_statuses(plan, now=NOW)}


def test_a_model_waits_runs_is_left_or_done(plan: Plan) -> None:
    assert {name: status.state for name, status in by_name(plan).items()} == dict.fromkeys(
        ("@20/seed0", "@20/seed1", "/seed0", "/seed1"), "waiting"
    )
    folder = begun(plan, "miniature/dmpo+sdpo/seed0", 30)
    # That of other settings, and older.
    begun(plan, "miniature/dmpo+sdpo/seed0", 12, digest="e" * 16, age=500.0)
    write_model(plan, "miniature/dmpo+sdpo@20/seed0", age=70.0)
    # Ten steps of eight pairs, four a second.
    running = ModelStatus(
        "miniature/dmpo+sdpo/seed0", "running", 40, 30, -0.00125, 0.3, 4.0, seconds_left=20.0, state_age=60.0
    )
    with locks.held(folder / "lock", doing="trains this model"):
        assert by_name(plan)["/seed0"] == running
    left = by_name(plan)
    assert (left["/seed0"].state, left["/seed0"].step, left["/seed0"].seconds_left) == ("left", 30, None)
    assert (left["@20/seed0"].state, left["@20/seed0"].step, left["@20/seed0"].steps) == ("done", 20, 20)
    assert left["/seed1"] == ModelStatus("miniature/dmpo+sdpo/seed1", "waiting", 40)


def test_a_model_is_done_until_it_is_trained_again(plan: Plan) -> None:
    write_model(plan, "miniature/dmpo+sdpo/seed0", age=50.0)
    assert by_name(plan)["/seed0"].state == "done"
    # Its state stays until the last model of the job is written.
    begun(plan, "miniature/dmpo+sdpo/seed0", 40, age=60.0)
    assert by_name(plan)["/seed0"].state == "done"
    begun(plan, "miniature/dmpo+sdpo/seed0", 10, digest="e" * 16, age=10.0)
    assert (by_name(plan)["/seed0"].state, by_name(plan)["/seed0"].step) == ("left", 10)


def test_stages_are_counted_by_their_files(plan: Plan) -> None:
    for file in (
        layout.prompts(plan.root, "own"),
        layout.images(plan.root, "miniature/dmpo+sdpo@20/seed1", "seen") / "manifest.parquet",
        layout.scores(plan.root, "oracle", "miniature/base", "own"),
        layout.scores(plan.root, "oracle", "miniature/other/seed0", "own"),
    ):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    # The base and two seeds at two steps, on two prompt sets, by two scorers.
    counts = stage_counts(plan)
    assert counts == {
        "prompts": (1, 2),
        "pairs": (0, 1),
        "models": (0, 4),
        "images": (1, 10),
        "scores": (1, 20),
        "tables": (0, 12),
        "report": (0, 7),
    }


def test_table_fits_its_width(plan: Plan) -> None:
    begun(plan, "miniature/dmpo+sdpo/seed0", 30, age=9000.0)
    lines = report(plan, now=NOW).splitlines()
    assert max(map(len, lines)) <= WIDTH
    (row,) = [line for line in lines if line.startswith("miniature/dmpo+sdpo/seed0 ")]
    assert row.split()[1:] == ["left", "30/40", "-1.25e-03", "0.30", "4", "2.5h"]
    long = ModelStatus(f"{'x' * 90}/seed0", "running", 20000, 19999, -1e-3, 0.5, 123.0, 1e5, 1e5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.status.model_statuses", lambda plan, now: [long])
        lines = report(plan, now=NOW).splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[2].startswith("…x") and "xxx/seed0  running" in lines[2]


def test_command_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pipeline.cli import main\n"
        f"main(['status', {str(ROOT / 'config/paper-sd15.yaml')!r}])\n"
        "print(sorted({'torch', 'pandas', 'pyarrow', 'numpy', 'diffusers'} & set(sys.modules)))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    lines = done.stdout.splitlines()
    assert lines[-1] == "[]"
    assert any(line.startswith("sd15/dmpo+sdpo/seed0 ") and " waiting " in line for line in lines)
