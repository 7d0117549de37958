"""The table "What runs again" of docs/architecture.md: files that are deleted or replaced, in a finished benchmark."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sdpo.training.settings import RUN

if TYPE_CHECKING:
    from conftest import Workflow

TABLES = {"compare": 1, "report": 1, "track": 1, "all": 1}
ROOT = Path(__file__).parents[2]
RESULTS = Path("results/tiny")
# Jobs that draw and score: the base, a model from elsewhere and two variants on three prompt sets.
DRAWN = {"generate": 4 * 3, "score": 4 * 3}


def edited(name: str) -> Callable[[], None]:
    """Other content of the same size, under the old time stamp."""

    def change() -> None:
        path = Path(name)
        status = path.stat()
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))

    return change


def deleted(name: str) -> Callable[[], None]:
    def change() -> None:
        path = RESULTS / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


CASES: dict[str, tuple[Callable[[], None], dict[str, int]]] = {
    "an image": (
        deleted("images/miniature/dmpo/seed0/seen/00000.png"),
        {"generate": 1, "score": 1, **TABLES},
    ),
    "a folder of images": (deleted("images/miniature/base/seen"), {"generate": 1, "score": 1, **TABLES}),
    "a model": (deleted("models/miniature/dmpo/seed1"), {"train": 1, "generate": 3, "score": 3, **TABLES}),
    "a model's weights": (
        deleted("models/miniature/dmpo/seed1/unet/diffusion_pytorch_model.safetensors"),
        {"train": 1, "generate": 3, "score": 3, **TABLES},
    ),
    "a score file": (deleted("scores/pickscore/miniature/released/own.parquet"), {"score": 1, **TABLES}),
    "a prompt table": (deleted("prompts/own.parquet"), {"prompts": 1, "generate": 4, "score": 4, **TABLES}),
    "a pair cache": (
        deleted("pairs/renders"),
        {"pairs": 1, "train": 2, "generate": 2 * 3, "score": 2 * 3, **TABLES},
    ),
    "a manifest": (deleted("jobs/generate/base/own.json"), {"generate": 1, "score": 1, **TABLES}),
    "a table": (deleted("tables/scores.csv"), TABLES),
    "a figure": (deleted("figures/grid.png"), {"report": 1, "track": 1, "all": 1}),
    "a score file that was changed": (
        edited("results/tiny/scores/oracle/miniature/base/own.parquet"),
        {"score": 1, **TABLES},
    ),
    "a file of prompts": (edited("prompts.txt"), {"prompts": 1, "generate": 4, "score": 4, **TABLES}),
    "weights of a scorer": (
        edited("resources/miniature/pickscore/model.safetensors"),
        {"score": 4 * 3, **TABLES},
    ),
    "weights of the base": (
        edited("resources/miniature/base/unet/diffusion_pytorch_model.safetensors"),
        {"pairs": 1, "train": 2, **DRAWN, **TABLES},
    ),
    "weights of a model from elsewhere": (
        edited("resources/released/unet/diffusion_pytorch_model.safetensors"),
        {"generate": 3, "score": 3, **TABLES},
    ),
    "published figures": (edited("published.csv"), TABLES),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_gone_or_another_runs_again(
    finished_workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    workflow = finished_workflow.copied(tmp_path)
    monkeypatch.chdir(tmp_path)
    change, planned = CASES[case]
    change()
    assert workflow.planned() == planned


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], dict[str, int]]] = {
    "a new variant": (
        lambda config: config["variants"].append({"name": "sft", "objective": "sft", "pairs": "renders"}),
        {"train": 1, "generate": 3, "score": 3, **TABLES},
    ),
    "a new scorer": (lambda config: config["scorers"].update(jpeg_size={}), {"score": 4 * 3, **TABLES}),
    "a new prompt set": (
        lambda config: config["prompt_sets"].update(relations={"source": "miniature_relations"}),
        {"prompts": 1, "generate": 4, "score": 4, **TABLES},
    ),
    "a new seed": (
        lambda config: config["seeds"].append(2),
        {"train": 2, "generate": 2 * 3, "score": 2 * 3, **TABLES},
    ),
    "another μ of one variant": (
        lambda config: config["variants"][1]["safeguard"].update(mu=0.5),
        {"train": 1, "generate": 3, "score": 3, **TABLES},
    ),
    "a longer training of one variant": (
        lambda config: config["variants"][1].update(training={"steps": 9000}),
        {"train": 1, "generate": 3, "score": 3, **TABLES},
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_config_runs_what_is_new_in_it(
    finished_workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit: str
) -> None:
    workflow = finished_workflow.copied(tmp_path)
    monkeypatch.chdir(tmp_path)
    change, planned = EDITS[edit]
    change(workflow.config)
    assert workflow.planned() == planned


def test_limiting_a_scorer_runs_the_tables_and_taking_the_limit_away_what_is_missing(
    finished_workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = finished_workflow.copied(tmp_path)
    monkeypatch.chdir(tmp_path)
    workflow.config["scorers"]["oracle"]["prompt_sets"] = ["seen", "own"]
    assert workflow.planned() == TABLES
    workflow.run()
    del workflow.config["scorers"]["oracle"]["prompt_sets"]
    assert workflow.planned() == TABLES
    # What a limited job has written anew is not all that is asked for without the limit.
    workflow.config["scorers"]["oracle"]["prompt_sets"] = ["seen", "own"]
    deleted("images/miniature/dmpo/seed0/held-out")()
    workflow.run()
    del workflow.config["scorers"]["oracle"]["prompt_sets"]
    assert workflow.planned() == {"score": 1, **TABLES}
    text = workflow.run()
    assert "held-out/oracle~pickscore runs again: results/tiny/scores/oracle/miniature/dmpo/seed0/held-out" in text
    assert "Nothing to be done" in workflow.run("--dry-run")


# A step that is exported is a model of its own: test_exports.py.
@pytest.mark.parametrize("name", [name for name in RUN if name != "export_at"])
def test_settings_on_which_no_weight_depends_run_nothing(
    finished_workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    workflow = finished_workflow.copied(tmp_path)
    monkeypatch.chdir(tmp_path)
    other = {"device": "cpu", "keep_state": True, "gradient_checkpointing": True, "loggers": ["mlflow"]}
    workflow.config.setdefault("training", {})[name] = other.get(name, 3)
    assert "Nothing to be done" in workflow.run("--dry-run")
    workflow.config["training"]["batch_size"] = 3
    assert workflow.planned()["train"] == 2


def test_settings_on_which_no_weight_depends_reach_the_command(workflow: Workflow) -> None:
    workflow.config["training"] = {"log_every": 7}
    workflow.run("--until", "train")
    spec = json.loads((workflow.folder / "results/tiny/models/miniature/dmpo/seed0/training.parquet").read_text())
    assert spec.get("together", [spec])[0]["training"]["log_every"] == 7


LOSS = Path(ROOT / "sdpo" / "objectives" / "dmpo.py").read_text()
BRIGHT = """
from evals.networks.interface import fingerprint
VERSION = 1
PROTOCOLS = ("plain",)
NEEDS_WEIGHTS = False
def create(*, protocol, **_):
    raise NotImplementedError
