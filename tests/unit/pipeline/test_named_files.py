"""What `sdpo-bench check` finds before the first job: missing files, what is no base, prompts that cannot be had."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import main
from pipeline.config import ConfigError, load, validate

ROOT = Path(__file__).parents[3]
Config = dict[str, Any]
GONE = "no such file or folder; paths are relative to where snakemake is started"
SOURCE = """
from evals.prompts import Prompt
DEFAULTS = {"list_file": None, "count": 3}
def read(options):
    return [Prompt(f"a cat {i}") for i in range({**DEFAULTS, **options}["count"])]
"""
PAIRS = """
from pydantic import BaseModel, Field
class Options(BaseModel):
    manifest: str = Field(description="Files.")
    weight: float = 1.0
def read(options, *, base_path):
    yield from ()
"""


@pytest.fixture
def lines(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """What is wrong with the config, without a base that would be missing, by what ``check`` does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "resources/miniature").mkdir(parents=True)
    shutil.copytree(ROOT / "resources/miniature/base", tmp_path / "resources/miniature/base")
    (tmp_path / "resources/miniature/pickscore").mkdir()
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    del config["scorers"]["oracle"]

    def found() -> list[str]:
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
        try:
            load("c.yaml", read_files=True)
        except ConfigError as error:
            return [line.removeprefix("c.yaml: ") for line in error.lines]
        return []

    return found


def test_a_config_whose_files_are_there(lines: Callable[..., list[str]]) -> None:
    assert lines() == []


def test_a_limit_above_the_size_of_the_set(config: Config, lines: Callable[..., list[str]]) -> None:
    config["prompt_sets"]["own"]["limit"] = 3
    config["prompt_sets"]["seen"]["limit"] = 2400
    assert lines() == [
        "prompt_sets.own: source 'text_file' has 2 prompts, limit is 3",
        "prompt_sets.seen: source 'miniature_seen' has 1000 prompts, limit is 2400",
    ]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            None,
            'prompt_sets.own.options.path = "prompts.txt": no such file or folder; paths are relative to where snake',
        ),
        (b"\xff\xfe\xff", "prompt_sets.own: "),
        (b"\n\n", "prompt_sets.own: "),
    ],
)
def test_a_file_of_prompts_that_cannot_be_had(
    tmp_path: Path, lines: Callable[..., list[str]], content: bytes | None, line: str
) -> None:
    (tmp_path / "prompts.txt").unlink()
    if content is not None:
        (tmp_path / "prompts.txt").write_bytes(content)
    (found,) = lines()
    assert found.startswith(line)


def test_prompts_that_a_scorer_cannot_judge(config: Config, lines: Callable[..., list[str]]) -> None:
    config["scorers"]["oracle"] = {}
    (found,) = lines()
    assert found.startswith("prompt_sets.own: scorer 'oracle' cannot judge 2 of 2 prompts, from 0: 0: 'a cat'")
    assert "; name the sets that it rates in scorers.oracle.prompt_sets, or leave out" in found
    config["scorers"]["oracle"]["prompt_sets"] = [name for name in config["prompt_sets"] if name != "own"]
    assert lines() == []


def test_published_prompts_are_read_only_if_they_are_here(config: Config, lines: Callable[..., list[str]]) -> None:
    config["prompt_sets"] = {"pap": {"source": "papv2", "limit": 5000}}
    assert lines() == []
    config["prompt_sets"]["pap"]["options"] = {"path": "nowhere.json"}
    assert [line.partition(": no such")[0] for line in lines()] == ['prompt_sets.pap.options.path = "nowhere.json"']


def test_files_in_options_of_plug_ins(config: Config, lines: Callable[..., list[str]], plug_in: Any) -> None:
    plug_in("evals.prompt_sources", "numbered", SOURCE)
    plug_in("sdpo.pair_sources", "listed", PAIRS)
    config["prompt_sets"] = {"x": {"source": "numbered", "limit": 4, "options": {"list_file": "gone.csv"}}}
    config["pairs"]["renders"] = {"source": "listed", "options": {"manifest": "sums.txt", "weight": "2"}}
    assert lines() == [
        'pairs.renders.options.weight = "2": expected a number',
        f'pairs.renders.options.manifest = "sums.txt": {GONE}',
        f'prompt_sets.x.options.list_file = "gone.csv": {GONE}',
    ]
    config["pairs"]["renders"]["options"] = {"manifest": "prompts.txt"}
    config["prompt_sets"]["x"]["options"] = {"list_file": "prompts.txt"}
    assert lines() == ["prompt_sets.x: source 'numbered' has 3 prompts, limit is 4"]


def test_a_source_that_fetches_is_not_read(config: Config, lines: Callable[..., list[str]], plug_in: Any) -> None:
    plug_in("evals.prompt_sources", "far", f"{SOURCE}\nFETCHES = True\n")
    config["prompt_sets"] = {"x": {"source": "far", "limit": 4}}
    assert lines() == []


@pytest.mark.parametrize(
    ("returned", "line"),
    [
        ("options['path']", "source 'far' fails: KeyError: 'path' ("),
        ("['a cat']", "source 'far' gives 'a cat', expected evals.prompts.Prompt"),
        ("None", "source 'far' fails: TypeError: 'NoneType' object is not iterable"),
        ("[Prompt(3)]", "source 'far': prompt 0, from 0, is "),
        ("[]", "source 'far' has 0 prompts"),
    ],
)
def test_a_source_that_fails_is_one_line(
    config: Config, lines: Callable[..., list[str]], plug_in: Any, returned: str, line: str
) -> None:
    code = f"from evals.prompts import Prompt\ndef read(options):\n    return {returned}\n"
    plug_in("evals.prompt_sources", "far", code)
    config["prompt_sets"] = {"x": {"source": "far"}}
    (found,) = lines()
    assert found.startswith(f"prompt_sets.x: {line}")


