from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from artifacts.contracts import write_table
from artifacts.errors import InputError
from evals.prompts.prompt_file import read_prompt_file


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", "a red cat\n  two dogs, “quoted”  \n\n"),
        ("p.txt", "\ufeffa red cat\r\ntwo dogs, “quoted”\r\n"),
        ("p.json", json.dumps(["a red cat", "two dogs, “quoted”"])),
        ("p.JSON", json.dumps([{"prompt": "a red cat"}, {"prompt": "two dogs, “quoted”", "challenge": None}])),
        ("p.jsonl", '{"prompt": "a red cat"}\n"two dogs, “quoted”"\n'),
        ("p.csv", 'prompt,note\na red cat,x\n"two dogs, “quoted”",\n'),
        ("p.tsv", "Note\tprompt\n\ta red cat\ny\ttwo dogs, “quoted”\n"),
    ],
)
def test_every_format_gives_the_same_prompts(tmp_path: Path, name: str, content: str) -> None:
    prompts = read_prompt_file(write(tmp_path, name, content))
    assert [prompt.text for prompt in prompts] == ["a red cat", "two dogs, “quoted”"]
    assert [prompt.file for prompt in prompts] == [None, None]


def test_parquet_of_the_prompts_contract_has_ids(tmp_path: Path) -> None:
    frame = pd.DataFrame({"prompt_id": ["s-00000"], "prompt": ["a cat"], "category": [""], "source": ["x"]})
    write_table(tmp_path / "p.parquet", frame, "prompts")
    assert read_prompt_file(tmp_path / "p.parquet")[0].prompt_id == "s-00000"


def test_a_line_separator_within_a_prompt_does_not_split_it(tmp_path: Path) -> None:
    prompts = read_prompt_file(write(tmp_path, "p.txt", "a\u2028b\x0cc\nd"))
    assert [prompt.text for prompt in prompts] == ["a\u2028b\x0cc", "d"]


@pytest.mark.parametrize("column", ["prompt_id", "id", "index", "idx"])
def test_column_of_numbers(tmp_path: Path, column: str) -> None:
    path = write(tmp_path, "p.jsonl", f'{{"{column}": 2, "prompt": "a"}}\n{{"{column}": "s-1", "prompt": "b"}}\n')
    assert [prompt.prompt_id for prompt in read_prompt_file(path)] == ["2", "s-1"]


def test_columns_in_capital_letters(tmp_path: Path) -> None:
    """Else images would be paired by the order of the rows, and their ids and categories be lost."""
    path = write(tmp_path, "p.csv", "ID,Image,Prompt,Category\n2,b.png,one,x\n0,a.png,two,y\n")
    found = [(p.text, p.file, p.prompt_id, p.category) for p in read_prompt_file(path)]
    assert found == [("one", "b.png", "2", "x"), ("two", "a.png", "0", "y")]


def test_words_that_are_no_header(tmp_path: Path) -> None:
    texts = ["{red|blue} cat, [seed]", "a prompt, a file"]
    for text in texts:
        assert [p.text for p in read_prompt_file(write(tmp_path, "p.txt", f"{text}\nb\n"))] == [text, "b"]


@pytest.mark.parametrize("column", ["file", "file_name", "image"])
def test_column_that_names_the_image(tmp_path: Path, column: str) -> None:
    path = write(tmp_path, "p.csv", f"{column},prompt\nb.png,one\na.png,two\n")
    assert [prompt.file for prompt in read_prompt_file(path)] == ["b.png", "a.png"]


