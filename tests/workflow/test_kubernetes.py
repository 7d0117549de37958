from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from conftest import Workflow

ROOT = Path(__file__).parents[2]
PROFILE = ("--profile", str(ROOT / "profiles/kubernetes"), "--seconds-between-status-checks", "1")


@pytest.fixture
def pods(workflow: Workflow, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the jobs that were created, by a ``kubectl`` that runs them here."""
    folder = workflow.folder / "pods"
    folder.mkdir()
    stub = workflow.folder / "bin/kubectl"
    stub.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{Path(__file__).with_name("stub_kubectl.py")}" "$@"\n')
    stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PODS", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    del workflow.config["variants"][1], workflow.config["prompt_sets"]["held-out"]
    return folder


def created(pods: Path) -> dict[str, dict[str, Any]]:
    """The jobs' manifests by what they do."""
    jobs = [json.loads(file.read_text()) for file in pods.glob("*.json")]
    return {job["metadata"]["annotations"]["job"]: job for job in jobs}


def test_jobs_run_in_pods_that_ask_for_what_the_config_says(workflow: Workflow, pods: Path) -> None:
    workflow.config["execution"] |= {"gpu": 1, "processes": 2, "memory_mb": 20000, "runtime_minutes": 90}
    workflow.run(*PROFILE)
    asked = {work: job["spec"]["template"]["spec"] for work, job in created(pods).items()}
    # Both seeds in one job; tables, page and the like are no pods.
    assert set(asked) == {
        "pairs renders",
        "train dmpo/0-1",
        "generate base/seen",
        "generate dmpo/0-1/seen",
        "score base/seen/oracle~pickscore",
        "score dmpo/0-1/seen/oracle~pickscore",
    }
    assert "Nothing to be done" in workflow.run()
    training, scoring = asked["train dmpo/0-1"], asked["score base/seen/oracle~pickscore"]
    assert training["activeDeadlineSeconds"] == 90 * 60
    (container,) = training["containers"]
    assert container["workingDir"] == str(workflow.folder)
    # A thread and a GPU for each of its processes.
    assert container["resources"]["limits"] == {"cpu": 2, "memory": "20000M", "nvidia.com/gpu": 2}
    (container,) = scoring["containers"]
    assert container["resources"]["limits"] == {"cpu": 1, "memory": "20000M", "nvidia.com/gpu": 1}


def test_a_failed_pod_is_tried_again_and_named_in_one_line(workflow: Workflow, pods: Path) -> None:
    (workflow.folder / "fails").touch()
    target = "results/tiny/jobs/train/dmpo/0-1.json"
    text = workflow.run(*PROFILE, "--retries", "1", "--", target, fails=True)
    (name,) = (job["metadata"]["name"] for work, job in created(pods).items() if work.startswith("train"))
    failures = [line for line in text.splitlines() if line.startswith("error:")]
    log = "results/tiny/logs/train/dmpo/0-1.log"
    assert failures == [f"error: train failed (job {name}): {log} ends with: failed"] * 2
