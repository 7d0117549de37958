from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Workflow

TABLES = {"compare": 1, "report": 1, "track": 1, "all": 1}
WHOLE = {
    "prompts": 2,
    "pairs": 1,
    "train": 2,
    "generate": 3,
    "score": 3,
    **TABLES,
}


def test_job_counts_follow_the_chunks(workflow: Workflow) -> None:
    assert workflow.planned() == WHOLE
    workflow.config["execution"] = {"seeds_per_job": 1, "prompt_sets_per_job": 1, "scorers_per_job": 1}
    # 4 models to train; 5 models x 2 sets; x 2 scorers.
    assert workflow.planned() == {**WHOLE, "train": 4, "generate": 10, "score": 20}


def test_the_miniature_target_needs_no_weights_and_no_benchmark(workflow: Workflow) -> None:
    (workflow.folder / "resources/miniature/base/provenance.json").unlink()
    (workflow.folder / "resources/miniature/base").rmdir()
    assert workflow.planned("miniature") == {
        "miniature_base": 1,
        "miniature_scorer_data": 1,
        "miniature_scorers": 3,
        "miniature_collect": 1,
        "miniature_quality": 1,
        "miniature_flow": 1,
        "miniature": 1,
    }
    # A run refuses to start without them; a dry run says so and goes on.
    missing = 'base.path = "resources/miniature/base": no such file or folder'
    text = workflow.run(fails=True)
    assert text.count(missing) == 2
    assert "1 error(s) in the config; nothing was run" in text
    assert "Traceback" not in text
    assert workflow.executed() == []
    text = workflow.run("--dry-run")
    assert f"warning: not there yet, and nothing is run before they are:\nbench.yaml: {missing}" in text
    assert "This was a dry-run" in text
    assert f"nothing is run before they are:\nbench.yaml: {missing}" in workflow.run("--lint")


def test_a_run_is_complete_and_only_what_changed_runs_again(workflow: Workflow) -> None:
    workflow.run()
    assert len(workflow.executed()) == sum(WHOLE.values()) - 1
    log = workflow.folder / "results/tiny/logs/train/dmpo+sdpo/0-1.log"
    assert log.read_text() == "train done\n"

    assert "Nothing to be done" in workflow.run()
    assert workflow.executed() == []

    workflow.config["variants"].append({"name": "sft", "objective": "sft", "pairs": "renders"})
    workflow.run()
    models = "miniature/sft/seed0 miniature/sft/seed1"
    assert workflow.executed() == [
        "compare",
        f"generate {models}",
        "report",
        f"score {models}",
        "track",
        "train sft",
    ]

    # Weights of another provenance are other weights.
    (workflow.folder / "resources/miniature/pickscore/provenance.json").write_text('{"wall_seconds": 3}')
    assert workflow.planned() == {"score": 4, **TABLES}


def test_models_from_elsewhere_and_shared_images(workflow: Workflow) -> None:
    (workflow.folder / "released.pth").write_text("weights")
    base = {"name": "large", "family": "miniature", "path": "owner/large@1"}
    workflow.config["other_bases"] = [base]
    workflow.config["models"] = [
        {"name": "released", "source": "released.pth"},
        {"name": "large-dpo", "base": "large", "source": "owner/dpo@1", "file": "unet.pth"},
    ]
    # The two models and the other base: each is drawn on both prompt sets by one job, and scored by another.
    assert workflow.planned() == {**WHOLE, "generate": 6, "score": 6}
    workflow.config["execution"]["generation_shards"] = 2
    assert workflow.planned() == {**WHOLE, "generate": 12, "collect": 6, "score": 6}
    workflow.run()
    images = workflow.folder / "results/tiny/images"
    assert (images / "large/large-dpo/held-out/manifest.parquet").exists()
    assert not any((workflow.folder / "results/tiny/image_shards").rglob("*.parquet"))
    assert "generate miniature/released" in workflow.executed()
    assert "Nothing to be done" in workflow.run()

    # Other weights in the same place: that model is drawn again, and nothing else.
    (workflow.folder / "released.pth").write_text("other weights")
    assert workflow.planned() == {"generate": 2, "collect": 1, "score": 1, **TABLES}


def test_shared_scores(workflow: Workflow) -> None:
    workflow.config["execution"]["scoring_shards"] = 3
    assert workflow.planned() == {**WHOLE, "score": 3 * WHOLE["score"], "gather": WHOLE["score"]}
    workflow.run()
    results = workflow.folder / "results/tiny"
    assert (results / "scores/oracle/miniature/base/seen.parquet").exists()
    assert not any((results / "score_shards").rglob("*.parquet"))
    assert "Nothing to be done" in workflow.run()

    # A file that is gone is put together anew, from shares that are scored anew; others stay.
    (results / "scores/oracle/miniature/base/seen.parquet").unlink()
    assert workflow.planned() == {"score": 3, "gather": 1, **TABLES}
    workflow.run()
    assert "Nothing to be done" in workflow.run()

    # Other weights of a scorer: all that it has scored is scored again.
    (workflow.folder / "resources/miniature/pickscore/provenance.json").write_text('{"wall_seconds": 3}')
    assert workflow.planned() == {"score": 3 * WHOLE["score"], "gather": WHOLE["score"], **TABLES}