def test_columns_of_other_names(tmp_path: Path) -> None:
    path = write(tmp_path, "p.tsv", "Prompt\tPicture\tfile\na cat\tz.png\tno.png\n")
    prompt = read_prompt_file(path, prompt_column="Prompt", file_column="Picture")[0]
    assert (prompt.text, prompt.file, prompt.where) == ("a cat", "z.png", "row 1")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.txt", "a\n\nb\n", r"p\.txt: line 2: the prompt is empty; .*remove the row and its image"),
        ("p.txt", "\n", r"p\.txt: holds no prompts"),
        ("p.txt", b"a\n\xff\n", r"p\.txt: not UTF-8 text \(.* at byte 2\)"),
        ("p.doc", "a", r"p\.doc: unknown suffix '\.doc': expected one of \.txt"),
        ("p.json", '["a"', r"p\.json: not JSON \(line 1"),
        ("p.json", '{"a": "b"}', r"p\.json: expected a list of prompts, found dict"),
        ("p.json", '["a", null]', r"p\.json: entry 2: the prompt is nothing, expected text"),
        ("p.json", '[{"prompts": "a"}]', r"p\.json: entry 1: no 'prompt' \(found prompts\); did you mean 'prompts'\?"),
        ("p.json", "[]", r"p\.json: holds no prompts"),
        ("p.jsonl", '"a"\nb\n', r"p\.jsonl: line 2: not JSON"),
        ("p.jsonl", '{"prompt": "a", "file": "0.png"}\n"b"\n', r"p\.jsonl: line 2: names no image, other rows do"),
        ("p.json", '["\\ufeffa"]', r"entry 1: the prompt is '\\ufeffa', which begins with a byte-order mark"),
        ("p.json", '["a\\u0000"]', r"entry 1: the prompt is 'a\\x00', which holds a NUL"),
        ("p.json", '{"prompt": "a"}\n{"prompt": "b"}', r"line 2: Extra data.* one a line, are \.jsonl"),
        ("p.json", '[{"prompt": "a", "prompt": "b"}]', "an object names the key 'prompt' twice"),
        ("p.jsonl", '["a", "b"]', r"line 1: the prompt is list, expected text"),
        ("p.jsonl", '{"prompt": "a", "id": 2}\n{"prompt": "b"}\n', r"line 2: names no id, other rows do"),
        ("p.jsonl", '{"prompt": "a", "prompt_id": 0.5}\n', r"line 1: 'prompt_id' is 0\.5, expected a whole number or"),
        ("p.txt", "prompt\na\n", r"line 1 is no prompt but looks like the header of a table; name the file \.csv"),
        ("p.txt", "file,prompt\n0.png,a\n", r"line 1 is no prompt but looks like the header"),
        ("p.txt", '{"prompt": "a"}\n', r"line 1 is no prompt but looks like JSON; .*\.jsonl if each line"),
        ("p.csv", "prompt,file,prompt\na,b,c\n", r"p\.csv: two columns are named 'prompt'; name each column once"),
        ("p.csv", "a red cat\na dog\n", r"row 1: no 'prompt' \(found a red cat\)"),
        ("p.csv", "file,prompt\n0.png,a, b\n", r"p\.csv: row 1 has not the 2 cells .*quote cells"),
        ("p.csv", "file,prompt\n0.png\n", r"p\.csv: row 1 has not the 2 cells"),
        ("p.csv", "file,prompt\n,a\n", r"p\.csv: row 1: 'file' is '', expected the name of an image"),
        ("p.csv", "file,image,prompt\na,b,c\n", r"p\.csv: columns file, image may all name the image; .*--file-column"),
        ("p.csv", "prompt,Prompt\na,b\n", r"p\.csv: columns 'prompt' and 'Prompt' differ in capital letters only"),
        ("p.jsonl", '{"prompt": "a", "id": 1}\n{"prompt": "b", "ID": 0}\n', r"columns 'id' and 'ID' differ in capital"),
        ("p.csv", "prompt, id\na, 1\n", r"p\.csv: the column ' id' has white space around its name; remove it"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_prompt_file(write(tmp_path, name, content))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('"\\ud800 cat"', r"entry 2: the prompt is '\\ud800 cat', which is not Unicode text"),
        ('{"prompt": "b", "file": "\\udfff.png"}', r"entry 2: 'file' is '\\udfff\.png', which is not Unicode text"),
        ('{"prompt": "b", "prompt_id": "\\ud800"}', r"entry 2: 'prompt_id' is '\\ud800', which is not Unicode text"),
    ],
)
def test_half_a_character_is_no_text(tmp_path: Path, row: str, message: str) -> None:
    """JSON can spell it, Parquet cannot hold it; a pair of halves is a character."""
    first = '{"prompt": "\\ud83d\\ude00 a", "file": "a", "prompt_id": "0"}'
    with pytest.raises(InputError, match=message):
        read_prompt_file(write(tmp_path, "p.json", f"[{first}, {row}]"))
    assert read_prompt_file(write(tmp_path, "p.json", f"[{first}]"))[0].text == "😀 a"