@pytest.mark.parametrize(
    ("break_it", "line"),
    [
        (lambda base: shutil.rmtree(base / "vae"), "vae"),
        (lambda base: (base / "unet/config.json").write_text("{"), "unet/config.json: not valid JSON"),
        (lambda base: (base / "scheduler/scheduler_config.json").unlink(), "scheduler_config.json: no such file"),
        (lambda base: [shutil.rmtree(base), base.mkdir()], "missing; a base of this family is a folder in diffusers'"),
    ],
)
def test_a_base_that_is_none(
    tmp_path: Path, lines: Callable[..., list[str]], break_it: Callable[[Path], Any], line: str
) -> None:
    break_it(tmp_path / "resources/miniature/base")
    (found,) = lines()
    assert found.startswith("base.path = \"resources/miniature/base\": no base of family 'miniature': ")
    assert line in found


def test_a_family_that_fails_is_one_line(config: Config, lines: Callable[..., list[str]], plug_in: Any) -> None:
    plug_in("sdpo.bases", "own", "def open_base(path, *, device='cpu'):\n    return path.nothing\n")
    config["base"]["family"] = "own"
    (found,) = lines()
    assert "family 'own' fails: AttributeError: " in found and "plug_in_0_own.py, line 2)" in found


def test_broken_plug_ins_are_errors_of_those_who_use_them(
    config: Config, lines: Callable[..., list[str]], plug_in: Any
) -> None:
    for group in ("sdpo.objectives", "sdpo.bases", "sdpo.pair_sources", "evals.scorers", "evals.prompt_sources"):
        plug_in(group, "broken", "import nothing_of_the_kind\n")
        plug_in(group, {"sdpo.objectives": "sft", "evals.scorers": "clip"}.get(group, "sd15"), "")
    (found,) = lines()
    twice = (
        "objective 'sft' is defined by the project and again by package their-sft, entry point plug_in_1_sft; rename"
    )
    assert found.startswith(f"variants[0].objective (variant 'sft'): {twice}")
    config["variants"][0]["objective"] = "broken"
    config["prompt_sets"]["own"]["source"] = "broken"
    first, second, *more = lines()
    broken = "of package their-broken, entry point plug_in_{}_broken: cannot be imported: ModuleNotFoundError: "
    assert first.startswith(f"variants[0].objective (variant 'sft'): objective 'broken' {broken.format(0)}")
    assert second.startswith(f"prompt_sets.own.source: prompt source 'broken' {broken.format(8)}")
    assert more == []
    del config["variants"][0], config["prompt_sets"]["own"]
    assert lines() == []


def test_prompts_in_the_home_folder_are_read(
    config: Config, lines: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config["prompt_sets"]["own"]["options"]["path"] = "~/prompts.txt"
    assert lines() == []
    config["prompt_sets"]["own"]["limit"] = 3
    assert lines() == ["prompt_sets.own: source 'text_file' has 2 prompts, limit is 3"]


def test_paths_may_begin_at_home(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "here").mkdir()
    (tmp_path / "prompts.txt").write_text("a\nb\n")
    config["base"]["path"] = "owner/model@main"
    config["report"] = {"scorer_agreement": "~/here"}
    config["published"] = {"file": "~/here"}
    config["scorers"]["pickscore"]["weights"] = "~/here"
    config["prompt_sets"]["own"]["options"]["path"] = "~/prompts.txt"
    assert validate(config, folder=tmp_path / "here")
    config["report"]["scorer_agreement"] = config["published"]["file"] = "~/gone"
    config["scorers"]["pickscore"]["weights"] = config["prompt_sets"]["own"]["options"]["path"] = "~nobody-here/gone"
    with pytest.raises(ConfigError) as caught:
        validate(config, folder=tmp_path)
    for key, value in (
        ("scorers.pickscore.weights", "~nobody-here/gone"),
        ("prompt_sets.own.options.path", "~nobody-here/gone"),
        ("report.scorer_agreement", "~/gone"),
        ("published.file", "~/gone"),
    ):
        assert f'{key} = "{value}": no such file or folder' in str(caught.value)


def test_comparisons_reach_the_tables(config: Config) -> None:
    from pipeline.jobs import Plan

    assert "comparisons" not in Plan(validate(config, check_files=False)).compare_spec()
    config["comparisons"] = [["sft", "dmpo"], ["dmpo+sdpo", "base"]]
    plan = Plan(validate(config, check_files=False))
    for spec in (plan.compare_spec(), plan.report_spec(), plan.track_spec()):
        assert spec["comparisons"] == [["sft", "dmpo"], ["dmpo+sdpo", "base"]]
    assert json.loads(json.dumps(plan.compare_spec())) == plan.compare_spec()


def test_check_says_what_is_wrong_in_lines(
    config: Config, lines: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    config["prompt_sets"]["own"]["limit"] = 3
    assert lines()
    assert main(["check", "c.yaml"]) == 2
    assert capsys.readouterr().err == "error: c.yaml: prompt_sets.own: source 'text_file' has 2 prompts, limit is 3\n"
