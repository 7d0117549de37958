from __future__ import annotations

import csv
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
import scipy.stats

from artifacts import layout
from artifacts.atomic import write_json
from artifacts.contracts import read_table, write_table
from artifacts.errors import InputError
from evals.generation.settings import DrawnApart, SamplingSettings
from evals.report import charts
from evals.report.colours import Palette
from evals.report.guidance import guidance_panels
from evals.tables import made_with, print_table, write_tables
from evals.tables.comparison import ApartSet, ComparedModel, Comparison, ComparisonSpec, Statistics
from evals.tables.comparisons import comparison_rows
from evals.tables.formats import escape_latex
from evals.tables.intervals import Prompts
from evals.tables.main_table import row_order
from evals.tables.matrices import ScoreMatrices
from evals.tables.rows import TABLES, ScoreRow, json_schemas, read_rows
from evals.tables.statistics import sign_test

pytestmark = pytest.mark.slow

Scores = Callable[[str, int | None, str, str], np.ndarray]


@dataclass
class World:
    """A benchmark on disk whose scores are given by a function of variant, seed, prompt set and scorer."""

    root: Path
    prompts: Mapping[str, int] = field(default_factory=lambda: {"seen": 6, "held-out": 4})
    scorers: Mapping[str, str] = field(default_factory=lambda: {"pickscore": "sdpo", "oracle": "exact"})
    seeds: tuple[int, ...] = (0, 1, 2)

    def comparison(self, variants: Mapping[str, str | None]) -> Comparison:
        """``variants`` maps a trained variant to its baseline."""
        models = [ComparedModel(name="mini/base", base="mini", variant="base")]
        for variant, baseline in variants.items():
            for seed in self.seeds:
                name = layout.model_name("mini", variant, seed)
                models.append(
                    ComparedModel(
                        name=name,
                        base="mini",
                        variant=variant,
                        objective="dmpo",
                        safeguard=baseline is not None,
                        seed=seed,
                        pairs="renders",
                        baseline=baseline,
                    )
                )
        return Comparison("toy", self.root, tuple(models), tuple(self.prompts), self.scorers, Statistics())

    def write(self, comparison: Comparison, scores: Scores) -> Comparison:
        for name, count in self.prompts.items():
            ids = [f"{name}-{i:05d}" for i in range(count)]
            prompts = pd.DataFrame({"prompt_id": ids, "prompt": ids, "category": "", "source": "test"})
            write_table(layout.prompts(self.root, name), prompts, "prompts")
            for model in comparison.models:
                for scorer in self.scorers:
                    self.write_scores(model, name, scorer, ids, scores(model.variant, model.seed, name, scorer))
        for model in comparison.models:
            if model.seed is not None:
                self.write_drift(model.name, [0.0, 0.01 * (model.seed + 1)])
        return comparison

    def write_scores(
        self, model: ComparedModel, prompt_set: str, scorer: str, ids: list[str], values: np.ndarray, mark: str = "f"
    ) -> None:
        frame = pd.DataFrame({"prompt_id": ids, "score": np.asarray(values, dtype=float)})
        frame["truncated"], frame["protocol"] = False, self.scorers[scorer]
        frame["image_sha256"] = [f"{model.name} {name}" for name in ids]
        frame["fingerprint"] = f"{scorer} {mark}"
        write_table(layout.scores(self.root, scorer, model.name, prompt_set), frame, "scores")

    def write_drift(self, name: str, winner: list[float]) -> None:
        steps = [10 * i for i in range(len(winner))]
        frame = pd.DataFrame({"step": steps, "winner_drift": winner, "loser_drift": 0.5, "margin": 0.4})
        frame["implicit_accuracy"], frame["pairs"] = 0.75, 32
        write_table(layout.model(self.root, name) / "drift.parquet", frame, "drift")

    def read(self, table: str) -> list[dict[str, str]]:
        with (self.root / "tables" / table).open(newline="") as file:
            return list(csv.DictReader(file))

    def row(self, table: str, **key: str) -> dict[str, str]:
        found = [row for row in self.read(table) if key.items() <= row.items()]
        assert len(found) == 1, f"{len(found)} rows of {table} for {key}"
        return found[0]

    def bytes(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted((self.root / "tables").iterdir())}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "results" / "toy")


def noise(world: World) -> Scores:
    """Scores that depend on variant, seed, set and scorer by name, so that a variant more changes no other."""

    def scores(variant: str, seed: int | None, prompt_set: str, scorer: str) -> np.ndarray:
        label = f"{variant} {seed} {prompt_set} {scorer}".encode()
        return np.random.default_rng(list(label)).normal(20.0, 1.0, world.prompts[prompt_set])

    return scores


VARIANTS = {"dmpo": None, "dmpo+sdpo": "dmpo"}


def by_hand(variant: str, seed: int | None, prompt_set: str, scorer: str) -> np.ndarray:
    """Base 0 everywhere; on ``seen``, dmpo beats it on prompts 0 to 3, ties on 4, loses on 5; seed 2 ties on 0."""
    if prompt_set == "held-out":
        return np.full(4, 1.0 if variant == "dmpo" else 0.0)
    if variant == "base":
        return np.zeros(6)
    if variant == "dmpo+sdpo":
        return np.full(6, -2.0)
    first = 0.0 if seed == 2 else 1.0
    return np.array([first, 1.0, 1.0, 1.0, 0.0, -4.0])


def test_win_rates_by_hand(world: World) -> None:
    write_tables(world.write(world.comparison(VARIANTS), by_hand))
    row = world.row("win_rates.csv", a="dmpo", b="base", prompt_set="seen", scorer="oracle")
    # 3 seeds x 6 prompts: prompt 0 wins twice and ties once, prompts 1 to 3 win, 4 ties, 5 loses.
    assert (row["wins"], row["ties"], row["losses"]) == ("11", "4", "3")
    assert float(row["win_rate"]) == pytest.approx(13 / 18)
    # On prompts, whatever the number of seeds: 4 won, 1 lost, 1 dropped. P = 2 * (1 + 5) / 32.
    assert float(row["p_these_models"]) == 0.375
    # Both scorers give the same p; Holm doubles the first and the second may not be smaller.
    assert float(row["p_holm"]) == pytest.approx(min(1.0, 2 * float(row["p_value"])))
    assert float(row["ci_low"]) < 13 / 18 < float(row["ci_high"])
    assert (row["base"], row["kind"], row["n_seeds"]) == ("mini", "base", "3")
    # Both scorers say the same, so does their mean, which is no member of the family.
    mean = world.row("win_rates.csv", a="dmpo", b="base", prompt_set="seen", scorer="mean of judges")
    assert (mean["wins"], mean["ties"], mean["losses"]) == ("22", "8", "6")
    assert [mean[k] for k in ("win_rate", "ci_low", "ci_high", "p_holm")] == [
        *(row[k] for k in ("win_rate", "ci_low", "ci_high")), row["p_value"]
    ]  # fmt: skip


