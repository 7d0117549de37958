from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.contracts import read_table
from artifacts.errors import InputError
from evals import prompts as prompt_sets
from evals.prompts.prompt_file import read_prompt_file
from evals.prompts.sources import text_file


def spec(tmp_path: Path, **changed: Any) -> dict[str, Any]:
    (tmp_path / "prompts.txt").write_text("a red cat\n  two dogs  \n“quoted” λ\n\n", encoding="utf-8")
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
        ({"options": {}}, "path is missing; expected a file of prompts"),
        ({"options": {"path": None}}, "path is None, expected a text"),
        ({"options": {"paht": "x"}}, "unknown option 'paht': expected one of path, prompt_column; did you mean 'path'"),
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
    with pytest.raises(InputError, match=r"blank\.txt: holds no prompts"):
        prompt_sets.write(spec(tmp_path, options={"path": str(tmp_path / "blank.txt")}))


FORMATS = {
    "txt": "a red cat\ntwo dogs, “quoted”\n",
    "csv": 'prompt,category\na red cat,pets\n"two dogs, “quoted”",\n',
    "tsv": "category\tprompt\npets\ta red cat\n\ttwo dogs, “quoted”\n",
    "json": '[{"prompt": "a red cat", "category": "pets"}, {"prompt": "two dogs, “quoted”", "category": null}]',
    "jsonl": '{"prompt": "a red cat", "category": "pets"}\n"two dogs, “quoted”"\n',
}


@pytest.mark.parametrize("suffix", FORMATS)
def test_own_prompts_in_every_format(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"own.{suffix}").write_text("\ufeff" + FORMATS[suffix], encoding="utf-8")
    prompt_sets.write(spec(tmp_path, options={"path": str(tmp_path / f"own.{suffix}")}))
    table = read_table(tmp_path / "out" / "mine.parquet", "prompts")
    assert table["prompt"].tolist() == ["a red cat", "two dogs, “quoted”"]
    assert table["category"].tolist() == (["", ""] if suffix == "txt" else ["pets", ""])


def test_own_prompts_may_lie_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "own.txt").write_text("a cat\n")
    prompt_sets.write(spec(tmp_path, options={"path": "~/own.txt"}))
    assert read_table(tmp_path / "out" / "mine.parquet", "prompts")["prompt"].tolist() == ["a cat"]


def test_prompts_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("Caption,category\na cat,\n")
    options = {"path": str(tmp_path / "own.csv")}
    with pytest.raises(InputError, match=r"row 1: no 'prompt' \(found Caption, category\).*prompt_column in a config"):
        prompt_sets.write(spec(tmp_path, options=options))
    prompt_sets.write(spec(tmp_path, options={**options, "prompt_column": "Caption"}))
    assert read_table(tmp_path / "out" / "mine.parquet", "prompts")["prompt"].tolist() == ["a cat"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", "\ufeffa cat\n"),
        ("p.txt", "a cat\u2028on a mat\x0b\x0c\x1c\x1d\x1e\x85!\r\nb\r\n"),
        ("p.txt", "a\rb\r"),
        ("p.txt", "a\n\nb\n"),
        ("p.txt", "a\n \n"),
        ("p.txt", "prompt\na cat\n"),
        ("p.txt", "file\tprompt\n0.png\ta cat\n"),
        ("p.txt", '"prompt","category"\n"a cat","x"\n'),
        ("p.txt", '{"prompt": "a cat"}\n'),
        ("p.txt", '[\n"a cat"\n]\n'),
        ("p.txt", "{red|blue} cat, [seed]\n"),
        ("p.txt", "a prompt, a file\n"),
        ("p.csv", "prompt,prompt\na,b\n"),
        ("p.csv", '\ufeff"prompt",note\n" ",b\n'),
        ("p.csv", "prompt\na\n\nb\n"),
        ("p.csv", "prompt;category\na;b\n"),
        ("p.csv", "a red cat\na blue cat\n"),
        ("p.tsv", 'prompt\n"A" is a letter\n'),
        ("p.json", '["\\ud800 cat"]'),
        ("p.json", '["a\\u0000b"]'),
        ("p.json", '["\\ufeffa cat"]'),
        ("p.json", '[{"prompt": "a", "prompt": "b"}]'),
        ("p.json", '{"prompt": "a"}\n{"prompt": "b"}'),
        ("p.jsonl", '["a", "b"]'),
        ("p.jsonl", '\n{"prompt": "a"}\n\n{"prompt": "b\\nc"}\n'),
        ("p.jsonl", '{"prompt": "a", "id": 1}\n{"prompt": "b"}\n'),
        ("p.md", "a cat"),
    ],
)
def test_prompt_sets_and_folders_of_images_read_one_text(tmp_path: Path, name: str, content: str) -> None:
    """Whatever a file holds, both readers give the same prompts, or the same line of what is wrong."""
    (tmp_path / name).write_bytes(content.encode())

    def outcome(read: Callable[[], list[str]]) -> list[str] | str:
        try:
            return read()
        except InputError as error:
            return str(error)

    own = outcome(lambda: [p.text for p in text_file.read({"path": str(tmp_path / name)})])
    assert own == outcome(lambda: [p.text for p in read_prompt_file(tmp_path / name)])
    assert own


@pytest.mark.parametrize("text", ["", " \u3000", "a\0", "\udc80", None, 5])
def test_no_source_gives_what_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: Any) -> None:
    monkeypatch.setattr(text_file, "read", lambda options: [prompt_sets.Prompt("a"), prompt_sets.Prompt(text)])
    with pytest.raises(InputError, match="prompt set 'mine': source 'text_file': prompt 1, from 0, is "):
        prompt_sets.write(spec(tmp_path))


def test_prompts_that_tokenizers_take_for_control_tokens_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.txt").write_text("a cat\na cat<|endoftext|> and a dog\n")
    prompt_sets.write(spec(tmp_path, options={"path": str(tmp_path / "own.txt")}))
    assert "warning: prompt set 'mine': 1 of 2 prompts holds text that tokenizers read as" in capsys.readouterr().err
    assert read_table(tmp_path / "out" / "mine.parquet", "prompts")["prompt"][1] == "a cat<|endoftext|> and a dog"


@pytest.mark.parametrize(
    ("more", "what"), [([None], "category None"), (["\ud800"], "category '."), (["", 7], "item 7")]
)
def test_category_and_item_are_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[Any], what: str
) -> None:
    monkeypatch.setattr(text_file, "read", lambda options: [prompt_sets.Prompt("a"), prompt_sets.Prompt("b", *more)])
    with pytest.raises(
        InputError, match=f"source 'text_file': prompt 1, from 0, has the {what}.*; expected text, empty"
    ):
        prompt_sets.write(spec(tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_set_of_prompts_has_no_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_file, "read", lambda options: {prompt_sets.Prompt("a"), prompt_sets.Prompt("b")})
    with pytest.raises(
        InputError, match="source 'text_file' fails: TypeError: read gives a set, whose order is another"
    ):
        prompt_sets.write(spec(tmp_path))