def test_nothing_needs_to_be_trained(workflow: Workflow) -> None:
    for key in ("pairs", "variants", "seeds"):
        del workflow.config[key]
    workflow.config["models"] = [{"name": "released", "source": "owner/released@1"}]
    assert workflow.planned() == {
        "prompts": 2,
        "generate": 2,
        "score": 2,
        **TABLES,
    }


def test_config_errors_are_printed_alone_and_nothing_runs(workflow: Workflow) -> None:
    workflow.config["variants"][1]["safeguard"] = {"mu": 2}
    workflow.config["seeds"] = []
    workflow.config["scorer"] = {}
    text = workflow.run(fails=True)
    assert "scorer: unknown key: expected one of benchmark, base" in text
    assert "seeds = []: expected at least 1" in text
    assert "variants[1].safeguard.mu = 2 (variant 'dmpo+sdpo'): expected a number of at most 1.0" in text
    assert "3 error(s) in the config; nothing was run" in text
    assert "Traceback" not in text
    assert "Snakefile" not in text
    assert not (workflow.folder / "results").exists()


def test_settings_on_the_command_line_are_refused(workflow: Workflow) -> None:
    # They would reach the workflow past the checks of the file.
    assert "give one --configfile and no --config" in workflow.run("--config", "seeds=[5]", "--dry-run", fails=True)


def test_processes_threads_and_time_limits_reach_the_command_and_run_nothing_again(workflow: Workflow) -> None:
    workflow.config["training"] = {**workflow.config.get("training", {}), "micro_batch_size": 2}
    workflow.run()
    execution = {"processes": 2, "encoding_processes": 2, "threads": 2, "runtime_minutes": 90}
    workflow.config["execution"] = {**workflow.config.get("execution", {}), **execution}
    assert "Nothing to be done" in workflow.run()
    text = workflow.run("--dry-run", "--printshellcmds", "--forcerun", "pairs", "train", "generate", "score")
    for command in ("sdpo pairs --processes 2", "evals generate --threads 2", "evals score --threads 2"):
        assert f"Shell command: {command} --spec" in text
    commands = [line for line in text.splitlines() if line.startswith("Shell command: sdpo train")]
    # The limit is heeded where a cluster enforces it; the shell sees whether that is so.
    assert {command.split(" --spec ")[0] for command in commands} == {
        "Shell command: sdpo train --processes 2 ${SDPO_BENCH_CLUSTER:+--minutes 90}"
    }


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_killed_workflow_is_cleaned_up_and_goes_on(workflow: Workflow) -> None:
    (workflow.folder / "slow").touch()
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *workflow.arguments()],
        cwd=workflow.folder,
        env=workflow.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + 60
    while not (workflow.folder / "started").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    second = [sys.executable, "-m", "snakemake", *workflow.arguments()]

    def refused() -> str:
        run = subprocess.run(second, env=workflow.environment, capture_output=True, text=True, cwd=workflow.folder)
        assert run.returncode == 1
        assert "Traceback" not in run.stderr + run.stdout
        (line,) = (line for line in run.stderr.splitlines() if line.startswith("error:"))
        return line

    assert f"snakemake (process {process.pid}, since" in refused()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert "no workflow is known to run here; `sdpo-bench unlock`" in refused()
    (workflow.folder / "slow").unlink()

    unlock = [sys.executable, "-m", "pipeline.cli", "unlock", str(workflow.folder)]
    text = subprocess.run(unlock, capture_output=True, text=True, check=True).stdout
    assert "stopped a job of a killed workflow" in text
    assert "removed the lock of a killed workflow" in text
    assert subprocess.run(unlock, capture_output=True, text=True, check=True).stdout.startswith("nothing to clean up")

    workflow.executed()
    workflow.run("--rerun-incomplete")
    assert [line for line in workflow.executed() if line.startswith("train")] == ["train dmpo", "train dmpo+sdpo"]
    assert "Nothing to be done" in workflow.run()


def test_pair_sets_come_first_and_all_trainings_before_anything_is_drawn_from_a_model(workflow: Workflow) -> None:
    """Else the longest jobs are left for the end, one after another, while the other cores have nothing to do."""
    workflow.config["execution"]["seeds_per_job"] = 1
    workflow.config["variants"][1]["pairs"] = "unused"
    workflow.run("--cores", "1")
    order = [line.split()[0] for line in (workflow.folder / "commands").read_text().splitlines()]
    assert (order.count("pairs"), order.count("train")) == (2, 4)
    trained = [i for i, stage in enumerate(order) if stage == "train"]
    assert max(i for i, stage in enumerate(order) if stage == "pairs") < min(trained)
    assert max(trained) < min(i for i, stage in enumerate(order) if stage in ("generate", "score"))