def test_pooled_prompt_sets_weigh_prompts_not_sets(world: World) -> None:
    write_tables(world.write(world.comparison(VARIANTS), by_hand))
    row = world.row("win_rates.csv", a="dmpo", b="base", prompt_set="all", scorer="oracle")
    assert (row["wins"], row["ties"], row["losses"]) == ("23", "4", "3")
    assert float(row["p_these_models"]) == sign_test(8, 1)
    row = world.row("differences.csv", a="dmpo", b="base", prompt_set="all", scorer="oracle")
    # Sums over a seed: seen 0 (seeds 0 and 1) or -1 (seed 2); held-out 4.
    assert float(row["mean_difference"]) == pytest.approx((4 + 4 + 3) / 30)
    assert (float(row["per_seed_min"]), float(row["per_seed_max"])) == pytest.approx((0.3, 0.4))
    assert (row["n_prompts"], row["n_seeds"]) == ("10", "3")


def test_each_variant_meets_its_baseline_and_the_base(world: World) -> None:
    comparison = world.comparison({"sft": None, "dpo": None, "dpo+sdpo": "dpo"})
    assert [tuple(pair) for pair in comparison.pairs] == [
        ("dpo+sdpo", "dpo", "baseline"),
        ("sft", "base", "base"),
        ("dpo", "base", "base"),
        ("dpo+sdpo", "base", "base"),
    ]
    without_base = replace(comparison, models=comparison.models[1:])
    assert [tuple(pair) for pair in without_base.pairs] == [("dpo+sdpo", "dpo", "baseline")]
    with pytest.raises(InputError, match=r"variant 'dpo\+sdpo': its baseline 'dpo' is not in the comparison"):
        replace(comparison, models=tuple(m for m in comparison.models if m.variant != "dpo")).pairs  # noqa: B018


def test_what_is_asked_for_is_compared_once_and_under_its_own_kind(world: World) -> None:
    comparison = world.comparison({"sft": None, "dpo": None, "dpo+sdpo": "dpo"})
    asked = replace(comparison, comparisons=(("dpo", "sft"), ("dpo+sdpo", "dpo"), ("base", "dpo")))
    assert [pair for pair in asked.pairs if pair not in comparison.pairs] == [
        ("dpo", "sft", "asked"),
        ("base", "dpo", "asked"),
    ]
    assert len(asked.pairs) == 4 + 2
    write_tables(world.write(asked, noise(world)))
    rows = [row for row in world.read("differences.csv") if row["kind"] == "asked"]
    assert {(row["a"], row["b"], row["n_seeds"]) for row in rows} == {("dpo", "sft", "3"), ("base", "dpo", "3")}
    assert ComparisonSpec(**asked.to_spec()).comparison == asked
    for pair, words in ((("dpo", "sfft"), "variant 'sfft' .*did you mean 'sft'"), (("dpo", "dpo"), "two different")):
        with pytest.raises(InputError, match=words):
            write_tables(replace(comparison, comparisons=(pair,)))


def test_seeds_are_paired_by_number(world: World) -> None:
    """Seed k shifts all scores of both variants by 10 k: paired, the shift cancels in every seed."""

    def scores(variant: str, seed: int | None, prompt_set: str, scorer: str) -> np.ndarray:
        count = world.prompts[prompt_set]
        return np.arange(count) + 10.0 * (seed or 0) + (0.5 if variant == "dmpo+sdpo" else 0.0)

    comparison = world.comparison(VARIANTS)
    # The baseline is listed in another order and lacks seed 0.
    others = [m for m in comparison.models if m.variant != "dmpo"]
    baseline = [m for m in comparison.models if m.variant == "dmpo" and m.seed != 0]
    comparison = replace(comparison, models=(*others, *reversed(baseline)))
    write_tables(world.write(comparison, scores))
    row = world.row("differences.csv", a="dmpo+sdpo", b="dmpo", prompt_set="seen", scorer="oracle")
    assert row["n_seeds"] == "2"
    assert {float(row[name]) for name in ("mean_difference", "per_seed_min", "per_seed_max")} == {0.5}


def test_variants_without_a_common_seed_are_refused(world: World) -> None:
    comparison = world.write(world.comparison(VARIANTS), by_hand)
    models = tuple(m for m in comparison.models if m.seed != (0 if m.variant == "dmpo" else 1))
    models = tuple(m for m in models if m.seed != 2)
    with pytest.raises(InputError, match=r"'dmpo\+sdpo' \(seeds 0\) and 'dmpo' \(seeds 1\) have no seed in common"):
        write_tables(replace(comparison, models=models))


def test_scores_csv(world: World) -> None:
    write_tables(world.write(world.comparison(VARIANTS), by_hand))
    rows = world.read("scores.csv")
    header = (world.root / "tables" / "scores.csv").read_text().splitlines()[0]
    assert header == "base,variant,objective,safeguard,seed,prompt_set,scorer,protocol,mean,ci_low,ci_high,n,truncated"
    # (base + its pooled row, 2 variants x (3 seeds + pooled)) x 2 sets x 2 scorers.
    assert len(rows) == (2 + 2 * 4) * 4
    pooled = world.row("scores.csv", variant="dmpo", seed="all", prompt_set="seen", scorer="oracle")
    assert float(pooled["mean"]) == pytest.approx((0 + 0 - 1) / 18)
    assert pooled["n"] == "18"
    assert (pooled["objective"], pooled["safeguard"], pooled["protocol"]) == ("dmpo", "false", "exact")
    single = world.row("scores.csv", variant="dmpo", seed="2", prompt_set="seen", scorer="oracle")
    assert (float(single["mean"]), single["n"]) == (pytest.approx(-1 / 6), "6")
    assert float(single["ci_low"]) < -1 / 6 < float(single["ci_high"])
    base = world.row("scores.csv", variant="base", seed="", prompt_set="held-out", scorer="oracle")
    assert [base[k] for k in ("objective", "mean", "ci_low", "ci_high", "n")] == ["", "0.0", "-inf", "inf", "4"]


def test_interval_of_one_model_has_the_width_of_its_standard_error(tmp_path: Path) -> None:
    world = World(tmp_path, prompts={"seen": 900}, scorers={"oracle": "exact"}, seeds=(0,))
    comparison = world.comparison({"sft": None})
    write_tables(world.write(comparison, noise(world)))
    row = world.row("scores.csv", variant="sft", seed="0", prompt_set="seen")
    values = noise(world)("sft", 0, "seen", "oracle")
    assert (float(row["ci_high"]) - float(row["ci_low"])) / 2 == pytest.approx(1.96 * values.std() / 30, rel=0.06)


def test_drift_csv(world: World) -> None:
    comparison = world.comparison(VARIANTS)
    write_tables(world.write(comparison, by_hand))
    single = world.row("drift.csv", variant="dmpo", seed="1")
    assert [single[k] for k in ("pairs", "winner_drift", "ci_low", "ci_high")] == ["renders", "0.02", "", ""]
    pooled = world.row("drift.csv", variant="dmpo", seed="all")
    # Seeds 0.01, 0.02, 0.03: standard deviation 0.01, t(0.975; 2) = 4.302653.
    half = 4.302653 * 0.01 / math.sqrt(3)
    assert float(pooled["winner_drift"]) == pytest.approx(0.02)
    assert (float(pooled["ci_low"]), float(pooled["ci_high"])) == pytest.approx((0.02 - half, 0.02 + half), abs=1e-8)
    assert {row["variant"] for row in world.read("drift.csv")} == {"dmpo", "dmpo+sdpo"}
    path = layout.model(world.root, "mini/dmpo/seed1") / "drift.parquet"
    path.unlink()
    with pytest.raises(InputError, match=re.escape(f"{path}: no such file")):
        write_tables(comparison)


