"""``sdpo-bench show`` prints what the tables were made with, and says where the config has changed since."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals.tables.comparison import CompareSpec, Comparison
from evals.tables.write import Made
from pipeline.changed import _settings, changed
from pipeline.cli import main
from pipeline.config import validate
from pipeline.jobs import Plan

Config = dict[str, Any]


def made(config: Config) -> Made:
    """The tables of a config as they are made."""
    plan = Plan(validate(config, check_files=False))
    trained = {row: _settings(plan, name, step) for row, (name, step) in plan.compared_variants.items()}
    # What a table says besides of its trainings was measured, and no key of the config.
    trained = {row: {**found, "flipped": 0.2, "trained_prompts": {"seen": 1}} for row, found in trained.items()}
    spec = CompareSpec(**plan.compare_spec())
    return Made(spec.comparison, plan.benchmark.generation.model_dump(), trained, spec.config)


@pytest.mark.parametrize(
    ("change", "keys"),
    [
        (lambda c: None, []),
        (lambda c: c.update(seeds=[0, 1, 2]), ["seeds"]),
        (
            lambda c: c.update(generation={"steps": 6, "guidance_scale": 3}),
            ["generation.steps", "generation.guidance_sc"],
        ),
        (lambda c: c.update(statistics={"confidence": 0.9}), ["statistics.confidence"]),
        (lambda c: c["variants"][2]["parameters"].update(alpha=0.2), ["variants.dmpo+sdpo.parameters.alpha"]),
        (lambda c: c["variants"][2]["safeguard"].update(mu=0.2), ["variants.dmpo+sdpo.safeguard.mu"]),
        (lambda c: c["training"].update(steps=9), [f"variants.{v}.steps" for v in ("sft", "dmpo", "dmpo+sdpo")]),
        (lambda c: c["variants"].pop(0), ["variants.sft"]),
        (lambda c: c["scorers"].pop("oracle"), ["scorers.oracle"]),
        (lambda c: c["scorers"]["pickscore"].update(protocol="author"), ["scorers.pickscore"]),
        (lambda c: c["scorers"]["oracle"].update(prompt_sets=["seen"]), ["scorers.oracle.prompt_sets"]),
        (lambda c: c["scorers"]["oracle"].update(prompt_sets=["own", "seen"]), []),
        (lambda c: c["prompt_sets"].pop("own"), ["prompt_sets"]),
        (lambda c: c.update(comparisons=[["sft", "dmpo"]]), ["comparisons"]),
        (lambda c: c.update(execution={"threads": 3, "seeds_per_job": 1}), []),
        (lambda c: c["training"].update(log_every=1, export_at=[]), []),
        (lambda c: c["training"].update(ema_decay=0.5), [f"variants.{v}" for v in ("sft", "dmpo", "dmpo+sdpo")]),
        (lambda c: c["base"].update(path="elsewhere"), ["base"]),
        (lambda c: c["pairs"]["renders"]["options"].update(pairs=64), ["pairs.renders"]),
        (lambda c: c["prompt_sets"]["seen"].update(limit=30), ["prompt_sets.seen"]),
    ],
)
def test_what_differs_is_named_by_its_key(config: Config, change: Callable[[Config], Any], keys: list[str]) -> None:
    before = made(config)
    change(config)
    found = changed(Plan(validate(config, check_files=False)), before)
    assert [key[: len(expected)] for key, expected in zip(found, keys, strict=True)] == keys


def test_show_prints_the_tables_as_they_were_made(
    config: Config,
    tiny_benchmark: Comparison,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    shutil.move(tiny_benchmark.root, tmp_path / "results" / "tiny")
    config.update(seeds=[0, 1, 2], statistics={"confidence": 0.5})
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    assert main(["show", "--scorer", "pickscor", "c.yaml"]) == 2
    assert "did you mean 'pickscore'?" in capsys.readouterr().err
    assert main(["show", "c.yaml"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines()[:-1])) <= 100
    assert main(["show", "--all", "c.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "Seeds a trained variant: 2" in " ".join(shown.replace("*", "").split())
    assert "95%" in shown and "50%" not in shown
    last = shown.rstrip().splitlines()[-1]
    assert last.startswith("The config says otherwise now (seeds, ")
    assert "statistics.confidence" in last
    assert last.endswith("to bring tables and report up to date, snakemake --configfile c.yaml")
    (tmp_path / "results/tiny/tables/comparison.json").unlink()
    assert main(["show", "c.yaml"]) == 2
    assert "comparison.json: no such file; run snakemake to make it" in capsys.readouterr().err