"""
WORDS = Path(ROOT / "evals" / "prompts" / "sources" / "text_file.py").read_text()


def test_changed_code_of_a_plug_in_runs_what_belongs_to_it(
    workflow: Workflow, plug_in: Callable[..., str], tmp_path: Path
) -> None:
    members = {
        "their_loss": ("sdpo.objectives", LOSS),
        "their_scorer": ("evals.scorers", BRIGHT),
        "their_prompts": ("evals.prompt_sources", WORDS),
    }
    files = {
        name: tmp_path / "plug-ins" / f"{plug_in(group, name, text)}.py" for name, (group, text) in members.items()
    }
    (workflow.folder / "words.txt").write_text("a cat\n")
    config = workflow.config
    like = {key: value for key, value in config["variants"][0].items() if key != "name"}
    config["variants"][1] = {**like, "name": "own", "objective": "their_loss"}
    config["prompt_sets"]["own"] = {
        "source": "their_prompts",
        "options": {"path": str(workflow.folder / "words.txt")},
    }
    del config["prompt_sets"]["held-out"], config["scorers"]["pickscore"]
    config["scorers"]["their_scorer"] = {}
    config["execution"] = {**config["execution"], "prompt_sets_per_job": 1, "scorers_per_job": 1, "seeds_per_job": 2}
    workflow.run()
    assert "Nothing to be done" in workflow.run("--dry-run")
    for file in files.values():
        file.write_text(f"# A comment.\n{file.read_text()}")
    assert "Nothing to be done" in workflow.run("--dry-run")
    # The base and two variants, two prompt sets, two scorers.
    expected = {
        "their_loss": {"train": 1, "generate": 2, "score": 4},
        "their_scorer": {"score": 3 * 2},
        "their_prompts": {"prompts": 1, "generate": 3, "score": 3 * 2},
    }
    for name, planned in expected.items():
        before = files[name].read_text()
        files[name].write_text(f"{before}\nCORRECTED = True\n")
        assert workflow.planned() == {**planned, **TABLES}
        files[name].write_text(before)


def test_what_was_made_again_is_made_once_and_other_times_are_no_other_content(
    finished_workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = finished_workflow.copied(tmp_path)
    monkeypatch.chdir(tmp_path)
    deleted("images/miniature/dmpo/seed0/seen/00000.png")()
    text = workflow.run()
    assert "generate dmpo/0-1/seen runs again: results/tiny/images/miniature/dmpo/seed0/seen: 1 of 2 files" in text
    model = "miniature/dmpo/seed0 miniature/dmpo/seed1"
    assert workflow.executed() == ["compare", f"generate {model}", "report", f"score {model}", "track"]
    assert "Nothing to be done" in workflow.run()
    for file in (*Path("resources").rglob("*"), Path("prompts.txt"), *RESULTS.rglob("*.safetensors")):
        os.utime(file)
    assert "Nothing to be done" in workflow.run()


def test_what_a_failed_job_left_undone_is_done_by_the_next_run(
    finished_workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = finished_workflow.copied(tmp_path)
    monkeypatch.chdir(tmp_path)
    workflow.config["training"] = {"steps": 70}
    Path("fails").touch()
    workflow.run(fails=True)
    Path("fails").unlink()
    # The tables are older than what will be trained, though nothing that they were made from has changed yet.
    expected = {"train": 2, "generate": 2 * 3, "score": 2 * 3, **TABLES}
    assert workflow.planned() == expected
    # Nor may they stand if the setting is taken back: the files of the failed job are whoever's.
    del workflow.config["training"]
    assert {"train", "compare"} <= set(workflow.planned())


@pytest.mark.parametrize("execution", [{}, {"seeds_per_job": 1, "generation_shards": 2, "scoring_shards": 2}])
def test_stages_are_rules(workflow: Workflow, execution: dict[str, int]) -> None:
    workflow.config["execution"] |= execution
    whole = workflow.planned()
    after_training = {name: count for name, count in whole.items() if name not in ("prompts", "pairs")}
    until_training = {name: whole[name] for name in ("pairs", "train")}
    assert workflow.planned("--until", "train") == until_training
    drawn = {name: count for name, count in whole.items() if name in ("prompts", "pairs", "train", "generate")}
    assert workflow.planned("--until", "generate") == drawn
    graph = workflow.run("--rulegraph")
    assert {name for name in after_training if f'label = "{name}"' in graph} == set(after_training)
    workflow.run("--until", "generate")
    assert {line.split()[0] for line in workflow.executed()} == {"prompts", "pairs", "train", "generate"}
    assert set(workflow.planned("--forcerun", "train")) == set(after_training)
    workflow.run()
    again = workflow.planned("--forcerun", "train")
    assert again["train"] == whole["train"]
    # The base's images stay as they are.
    assert 0 < again["generate"] < whole["generate"]


def test_prompts_come_first(workflow: Workflow) -> None:
    workflow.run("--cores", "1")
    first = (workflow.folder / "commands").read_text().splitlines()[:2]
    assert sorted(first) == ["prompts held-out", "prompts seen"]