def test_equal_inputs_give_equal_bytes_and_a_new_variant_changes_no_other_row(world: World) -> None:
    comparison = world.write(world.comparison(VARIANTS), noise(world))
    write_tables(comparison)
    first = world.bytes()
    assert set(first) == {
        *("scores.csv", "win_rates.csv", "differences.csv", "categories.csv", "ranks.csv", "costs.csv", "drift.csv"),
        *("main.md", "main.tex", "main.html", "categories.md", "comparison.json"),
    }
    write_tables(comparison)
    assert world.bytes() == first
    larger = world.comparison({"aaa": None, **VARIANTS})
    write_tables(world.write(larger, noise(world)))
    second = world.bytes()
    for name in ("scores.csv", "win_rates.csv", "differences.csv", "drift.csv"):
        before, after = first[name].splitlines(), second[name].splitlines()
        assert [line for line in after if b"aaa" not in line] == before
        assert len(after) > len(before)


def test_rows_of_a_score_file_may_come_in_any_order(world: World) -> None:
    comparison = world.write(world.comparison(VARIANTS), noise(world))
    write_tables(comparison)
    first = world.bytes()
    path = layout.scores(world.root, "oracle", "mini/dmpo/seed1", "seen")
    write_table(path, pd.read_parquet(path).iloc[::-1], "scores")
    write_tables(comparison)
    second = world.bytes()
    # It names the score files by their digests.
    assert [name for name in first if second[name] != first[name]] == ["comparison.json"]


