"""Fill the tables of the pages from the runs' own tables in ``docs/data``: ``python docs/tables.py``.

A table stands between ``<!-- KIND RUN ARGUMENTS -->`` and ``<!-- end -->``. So no number on a page was typed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path

DOCS = Path(__file__).parent
PAGES = [DOCS.parent / "README.md", *sorted(DOCS.glob("*.md"))]
_SCORER = "oracle"
_SURFACE = ("win", "loss", "strict_win", "on_manifold", "win_quality", "strict")
"""Scores of the toy surface, ``surface_`` left out."""


def rows(run: str, table: str, scorer: str = _SCORER) -> list[dict[str, str]]:
    """Rows of a table of a run; of scores, differences and published figures those by one scorer."""
    with (DOCS / "data" / run / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row.get("scorer", scorer) == scorer]


def scores(run: str, *prompt_sets: str) -> Iterator[list[str]]:
    """Mean score and difference to the base of each variant, two columns a prompt set (``heading=set``)."""
    means = {(r["variant"], r["prompt_set"]): float(r["mean"]) for r in rows(run, "scores") if r["seed"] == "all"}
    against = {(r["a"], r["prompt_set"]): r for r in rows(run, "differences") if r["b"] == "base"}
    headings, names = zip(*(given.split("=") for given in prompt_sets), strict=True)
    yield ["variant", *(cell for heading in headings for cell in (heading.replace("_", " "), "minus base"))]
    for variant in dict.fromkeys(variant for variant, _ in means):
        cells = [variant]
        for name in names:
            row = against.get((variant, name))
            cells += [f"{means[variant, name]:.3f}", "" if row is None else difference(row)]
        yield cells


def baselines(run: str, *prompt_sets: str) -> Iterator[list[str]]:
    """Difference of each variant to what it is compared with besides the base, one column a prompt set."""
    found = {(r["a"], r["b"], r["prompt_set"]): r for r in rows(run, "differences") if r["b"] != "base"}
    headings, names = zip(*(given.split("=") for given in prompt_sets), strict=True)
    yield ["variant", "minus", *(heading.replace("_", " ") for heading in headings)]
    for a, b in dict.fromkeys((a, b) for a, b, _ in found):
        yield [a, b, *(difference(found[a, b, name]) for name in names)]


def processors(run: str, heading: str, other: str, other_heading: str, *prompt_sets: str) -> Iterator[list[str]]:
    """Difference to the base of each variant of two runs of one config, two columns a prompt set (``heading=set``)."""
    found = [
        {(r["a"], r["prompt_set"]): r for r in rows(name, "differences") if r["b"] == "base"} for name in (run, other)
    ]
    headings, names = zip(*(given.split("=") for given in prompt_sets), strict=True)
    yield ["variant", *(f"{shown.replace('_', ' ')}, {on}" for shown in headings for on in (heading, other_heading))]
    for variant in dict.fromkeys(variant for variant, _ in found[1]):
        yield [variant, *(difference(one[variant, name]) for name in names for one in found)]


def drift(run: str) -> Iterator[list[str]]:
    """Held-out drift of each variant at the end of training, with Student's interval over seeds."""
    found = rows(run, "drift")
    yield ["variant", "winner drift", "95 % over seeds", "loser drift", "seeds with winner drift > 0"]
    for row in found:
        if row["seed"] == "all":
            single = [float(r["winner_drift"]) for r in found if r["variant"] == row["variant"] and r["seed"] != "all"]
            yield [
                row["variant"],
                _signed(float(row["winner_drift"]), 4),
                f"[{_signed(float(row['ci_low']), 4)}, {_signed(float(row['ci_high']), 4)}]",
                _signed(float(row["loser_drift"]), 4),
                f"{sum(value > 0 for value in single)} of {len(single)}",
            ]


def published(run: str) -> Iterator[list[str]]:
    """Scores of the toy surface beside the published ones, which a cross marks where no seed of ours would lie."""
    found = {name: rows(run, "published", f"surface_{name}") for name in _SURFACE}
    yield ["variant", *(name.replace("_", " ") for name in _SURFACE)]
    for cells in zip(*found.values(), strict=True):
        assert len({row["variant"] for row in cells}) == 1
        shown = [f"{float(row['ours']):.3f} ({float(row['published']):.3f})" for row in cells]
        outside = ["" if row["inside_seed_interval"].lower() == "true" else " ✗" for row in cells]
        yield [cells[0]["variant"], *(a + b for a, b in zip(shown, outside, strict=True))]


def surface(run: str, *variants: str) -> Iterator[list[str]]:
    """Scores of some variants of the toy surface, and the last one's range over seeds."""
    found = {name: rows(run, "scores", f"surface_{name}") for name in _SURFACE}
    means = {(name, r["variant"]): float(r["mean"]) for name in _SURFACE for r in found[name] if r["seed"] == "all"}
    yield ["variant", *(name.replace("_", " ") for name in _SURFACE), f"{_SURFACE[-1]} over seeds"]
    for variant in variants:
        single = [float(r["mean"]) for r in found[_SURFACE[-1]] if r["variant"] == variant and r["seed"].isdigit()]
        of_seeds = f"{min(single):.3f} to {max(single):.3f}" if single else ""
        yield [variant, *(f"{means[name, variant]:.3f}" for name in _SURFACE), of_seeds]


def difference(row: dict[str, str]) -> str:
    """A difference with the half width of its interval, and a dagger where that excludes none."""
    low, high = float(row["ci_low"]), float(row["ci_high"])
    decided = "†" if low > 0 or high < 0 else ""
    return f"{_signed(float(row['mean_difference']), 3)} ± {(high - low) / 2:.3f}{decided}"


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


KINDS: dict[str, Callable[..., Iterator[list[str]]]] = {
    "scores": scores,
    "baselines": baselines,
    "processors": processors,
    "drift": drift,
    "published": published,
    "surface": surface,
}
_PLACE = re.compile(r"(<!-- (\w+) ([^>]*?) -->\n).*?(<!-- end -->)", flags=re.S)


def filled(page: str) -> str:
    """The text of a page with its tables as the data say."""

    def table(found: re.Match[str]) -> str:
        head, *body = KINDS[found[2]](*found[3].split())
        numbers = [any(re.match(r"[+−\d\[]", row[i]) for row in body) for i in range(len(head))]
        rule = ["--:" if number else "---" for number in numbers]
        lines = [f"| {' | '.join(cells)} |" for cells in (head, rule, *body)]
        return "\n".join([found[1].rstrip(), "", *lines, "", found[4]])

    return _PLACE.sub(table, page)


if __name__ == "__main__":
    for path in PAGES:
        before = path.read_text(encoding="utf-8")
        if (after := filled(before)) != before:
            path.write_text(after, encoding="utf-8")
            print(path.relative_to(DOCS.parent))
