"""The shipped weights reach what is required of them, and their card says what was measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from worlds.miniature.quality import REQUIRED_AGREEMENT, REQUIRED_ATTRIBUTES, REQUIRED_RELATION, shortfalls

FOLDER = Path("resources/miniature")
LARGEST_BYTES = 16_000_000


@pytest.fixture(scope="module")
def quality() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "quality.json").read_text())
    return found


@pytest.fixture(scope="module")
def agreement() -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = json.loads((FOLDER / "agreement.json").read_text())["scorers"]
    return found


@pytest.fixture(scope="module")
def card() -> dict[str, list[str]]:
    """Cells of the card's tables, by their first one."""
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


def test_what_falls_short_is_recorded(quality: dict[str, Any], agreement: dict[str, dict[str, float]]) -> None:
    bases = {name: quality[name] for name in ("base", "flow")}
    assert shortfalls(bases, {"scorers": agreement}) == quality["shortfalls"]


def test_weights_are_small_enough_to_be_tracked() -> None:
    assert 1_000_000 < sum(path.stat().st_size for path in FOLDER.rglob("*.safetensors")) <= LARGEST_BYTES


def test_weights_come_from_a_clean_tree() -> None:
    files = sorted(FOLDER.rglob("provenance.json"))
    assert len(files) == 7
    assert not any(json.loads(path.read_text())["git_dirty"] for path in files)


@pytest.mark.parametrize(("base", "column"), [("base", 0), ("flow", 2)])
def test_card_states_the_quality_of_the_bases(
    quality: dict[str, Any], card: dict[str, list[str]], base: str, column: int
) -> None:
    for name, share in quality[base]["one_object"].items():
        assert card[name][column] == f"{share:.3f}"
    for name, share in quality[base]["two_objects"].items():
        assert card[name][column + 1] == f"{share:.3f}"
    assert {name: float(card[name][4]) for name in REQUIRED_ATTRIBUTES} == REQUIRED_ATTRIBUTES
    assert card["relation"][4].startswith(f"{REQUIRED_RELATION} ")


def test_card_states_the_agreement_of_the_scorers(
    agreement: dict[str, dict[str, float]], card: dict[str, list[str]]
) -> None:
    for name, found in agreement.items():
        assert card[name][0] == f"{found['agreement']:.3f} [{found['ci_low']:.3f}, {found['ci_high']:.3f}]"
    assert {name: float(card[name][1]) for name in REQUIRED_AGREEMENT} == REQUIRED_AGREEMENT