def shorter(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.drop(index=[2, 4])


def doubled(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(prompt_id=frame["prompt_id"].where(frame.index != 3, "seen-00001"))


def renamed(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame.iloc[:1].assign(prompt_id="unseen-00000")])


def infinite(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(score=frame["score"].where(frame.index != 5, math.inf))


def other_scorer(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(fingerprint=frame["fingerprint"].where(frame.index != 1, "another one"))


def other_protocol(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(protocol="author")


def other_image(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(image_sha256=frame["image_sha256"].where(frame.index != 1, "0" * 64))


@pytest.mark.parametrize(
    ("change", "offence", "other_file"),
    [
        (shorter, "prompt_id 'seen-00002' of", "prompts/seen.parquet"),
        (doubled, "prompt_id 'seen-00001' occurs twice", "prompts/seen.parquet"),
        (renamed, "prompt_id 'unseen-00000' is not in", "prompts/seen.parquet"),
        (infinite, "score of prompt_id 'seen-00005' is inf", ""),
        (other_scorer, "prompt_id 'seen-00001' has fingerprint another one", "scores/oracle/mini/base/seen.parquet"),
        (other_protocol, "scorer 'oracle' was run by protocol 'author', the config says 'exact'", ""),
        (other_image, "prompt_id 'seen-00001' was scored on another", "scores/pickscore/mini/dmpo/seed1/seen.parquet"),
    ],
)
def test_what_does_not_match_is_refused(
    world: World, change: Callable[[pd.DataFrame], pd.DataFrame], offence: str, other_file: str
) -> None:
    comparison = world.write(world.comparison(VARIANTS), noise(world))
    path = layout.scores(world.root, "oracle", "mini/dmpo/seed1", "seen")
    write_table(path, change(pd.read_parquet(path)), "scores")
    with pytest.raises(InputError) as refusal:
        write_tables(comparison)
    message = str(refusal.value)
    assert message.startswith(f"{path}: {offence}")
    assert other_file in message
    assert "snakemake" in message
    assert "\n" not in message
    assert not (world.root / "tables").exists()


def test_a_score_that_is_no_number_is_refused_even_past_the_contract(world: World) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    comparison = world.write(world.comparison(VARIANTS), noise(world))
    path = layout.scores(world.root, "oracle", "mini/dmpo/seed1", "seen")
    table = pq.read_table(path)
    scores = pa.array([math.nan, *table["score"].to_pylist()[1:]], pa.float64())
    pq.write_table(table.set_column(table.column_names.index("score"), "score", scores), path)
    with pytest.raises(InputError, match="score of prompt_id 'seen-00000' is nan"):
        write_tables(comparison)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_sets": ("seen", "all")}, "prompt set 'all'"),
        ({"prompt_sets": ()}, "has no prompt set"),
        ({"scorers": {}}, "has no scorer"),
    ],
)
def test_settings_that_cannot_work_are_refused(world: World, change: dict[str, object], message: str) -> None:
    comparison = world.write(world.comparison(VARIANTS), noise(world))
    with pytest.raises(InputError, match=re.escape(message)):
        write_tables(replace(comparison, **change))


def test_two_models_of_one_variant_and_seed_are_refused(world: World) -> None:
    comparison = world.write(world.comparison(VARIANTS), noise(world))
    twin = comparison.models[0].model_copy(update={"name": "other/base", "base": "other"})
    with pytest.raises(InputError, match=r"variant 'base' has two models for one seed, 'mini/base' and 'other/base'"):
        write_tables(replace(comparison, models=(*comparison.models, twin)))


def cells_of(html: str) -> tuple[ElementTree.Element, list[list[ElementTree.Element]]]:
    table = ElementTree.fromstring(html).find("table")
    assert table is not None
    return table, [list(row) for row in table.iterfind("tbody/tr")]


def test_bold_is_the_highest_mean_of_each_column_in_every_format(world: World) -> None:
    comparison = world.write(world.comparison({"sft": None, **VARIANTS}), noise(world))
    write_tables(comparison)
    pooled = [row for row in world.read("scores.csv") if row["seed"] == "all"]
    columns = [(name, scorer) for name in world.prompts for scorer in world.scorers]
    best = {}
    for key in columns:
        column = [row for row in pooled if (row["prompt_set"], row["scorer"]) == key]
        best[key] = max(column, key=lambda row: float(row["mean"]))["variant"]

    _, rows = cells_of((world.root / "tables" / "main.html").read_text())
    assert [row[0].text for row in rows] == ["base", "sft", "dmpo", "dmpo+sdpo"]
    assert [row[1].text for row in rows] == [None, None, None, "on"]
    tex = (world.root / "tables" / "main.tex").read_text()
    tex_rows = {line.split(" & ")[0]: line.split(" & ")[2:] for line in tex.splitlines() if " & $" in line}
    for (name, scorer), i in zip(columns, (0, 1, 3, 4), strict=True):
        key = name, scorer
        assert [row[0].text for row in rows if row[2 + i].find("strong") is not None] == [best[key]]
        assert [name for name, cells in tex_rows.items() if r"\mathbf" in cells[i]] == [best[key]]

    for prompt_set, block in zip(
        world.prompts, (world.root / "tables" / "main.md").read_text().split("### ")[1:], strict=True
    ):
        lines = [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in block.splitlines()
            if line.startswith("| ") and "minus base" not in line
        ]
        for i, scorer in enumerate(world.scorers):
            assert [cells[0] for cells in lines if cells[2 + i].startswith("**")] == [best[prompt_set, scorer]]
    for prompt_set, block in zip(world.prompts, re.split(r"toy / .*\n", print_table(comparison))[1:], strict=True):
        starred = [line.split()[0] for line in block.splitlines() if re.search(r"\d\*", line)]
        assert set(starred) == {best[prompt_set, scorer] for scorer in world.scorers}


def test_numbers_show_the_paired_interval_and_agree_with_the_csv(tmp_path: Path) -> None:
    world = World(tmp_path, prompts={"seen": 400}, seeds=(0, 1, 2, 3, 4))
    scale = {"pickscore": 0.001, "oracle": 300.0}

    def scores(variant: str, seed: int | None, prompt_set: str, scorer: str) -> np.ndarray:
        """Prompts differ a hundred times more than variants do."""
        prompts = 100 * np.arange(world.prompts[prompt_set]) / world.prompts[prompt_set]
        return scale[scorer] * (prompts + noise(world)(variant, seed, prompt_set, scorer))

    write_tables(world.write(world.comparison(VARIANTS), scores))
    lines = (tmp_path / "tables" / "main.md").read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("| dmpo "))
    means = [cell.strip(" *_≈") for cell in lines[at].split("|")[3:5]]
    against = re.findall(r"([+-]?[\d.]+) ± ([\d.]+)", lines[at + 1])
    for mean, (difference, half_width), scorer in zip(means, against, ("pickscore", "oracle"), strict=True):
        row = world.row("differences.csv", a="dmpo", b="base", prompt_set="seen", scorer=scorer)
        unit = 10.0 ** -len(mean.partition(".")[2])
        pooled = world.row("scores.csv", variant="dmpo", seed="all", scorer=scorer)
        assert float(mean) == pytest.approx(float(pooled["mean"]), abs=0.51 * unit)
        half = (float(row["ci_high"]) - float(row["ci_low"])) / 2
        assert float(half_width) == pytest.approx(half, abs=0.51 * unit)
        assert float(difference) == pytest.approx(float(row["mean_difference"]), abs=0.51 * unit)
        # Two significant digits of a paired half width, a tenth of the unpaired one or less.
        assert 9 * unit <= half < 0.1 * (float(pooled["ci_high"]) - float(pooled["ci_low"])) / 2


def in_memory(world: World, comparison: Comparison, scores: Scores) -> ScoreMatrices:
    models = {variant: comparison.of_variant(variant) for variant in comparison.variants}
    values = {
        (variant, name, scorer): np.stack([scores(variant, m.seed, name, scorer) for m in members])
        for variant, members in models.items()
        for name in world.prompts
        for scorer in world.scorers
    }
    units = {(name,): Prompts.separate(count) for name, count in world.prompts.items()}
    return ScoreMatrices(models, units, values, {})


def test_what_the_tables_decide_of_nothing_is_chance(tmp_path: Path) -> None:
    """Three seeds of three times the prompts' standard error, and no true effect by any of 400 scorers."""
    world = World(tmp_path, {"seen": 100}, {f"scorer{i}": "x" for i in range(400)})
    comparison = world.comparison({"sft": None})
    generator = np.random.default_rng(5)

    def scores(variant: str, seed: int | None, prompt_set: str, scorer: str) -> np.ndarray:
        if variant == "base":
            return np.zeros(100)
        if seed == 0:
            prompts[scorer] = generator.normal(size=100)
        return prompts[scorer] + 3 * math.sqrt(3 / 100) * generator.normal()

    prompts: dict[str, np.ndarray] = {}
    win_rates, differences = comparison_rows(comparison, in_memory(world, comparison, scores))
    pooled = [row for row in differences if row.prompt_set == "all"]
    assert len(pooled) == 400
    assert np.mean([row.ci_low <= 0 <= row.ci_high for row in pooled]) >= 0.93
    starred = [row.p_value < 0.05 for row in win_rates if row.prompt_set == "all" and row.scorer in world.scorers]
    assert np.mean(starred) <= 0.07
    # The exact sign test takes these three seeds for all there are.
    fixed = [row.p_these_models < 0.05 for row in win_rates if row.prompt_set == "all" and row.scorer in world.scorers]
    assert np.mean(fixed) > 0.2
    assert min(row.p_holm for row in win_rates if row.scorer in world.scorers) > 0.05


def scored(world: World, values: Mapping[tuple[str, str], float], **changes: Any) -> Comparison:
    """A benchmark in which variant and scorer alone give the mean; seeds differ by a thousandth, prompts by one."""

    def scores(variant: str, seed: int | None, prompt_set: str, scorer: str) -> np.ndarray:
        return values[variant, scorer] + 0.001 * (seed or 0) + np.arange(world.prompts[prompt_set]) % 2

    comparison = replace(world.comparison(VARIANTS), **changes)
    return world.write(comparison, scores)


def test_scorers_that_describe_are_not_judged(tmp_path: Path) -> None:
    world = World(tmp_path, {"seen": 6}, {"pickscore": "sdpo", "jpeg_size": "png", "blank": "exact"})
    values = {(v, s): float(i) for i, v in enumerate(("base", "dmpo", "dmpo+sdpo")) for s in world.scorers}
    describing = {"no_judges": frozenset({"jpeg_size", "blank"}), "lower_is_better": frozenset({"blank"})}
    comparison = scored(world, values, **describing)
    write_tables(comparison)
    assert {row["scorer"] for row in world.read("win_rates.csv")} == {"pickscore"}
    rows = world.read("differences.csv")
    assert {row["scorer"] for row in rows if row["p_holm"] == ""} == {"jpeg_size", "blank"}
    text = (tmp_path / "tables" / "main.md").read_text()
    judged, described = text.split("### seen")[1:]
    assert "pickscore" in judged and "jpeg" not in judged and judged.count("**") == 2
    assert described.startswith(", what describes images and judges nothing") and "**" not in described
    assert "Higher is better." in text and "lower for" not in text
    # A scorer that judges and likes low scores keeps its say.
    write_tables(replace(comparison, no_judges=frozenset({"jpeg_size"})))
    win = world.row("win_rates.csv", a="dmpo", b="base", prompt_set="all", scorer="blank")
    assert float(win["win_rate"]) == 0.0
    assert "lower for blank" in (tmp_path / "tables" / "main.md").read_text()


def test_second_and_tied_are_marked_in_every_format_and_baselines_have_their_line(tmp_path: Path) -> None:
    """dmpo is best, sft second and not told apart from it, base and dmpo+sdpo are far behind."""
    world = World(tmp_path, {"seen": 40}, {"oracle": "exact"})
    means = {"base": 0.0, "sft": 5.99, "dmpo": 6.0, "dmpo+sdpo": 3.0}

    def scores(variant: str, seed: int | None, prompt_set: str, scorer: str) -> np.ndarray:
        # The paired difference of sft and dmpo is 0.01 with a standard error of 0.008.
        shift = {"sft": 0.05, "dmpo+sdpo": 0.02, "base": 0.03}.get(variant, 0.0)
        return means[variant] + shift * np.where(np.arange(40) % 2, 1, -1)

    comparison = world.write(world.comparison({"sft": None, **VARIANTS}), scores)
    write_tables(comparison)
    ranks = {row["variant"]: row for row in world.read("ranks.csv") if row["prompt_set"] == "seen"}
    assert {name: (row["rank"], row["tied"]) for name, row in ranks.items()} == {
        "dmpo": ("1", "true"),
        "sft": ("2", "true"),
        "dmpo+sdpo": ("3", "false"),
        "base": ("4", "false"),
    }
    own = world.row("differences.csv", a="dmpo+sdpo", b="dmpo", prompt_set="seen", scorer="oracle")
    half = (float(own["ci_high"]) - float(own["ci_low"])) / 2
    printed = print_table(comparison)
    lines = printed.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("  dmpo+sdpo"))
    assert lines[at + 1].split()[:2] == ["minus", "base"]
    label, difference = lines[at + 2].rsplit(maxsplit=1)
    assert label.strip() == "minus baseline"
    assert difference.endswith("†")
    low, high = (float(part.strip("†")) for part in difference.split("±"))
    assert (low, high) == (
        pytest.approx(float(own["mean_difference"]), abs=0.006),
        pytest.approx(half, abs=0.006),
    )
    (second,) = (line for line in lines if line.startswith("  sft"))
    assert second.rstrip().endswith("~≈")
    _, rows = cells_of((tmp_path / "tables/main.html").read_text())
    assert [row[0].text for row in rows if row[2].find("u") is not None] == ["sft"]
    baseline = [row[2].find("span[@class='against-base baseline decided']") is not None for row in rows]
    assert baseline == [False, False, False, True]
    assert (tmp_path / "tables/main.tex").read_text().count(r"\underline{") == 1


def test_rows_of_every_table_are_as_their_schemas_say(world: World) -> None:
    write_tables(world.write(world.comparison(VARIANTS), noise(world)))
    for name, kind in TABLES.items():
        validator = jsonschema.Draft202012Validator(json_schemas()[name])
        rows = read_rows(world.root / "tables" / f"{name}.csv", kind)
        assert rows or name == "categories"
        for row in rows:
            validator.validate(asdict(row))


def test_both_adjustments_are_the_textbooks(world: World) -> None:
    write_tables(world.write(world.comparison(VARIANTS), noise(world)))
    for table in ("differences.csv", "win_rates.csv"):
        rows = [
            r
            for r in world.read(table)
            if r["a"] == "dmpo" and r["prompt_set"] == "all" and r["scorer"] in world.scorers
        ]
        p_values = [float(row["p_value"]) for row in rows]
        assert [float(row["p_fdr"]) for row in rows] == pytest.approx(scipy.stats.false_discovery_control(p_values))
        small, large = sorted(p_values)
        assert sorted(float(row["p_holm"]) for row in rows) == pytest.approx(
            [min(1.0, 2 * small), min(1.0, max(2 * small, large))]
        )


def test_nothing_is_best_where_all_are_equal(world: World) -> None:
    write_tables(world.write(world.comparison(VARIANTS), lambda *key: np.zeros(world.prompts[key[2]])))
    assert "**" not in (world.root / "tables" / "main.md").read_text()
    assert "<strong>" not in (world.root / "tables" / "main.html").read_text()
    assert "mathbf" not in (world.root / "tables" / "main.tex").read_text()


def test_bases_stand_apart_and_each_has_its_own_best(tmp_path: Path) -> None:
    world = World(tmp_path, {"seen": 6})
    models = world.comparison(VARIANTS).models
    large = [
        ComparedModel(name="large/base", base="large", variant="large"),
        ComparedModel(name="large/released", base="large", variant="released"),
    ]
    # Listed between the others: a table may not mix them.
    comparison = replace(world.comparison(VARIANTS), models=(models[0], *large, *models[1:]))
    means = {"base": 0.0, "dmpo": 1.0, "dmpo+sdpo": 2.0, "large": 10.0, "released": 11.0}
    write_tables(world.write(comparison, lambda v, s, p, _: np.full(world.prompts[p], means[v]) + np.arange(6) % 2))
    assert row_order(comparison) == ("base", "dmpo", "dmpo+sdpo", "large", "released")
    table = ElementTree.fromstring((tmp_path / "tables" / "main.html").read_text()).find("table")
    assert table is not None
    bodies = [[list(row) for row in body] for body in table.iterfind("tbody")]
    assert [[row[0].text for row in body] for body in bodies] == [["base", "dmpo", "dmpo+sdpo"], ["large", "released"]]
    assert [[row[2].text for row in body] for body in bodies] == [["mini"] * 3, ["large"] * 2]
    best = [[row[0].text for row in body if row[3].find("strong") is not None] for body in bodies]
    assert best == [["dmpo+sdpo"], ["released"]]
    assert "\n\\midrule\nlarge & " in (tmp_path / "tables" / "main.tex").read_text()
    row = world.row("differences.csv", a="released", b="large", prompt_set="seen", scorer="oracle")
    assert (row["base"], row["n_seeds"], float(row["mean_difference"])) == ("large", "1", 1.0)
    # One table, two kinds of intervals, and a mark for each.
    text = print_table(comparison)
    assert "†" in text and "‡" in text and "says nothing of training again" in text


def test_words_follow_the_number_of_seeds(tmp_path: Path) -> None:
    world = World(tmp_path, {"seen": 30}, seeds=(0,))
    comparison = world.write(world.comparison(VARIANTS), noise(world))
    write_tables(comparison, {"protocol": "sdpo"})
    text = (tmp_path / "tables" / "main.md").read_text()
    assert "over prompts, which says nothing of training again. ‡ marks" in text
    assert "and seeds" not in text and "†" not in text
    assert "With fewer than 5 seeds" not in text
    assert "draws every prompt from one start noise" in text
    assert {row["n_seeds"] for row in world.read("differences.csv")} == {"1"}


def test_no_decision_is_lost_by_rounding(tmp_path: Path) -> None:
    """Paired half widths of 1.0 for most, and one difference that is larger than its half width by a thousandth."""
    world = World(tmp_path, {"seen": 100}, {"oracle": "exact"}, seeds=(0,))
    half = scipy.stats.t.ppf(0.975, 99) / 10 * np.std(np.arange(100) % 2, ddof=1)
    means = {"base": 0.0, "dmpo": half + 1e-5, "dmpo+sdpo": half - 1e-5}

    def scores(variant: str, seed: int | None, prompt_set: str, scorer: str) -> np.ndarray:
        if variant == "base":
            return np.zeros(100)
        return means[variant] + np.arange(100) % 2 - 0.5

    write_tables(world.write(world.comparison(VARIANTS), scores))
    lines = [line for line in (tmp_path / "tables" / "main.md").read_text().splitlines() if "minus base " in line]
    printed = [re.findall(r"\+([\d.]+) ± ([\d.]+)(.)", line)[0] for line in lines]
    (over, over_half, mark), (under, under_half, none) = printed
    assert float(over) > float(over_half) and mark == "‡"
    assert float(under) <= float(under_half) and none == " "


def test_equal_prompts_are_one_unit_of_chance(tmp_path: Path) -> None:
    world = World(tmp_path, {"seen": 40}, {"oracle": "exact"})
    comparison = world.write(world.comparison({"sft": None}), noise(world))
    texts = [f"a disc {i // 2}" for i in range(40)]
    path = layout.prompts(tmp_path, "seen")
    # As people write them: a space at the end or a capital, and é as one letter or as two.
    texts[0], texts[1], texts[2], texts[3] = "a disc ", "A disc", "caf\u00e9", "cafe\u0301"
    write_table(path, read_table(path, "prompts").assign(prompt=texts), "prompts")
    write_tables(comparison)
    row = world.row("differences.csv", a="sft", b="base", prompt_set="seen")
    assert (row["n_prompts"], row["n_texts"]) == ("40", "20")
    assert "seen 40 (20 different texts, each a unit)" in (tmp_path / "tables" / "main.md").read_text()


def test_confidence_is_that_of_the_config_everywhere(world: World) -> None:
    comparison = world.comparison(VARIANTS)
    comparison = replace(comparison, statistics=comparison.statistics.model_copy(update={"confidence": 0.3}))
    write_tables(world.write(comparison, noise(world)))
    for table, null in (("differences.csv", 0.0), ("win_rates.csv", 0.5)):
        rows = [row for row in world.read(table) if row["prompt_set"] != "held-out"]
        inside = [float(row["ci_low"]) <= null <= float(row["ci_high"]) for row in rows]
        assert inside == [float(row["p_value"]) >= 0.7 for row in rows]
        assert len(set(inside)) == 2


def test_the_tables_say_what_they_were_made_with(world: World) -> None:
    comparison = world.write(world.comparison(VARIANTS), noise(world))
    spec = {
        "objective": {
            "name": "dmpo",
            "parameters": {"beta": 2000.0},
            "safeguard": {"weights": "none", "granularity": "pair", "mu": 0.0},
        },
        "training": {"steps": 100, "batch_size": 16, "learning_rate": 1e-4},
    }
    for model in comparison.of_variant("dmpo+sdpo"):
        write_json(layout.model(world.root, model.name) / "provenance.json", {"spec": spec, "flipped": 0.2})
    write_tables(comparison, {"steps": 5})
    made = json.loads((world.root / "tables" / "comparison.json").read_text())
    assert list(made["scorers"]) == list(world.scorers)
    assert made["generation"] == {"steps": 5}
    assert made["training"]["dmpo+sdpo"]["safeguard"]["granularity"] == "pair"
    assert made["training"]["dmpo+sdpo"]["steps"] == 100
    moved = world.root.rename(world.root.with_name("moved"))
    read = made_with(moved)
    assert read.comparison == replace(comparison, root=moved)
    printed = print_table(read.comparison, read.generation, read.trained)
    assert "Safeguard: mu 0, granularity pair (dmpo+sdpo)." in printed
    assert "Labels turned round on purpose: 0.2 of the training pairs (dmpo+sdpo)." in printed


@pytest.mark.parametrize(
    ("trained_on", "stated"),
    [
        (
            ["HELD-OUT-00001 ", "seen-00002", "another"],
            "saw too, by its pairs: seen 1 of 6, held-out 1 of 4 (renders).",
        ),
        (["another"], "None of the prompts is among those that were trained on (renders)."),
        (None, ""),
    ],
)
def test_prompts_that_were_trained_on_are_counted(world: World, trained_on: list[str] | None, stated: str) -> None:
    comparison = world.write(world.comparison(VARIANTS), noise(world))
    for model in comparison.models:
        if model.trained:
            write_json(layout.model(world.root, model.name) / "provenance.json", {"spec": {}})
    if trained_on is not None:
        # What is held out or tied trains nothing.
        index = pd.DataFrame({"prompt": [*trained_on, "seen-00000", "seen-00001"]})
        index["split"] = ["train"] * len(trained_on) + ["heldout", "train"]
        index["label"] = [1.0] * (len(index) - 1) + [0.5]
        index = index.assign(pair_id=index.index, prompt_index=index.index + 1, winner_image=0, loser_image=1)
        write_table(layout.pairs(world.root, "renders", "mini") / "index.parquet", index, "pairs_index")
    write_tables(comparison)
    text = (world.root / "tables" / "main.md").read_text()
    assert stated in text
    assert ("trained on" in text or "saw too" in text) is bool(stated)


def test_notes_state_protocols_counts_method_and_generation(world: World) -> None:
    comparison = world.write(world.comparison(VARIANTS), noise(world))
    write_tables(comparison, {"protocol": "clean", "guidance": 7.5, "sampler": {"name": "ddim", "steps": 20}})
    for name in ("main.md", "main.html", "main.tex"):
        text = (world.root / "tables" / name).read_text().replace("\\%", "%").replace("\\_", "_").replace("&#x27;", "'")
        for stated in (
            "half the width of its 95% interval over prompts and seeds.",
            "no claim of significance",
            "pickscore (sdpo), oracle (exact)",
            "Prompts: seen 6, held-out 4. Seeds a trained variant: 3.",
            "half an interval is 2.5 standard deviations of the seeds' means at 3 seeds, 1.2 at 5 and 0.7 at 10.",
            "No prompt is longer than any scorer reads.",
            "With fewer than 5 seeds",
            "Generation: protocol clean, guidance 7.5, sampler.name ddim, sampler.steps 20.",
        ):
            assert stated in text, f"{name} does not state: {stated}"


def test_a_safeguarded_variant_that_is_compared_with_nothing_is_named(world: World) -> None:
    comparison = world.comparison({"dmpo": None, "dmpo+sdpo": "dmpo"})
    lonely = [m.model_copy(update={"baseline": None}) if m.variant == "dmpo+sdpo" else m for m in comparison.models]
    write_tables(world.write(replace(comparison, models=tuple(lonely)), noise(world)))
    text = (world.root / "tables" / "main.md").read_text()
    assert "No variant is like dmpo+sdpo but without safeguard, so what that changes is not shown." in text


def test_latex_puts_prompt_sets_below_one_another_where_they_are_too_wide(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evals.tables.formats._LATEX_COLUMNS", 5)
    write_tables(world.write(world.comparison(VARIANTS), noise(world)))
    tex = (world.root / "tables" / "main.tex").read_text()
    # Two labels, two scorers and their win rate: the header and all rows come once a prompt set.
    assert r"\begin{tabular}{llrrr}" in tex
    assert [line for line in tex.splitlines() if "cmidrule" in line] == [r"\cmidrule(lr){3-5}"] * 2
    above, below = tex.split(r"\multicolumn{3}{c}{held-out}")
    assert above.count("\ndmpo & ") == below.count("\ndmpo & ") == 1
    assert above.index("{c}{seen}") < above.index("\ndmpo & ")


HOSTILE = "a&b_<x>|"


def test_names_are_escaped(world: World) -> None:
    comparison = world.write(world.comparison({HOSTILE: None, f"{HOSTILE}+sdpo": HOSTILE}), noise(world))
    write_tables(comparison, {"note": "<script>alert(1)</script> 100% λ"})
    html = (world.root / "tables" / "main.html").read_text(encoding="ascii")
    assert "a&amp;b_&lt;x&gt;|" in html
    assert "<script" not in html
    _, rows = cells_of(html)
    assert rows[1][0].text == HOSTILE
    tex = (world.root / "tables" / "main.tex").read_text()
    assert r"a\&b\_\textless{}x\textgreater{}\textbar{} & " in tex
    assert r"100\% $\lambda$." in tex
    for line in (line for line in tex.splitlines() if line.endswith(r"\\") and r"\multicolumn" not in line):
        assert len(re.findall(r"(?<!\\)&", line)) == 2 + 6 - 1
    body = re.sub(r"\\[{}\\]", "", tex)
    assert body.count("{") == body.count("}")
    assert tex.count("$") % 2 == 0
    page = (world.root / "tables" / "main.md").read_text()
    assert r"| a&amp;b\_&lt;x&gt;\|+sdpo | on" in page
    assert "<script" not in page
    with (world.root / "tables" / "scores.csv").open(newline="") as file:
        assert HOSTILE in {row["variant"] for row in csv.DictReader(file)}
    assert HOSTILE in print_table(comparison)


def test_escapes() -> None:
    assert escape_latex("50% of $x_1^2 ~ \\{}#") == (
        r"50\% of \$x\_1\textasciicircum{}2 \textasciitilde{} \textbackslash{}\{\}\#"
    )
    # At a row's start LaTeX would read these as the arguments of the \\ before them.
    assert escape_latex("[a]*") == "{[}a]{*}"


def test_html_is_a_fragment_with_a_two_level_header(world: World) -> None:
    write_tables(world.write(world.comparison(VARIANTS), noise(world)))
    html = (world.root / "tables" / "main.html").read_text(encoding="ascii")
    assert html.startswith('<figure class="main-table">')
    table, rows = cells_of(html)
    caption = table.find("caption")
    assert caption is not None
    assert "toy" in (caption.text or "")
    top, bottom = table.iterfind("thead/tr")
    assert [(cell.text, cell.get("scope"), cell.get("colspan")) for cell in top][2:] == [
        ("seen", "colgroup", "3"),
        ("held-out", "colgroup", "3"),
    ]
    assert [cell.text for cell in bottom] == ["pickscore", "oracle", "mean win rate"] * 2
    assert {row[0].get("scope") for row in rows} == {"row"}
    assert [int(group.get("span", "0")) for group in table.iterfind("colgroup")] == [2, 3, 3]
    assert all(len(row) == 8 for row in rows)


def test_safeguarded_variants_stand_below_their_baselines_and_pair_sets_are_named(world: World) -> None:
    comparison = world.comparison({"dpo": None, "dmpo": None, "dmpo+sdpo": "dmpo", "dpo+sdpo": "dpo", "sft": None})
    assert row_order(comparison) == ("base", "dpo", "dpo+sdpo", "dmpo", "dmpo+sdpo", "sft")
    models = tuple(m.model_copy(update={"pairs": "samples"}) if m.variant == "sft" else m for m in comparison.models)
    comparison = world.write(replace(comparison, models=models), noise(world))
    write_tables(comparison)
    _, rows = cells_of((world.root / "tables" / "main.html").read_text())
    assert [row[2].text for row in rows] == [None, *["renders"] * 4, "samples"]


def test_print_table_says_what_is_missing(world: World) -> None:
    comparison = world.write(world.comparison(VARIANTS), noise(world))
    path = world.root / "tables" / "scores.csv"
    with pytest.raises(InputError, match=re.escape(f"{path}: no such file")):
        print_table(comparison)
    write_tables(comparison)
    with pytest.raises(InputError, match="no row for variant 'sft', prompt set 'seen', scorer 'pickscore'"):
        print_table(world.comparison({"sft": None}))
    path.write_text("variant,mean\nbase,1\n")
    with pytest.raises(InputError, match="column 'base' is missing"):
        print_table(comparison)


def test_prompts_that_a_scorer_cuts_are_counted_and_stated(world: World) -> None:
    comparison = world.write(world.comparison(VARIANTS), by_hand)
    for model in comparison.models:
        path = layout.scores(world.root, "pickscore", model.name, "seen")
        frame = read_table(path, "scores")
        write_table(path, frame.assign(truncated=[True, True, *[False] * (len(frame) - 2)]), "scores")
    write_tables(comparison)
    row = world.row("scores.csv", variant="dmpo", seed="all", prompt_set="seen", scorer="pickscore")
    assert (row["truncated"], row["n"]) == ("2", "18")
    stated = "Prompts of which a scorer read only the beginning: pickscore 2 of 6 of seen."
    assert stated in (world.root / "tables" / "main.md").read_text()


def limited(world: World, **changes: Any) -> Comparison:
    """The oracle rates ``seen`` alone, and has no scores of other images."""
    comparison = replace(world.comparison(VARIANTS), rated={"oracle": ("seen",)}, **changes)
    world.write(comparison, by_hand)
    for model in comparison.models:
        layout.scores(world.root, "oracle", model.name, "held-out").unlink()
    return comparison


def test_a_limited_scorer_is_pooled_over_its_own_prompt_sets(world: World) -> None:
    write_tables(limited(world))
    assert {(row["scorer"], row["prompt_set"]) for row in world.read("scores.csv")} == {
        ("pickscore", "seen"),
        ("pickscore", "held-out"),
        ("oracle", "seen"),
    }
    key = {"a": "dmpo", "b": "base"}
    own, pooled = (world.row("differences.csv", **key, scorer="oracle", prompt_set=name) for name in ("seen", "all"))
    assert {name for name in own if own[name] != pooled[name]} <= {"prompt_set", "p_holm"}
    assert pooled["n_prompts"] == "6"
    # (2/3 + 3 - 4) / 6.
    assert float(pooled["mean_difference"]) == pytest.approx(-1 / 18)
    # pickscore: the same on seen, and 1 on the four of held-out.
    both = world.row("differences.csv", **key, scorer="pickscore", prompt_set="all")
    assert (both["n_prompts"], float(both["mean_difference"])) == ("10", pytest.approx((-1 / 3 + 4) / 10))
    # Nobody else is tested on held-out, so nothing is corrected for.
    alone = world.row("win_rates.csv", **key, scorer="pickscore", prompt_set="held-out")
    assert alone["p_holm"] == alone["p_value"]
    first = world.row("win_rates.csv", **key, scorer="oracle", prompt_set="seen")
    assert float(first["p_holm"]) == pytest.approx(min(1.0, 2 * float(first["p_value"])))


def test_the_mean_of_judges_is_that_of_judges_who_rate_all(tmp_path: Path) -> None:
    world = World(tmp_path, scorers={"pickscore": "sdpo", "oracle": "exact", "clip": "sdpo"})
    write_tables(limited(world))
    rows = {
        r["prompt_set"]: r for r in world.read("win_rates.csv") if r["scorer"] == "mean of judges" and r["a"] == "dmpo"
    }
    units = {name: sum(int(row[key]) for key in ("wins", "ties", "losses")) for name, row in rows.items()}
    # Three seeds; three judges on six prompts, two on four, and the same two on all ten.
    assert units == {"seen": 3 * 6 * 3, "held-out": 3 * 4 * 2, "all": 3 * 10 * 2}
    assert float(rows["all"]["win_rate"]) == pytest.approx((13 + 12) / 30)


def test_where_one_judge_rates_all_there_is_no_mean(world: World) -> None:
    write_tables(limited(world))
    assert {r["prompt_set"] for r in world.read("win_rates.csv") if r["scorer"] == "mean of judges"} == {"seen"}


def test_the_main_table_has_a_dash_where_a_scorer_does_not_rate(world: World) -> None:
    comparison = limited(world)
    write_tables(comparison)
    text = (world.root / "tables" / "main.md").read_text()
    rows = [line for line in text.partition("### held-out")[2].splitlines() if line.startswith("| ")]
    cells = {row[1]: row[3:] for row in ([cell.strip(" *") for cell in line.split("|")] for line in rows)}
    assert list(cells)[:1] + cells["variant"][:3] == ["variant", "pickscore", "oracle", "mean win rate"]
    assert (cells["dmpo"][1:3], cells["base"][1:3]) == (["–", "–"], ["–", ""])
    assert "–" not in text.partition("### held-out")[0].replace("± –", "")
    assert "- oracle rates seen and no other: a dash elsewhere." in text
    latex = (world.root / "tables" / "main.tex").read_text()
    assert any(re.match(r"dmpo & .* & -- & -- \\\\$", line) for line in latex.splitlines())
    assert (world.root / "tables" / "main.html").read_text().count("<td>&#8211;</td>") == 3 + 2
    made = made_with(world.root)
    assert made.comparison == comparison
    assert re.sub("± *–", "", print_table(made.comparison)).count("–") == 3 + 2


def test_a_score_file_that_should_be_there_is_an_error_beside_a_limit(world: World) -> None:
    comparison = limited(world)
    layout.scores(world.root, "oracle", comparison.models[1].name, "seen").unlink()
    with pytest.raises(InputError, match=r"scores/oracle/.*/seen\.parquet"):
        write_tables(comparison)


def test_a_limited_scorer_that_describes_has_differences_on_its_own_sets(world: World) -> None:
    write_tables(limited(world, no_judges=frozenset({"oracle"})))
    assert {r["scorer"] for r in world.read("win_rates.csv")} == {"pickscore"}
    described = {r["prompt_set"] for r in world.read("differences.csv") if r["scorer"] == "oracle"}
    assert described == {"seen", "all"}


def test_prompt_sets_that_are_drawn_apart_are_never_pooled(tmp_path: Path) -> None:
    world = World(tmp_path, {"seen": 6, "seen-g1": 6, "held-out": 4})
    apart = {"seen-g1": ApartSet(shows="seen", generation=DrawnApart(guidance_scale=1.0))}
    comparison = replace(world.comparison({"dmpo": None}), apart=apart)
    levels = {"seen": 1.0, "seen-g1": 50.0, "held-out": 3.0}

    def scores(variant: str, seed: int | None, prompt_set: str, scorer: str) -> np.ndarray:
        count = world.prompts[prompt_set]
        return np.full(count, 0.0 if variant == "base" else levels[prompt_set]) + 0.1 * np.arange(count)

    write_tables(world.write(comparison, scores))
    rows = [row for row in world.read("differences.csv") if row["scorer"] == "oracle"]
    found = {row["prompt_set"]: float(row["mean_difference"]) for row in rows}
    # Six prompts of one and four of three.
    assert found == pytest.approx({"seen": 1.0, "seen-g1": 50.0, "held-out": 3.0, "all": 1.8})
    assert "seen-g1 (the prompts of seen): guidance" in (tmp_path / "tables/main.md").read_text()
    panels = guidance_panels(
        comparison, read_rows(tmp_path / "tables/scores.csv", ScoreRow), SamplingSettings(guidance_scale=4.0)
    )
    assert [(panel.prompt_set, panel.scorer) for panel in panels] == [("seen", "pickscore"), ("seen", "oracle")]
    base, trained = (line.curve for line in panels[1].lines)
    assert [(line.variant, line.trained) for line in panels[1].lines] == [("base", False), ("dmpo", True)]
    assert (base.steps, trained.steps) == ((1.0, 4.0), (1.0, 4.0))
    assert trained.mean == pytest.approx((50.25, 1.25))
    assert base.mean == pytest.approx((0.25, 0.25))
    # The paper's code guides by one more than it says.
    published = SamplingSettings(protocol="sdpo", guidance_scale=4.0)
    shifted = guidance_panels(comparison, read_rows(tmp_path / "tables/scores.csv", ScoreRow), published)
    assert shifted[1].lines[0].curve.steps == (2.0, 5.0)
    # A set that differs in more than the guidance is no point of the curve.
    other = {"seen-g1": ApartSet(shows="seen", generation=DrawnApart(guidance_scale=1.0, steps=5))}
    assert guidance_panels(replace(comparison, apart=other), [], SamplingSettings()) == ()
    drawn = charts.guidance(panels, Palette.of(comparison))
    assert [unit["title"] for unit in drawn["concat"]] == ["seen: pickscore", "seen: oracle"]
    points = [(row["variant"], row["x"], row["mean"]) for row in drawn["data"]["values"] if row["panel"] == 1]
    assert points[:3] == [("base", 1.0, pytest.approx(0.25)), ("base", 4.0, pytest.approx(0.25)), ("dmpo", 1.0, 50.25)]


def test_notes_say_what_guidance_the_papers_code_guides_by(tmp_path: Path) -> None:
    world = World(tmp_path, {"seen": 6, "seen-g1": 6})
    apart = {"seen-g1": ApartSet(shows="seen", generation=DrawnApart(guidance_scale=0.0))}
    comparison = replace(world.comparison({"dmpo": None}), apart=apart)
    drawn = {"protocol": "sdpo", "guidance_scale": 7.5, "steps": 50}
    write_tables(world.write(comparison, noise(world)), drawn)
    said = (tmp_path / "tables/main.md").read_text().replace("\\_", "_")
    assert "Generation: protocol sdpo, guidance_scale 7.5, effective_guidance 8.5, steps 50." in said
    assert "seen-g1 (the prompts of seen): guidance_scale 0.0, effective_guidance 1.0." in said
    shown = print_table(comparison, drawn, scorer="oracle")
    assert "seen (guidance_scale 7.5, effective_guidance 8.5)" in shown


def test_what_one_scorer_says_fits_a_terminal(tmp_path: Path) -> None:
    world = World(tmp_path, {"seen": 60, "unguided": 60})
    comparison = world.comparison(VARIANTS)
    own = ApartSet(shows="seen", generation=DrawnApart(guidance_scale=1.0))
    comparison = replace(comparison, apart={"unguided": own})

    def scores(variant: str, seed: int | None, prompt_set: str, scorer: str) -> np.ndarray:
        """dmpo loses 1 on ``seen`` and gains 1 on ``unguided``; with the safeguard it stands at the base."""
        step = 0.0 if variant != "dmpo" else 1.0 if prompt_set == "unguided" else -1.0
        return 5 + step + 0.01 * noise(world)(variant, seed, prompt_set, scorer)

    write_tables(world.write(comparison, scores), {"guidance_scale": 4.0, "steps": 10})
    shown = print_table(comparison, {"guidance_scale": 4.0, "steps": 10}, scorer="oracle").splitlines()
    assert shown[0] == "toy, by oracle; 95% intervals"
    assert shown[1].split() == ["oracle", "minus", "base", "minus", "baseline", "mean", "win", "rate"]
    assert [line for line in shown if line and line[0] != " "][1:3] == [
        "seen (guidance_scale 4.0)",
        "unguided (guidance_scale 1.0)",
    ]
    first, second = ([line.split() for line in shown[start : start + 3]] for start in (3, 8))
    assert [row[0] for row in first] == [row[0] for row in second] == ["base", "dmpo", "dmpo+sdpo"]
    assert [float(rows[1][2]) for rows in (first, second)] == pytest.approx([-1, 1], abs=0.02)
    # The safeguarded variant against its baseline, and how often plain training wins against the base.
    assert [float(rows[2][-4]) for rows in (first, second)] == pytest.approx([1, -1], abs=0.02)
    assert (first[1][-1], second[1][-1]) == ("0.000", "1.000")
    assert max(map(len, shown)) <= 90
    with pytest.raises(InputError, match="scorer 'oracl': expected one of pickscore, oracle; did you mean 'oracle'"):
        print_table(comparison, scorer="oracl")
