from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from artifacts.contracts import read_table
from artifacts.errors import InputError
from evals import prompt_sets


def spec(tmp_path: Path, **changed: Any) -> dict[str, Any]:
    (tmp_path / "prompts.txt").write_text("a red cat\n\n  two dogs  \n“quoted” λ\n", encoding="utf-8")
    return {
        "prompt_set": "mine",
        "source": "text_file",
        "limit": None,
        "options": {"path": str(tmp_path / "prompts.txt")},
        "out": str(tmp_path / "out" / "mine.parquet"),
        **changed,
    }


def test_lines_of_a_file(tmp_path: Path) -> None:
    prompt_sets.write(spec(tmp_path))
    table = read_table(tmp_path / "out" / "mine.parquet", "prompts")
    assert table["prompt_id"].tolist() == ["mine-00000", "mine-00001", "mine-00002"]
    assert table["prompt"].tolist() == ["a red cat", "two dogs", "“quoted” λ"]
    assert set(table["category"]) == {""}
    assert set(table["source"]) == {"text_file"}


def test_limit_takes_the_first(tmp_path: Path) -> None:
    prompt_sets.write(spec(tmp_path, limit=2))
    assert read_table(tmp_path / "out" / "mine.parquet", "prompts")["prompt"].tolist() == ["a red cat", "two dogs"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"limit": 4}, "prompt set 'mine': source 'text_file' has 3 prompts, limit is 4"),
        ({"source": "text_fil"}, "unknown prompt source 'text_fil'.*did you mean 'text_file'"),
        ({"options": {}}, "expected exactly 'path'"),
        ({"options": {"path": "absent.txt"}}, "absent.txt: .*give a UTF-8 text file"),
        ({"source": "miniature_seen", "options": {"seed": 1}}, "unknown option 'seed': it has no options"),
    ],
)
def test_bad_sets_are_refused_and_nothing_is_written(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        prompt_sets.write(spec(tmp_path, **changed))
    assert not (tmp_path / "out").exists()


def test_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError, match=r"latin.txt: .*give a UTF-8 text file"):
        prompt_sets.write(spec(tmp_path, options={"path": str(tmp_path / "latin.txt")}))


def test_empty_file_has_no_prompts(tmp_path: Path) -> None:
    (tmp_path / "blank.txt").write_text("\n \n")
    with pytest.raises(InputError, match="has 0 prompts"):
        prompt_sets.write(spec(tmp_path, options={"path": str(tmp_path / "blank.txt")}))
