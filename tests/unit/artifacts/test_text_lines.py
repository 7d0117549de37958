"""Texts as people's programs save them: marks, encodings, line ends, JSON and tables."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import pytest

from artifacts.errors import InputError
from artifacts.prompt_text import control_token_warning, control_tokens, fault, same
from artifacts.text_lines import json_lines, lines, read_json, read_text, table


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_neither_mark_nor_line_end_is_text(tmp_path: Path, mark: str, end: str) -> None:
    path = write(tmp_path, f"{mark}a cat{end}{end}b{end}")
    assert list(lines(path)) == [(1, "a cat"), (2, ""), (3, "b")]
    assert read_text(path) == f"a cat{end}{end}b{end}"


@pytest.mark.parametrize("mark", list("\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))
def test_only_line_feeds_end_a_line(tmp_path: Path, mark: str) -> None:
    text = f"a{mark}b"
    assert list(lines(write(tmp_path, f"{text}\nc"))) == [(1, text), (2, "c")]
    assert list(json_lines(write(tmp_path, json.dumps(text, ensure_ascii=False)))) == [(1, text)]
    assert list(table(write(tmp_path, f"prompt\n{text}\n"))) == [(1, {"prompt": text})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\rb\r", "line 1 holds a carriage return without a line feed"),
        ("a\nb\r\r\n", "line 2 holds a carriage return"),
        ("a\r", "line 1 holds a carriage return"),
        ("a\nb\0c\n", "line 2 holds a NUL"),
        ("a\n\ufeffb\n", "line 2 begins with a byte-order mark, as where files were joined"),
        ("\ufeff\ufeffb\n", "line 1 begins with a byte-order mark"),
        (b"a\nb\xe9\n", r"not UTF-8 text \(.* in line 2, at byte 3\); give a UTF-8 text file"),
        ("a cat".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("a cat".encode("utf-32"), "is UTF-32 text"),
        (b"\xfe\xff\0a", "is UTF-16 text"),
        (b"\0\0\xfe\xff\0\0\0a", "is UTF-32 text"),
        ("a cat".encode("utf-16-le"), "line 1 holds a NUL"),
        ("ein Bär".encode("utf-16-be"), r"not UTF-8 text \(UTF-16 without a byte-order mark\? "),
        # Far behind what is read at once.
        (b"x" * 30_000 + b"\n" + b"ab\xff\n", r"in line 2, at byte 30003\)"),
    ],
)
def test_what_is_no_line_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        list(lines(write(tmp_path, content)))
    assert "\n" not in str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: No such file or directory; give a UTF-8 text file"):
        read_text(tmp_path / "none")
    with pytest.raises(InputError, match="Is a directory"):
        list(lines(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a", "prompt": "b"}', "an object names the key 'prompt' twice"),
        ('[{"x": {"a": 1, "a": 1}}]', "an object names the key 'a' twice"),
        ("[" * 100_000, "brackets nested too deeply"),
        ("1" * 5000, "digits"),
        ('"a\tb"', "Invalid control character"),
    ],
)
def test_json_that_python_would_take_or_choke_on(tmp_path: Path, content: str, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(InputError, match=rf"file: not JSON \(.*{message}"):
        read_json(path)
    with pytest.raises(InputError, match=rf"file: line 1: not JSON \(.*{message}"):
        list(json_lines(path))


def test_json_of_one_kind_in_the_other_kind_of_file(tmp_path: Path) -> None:
    path = write(tmp_path, '{"prompt": "a"}\n\n{"prompt": "b"}\n')
    assert list(json_lines(path)) == [(1, {"prompt": "a"}), (3, {"prompt": "b"})]
    with pytest.raises(InputError, match=r"line 3: Extra data\); .* several values, one a line, are \.jsonl"):
        read_json(path)


def test_table(tmp_path: Path) -> None:
    path = write(tmp_path, '\ufeff"prompt",,\r\n"a, ""cat""",1,\r\n"two\r\nlines",,2\r\n\r\n')
    assert list(table(path)) == [(1, {"prompt": 'a, "cat"', "": ""}), (2, {"prompt": "two\nlines", "": "2"})]
    assert list(table(write(tmp_path, "a\tb\n1\t2,3\n"), "\t")) == [(1, {"a": "1", "b": "2,3"})]
    assert list(table(write(tmp_path, ""))) == list(table(write(tmp_path, "prompt\n"))) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("prompt,x,prompt\na,b,c\n", "two columns are named 'prompt'"),
        ("prompt,note,note\na,b,c\n", "two columns are named 'note'"),
        ("prompt, note\na,b\n", "the column ' note' has white space around its name"),
        ("prompt,x\na, b, c\n", "row 1 has not the 2 cells of the header"),
        ("prompt,x\na\n", "row 1 has not the 2 cells"),
        ("prompt\na\n\nb\n", "row 2 has not the 1 cells of the header; .*remove blank lines"),
        ("\nprompt\na\n", "the first line is blank; expected the names of the columns"),
        ('prompt\n"a\nb\n', "not a table"),
        ('prompt\n"a" cat\n', "line 2: not a table"),
    ],
)
def test_tables_that_say_two_things(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(table(write(tmp_path, content)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "nothing, expected text"),
        (5, "int, expected text"),
        (" \u3000\u2028", "empty"),
        ("\ud800 cat", r"'\ud800 cat', which is not Unicode text"),
        ("a\0b", r"'a\x00b', which holds a NUL"),
        ("a\u2028b\x07 é \ufffe", ""),
    ],
)
def test_what_can_be_no_prompt(value: object, message: str) -> None:
    assert fault(value) == message


def test_what_counts_as_one_prompt() -> None:
    one = ["Café  au lait", "café au lait ", unicodedata.normalize("NFD", "CAFÉ au\u00a0lait")]
    assert len({same(text) for text in one}) == 1
    # A small letter of which the folded form is not NFC.
    assert same("\u1e9b\u0323") == same(unicodedata.normalize("NFD", "\u1e9b\u0323"))
    assert len({same(text) for text in ["a cat", "a cat.", "acat", "a cäт", "a cät"]}) == 5


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a cat<|endoftext|> dog", ["<|endoftext|>"]),
        ("[SEP] [sep] [MASK]", ["[SEP]", "[MASK]"]),
        ("a &lt;END_of_text&gt;", ["<end_of_text>"]),
        ("a &amp;lt;end_of_text&amp;gt;", ["<end_of_text>"]),
        ("an end of text [a] <cat> &amp; [ SEP ]", []),
    ],
)
def test_text_that_a_tokenizer_takes_for_control_tokens(text: str, tokens: list[str]) -> None:
    assert set(control_tokens(text)) == set(tokens)


def test_control_tokens_are_those_of_the_tokenizers() -> None:
    """Each is one token of its tokenizer, and the list misses none of what they know."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers.models.bert.tokenization_bert import BertTokenizer

    from worlds.miniature.tokenizer import build

    clip = build()
    bert = BertTokenizer(
        vocab={token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"])}
    )
    for token in (*clip.all_special_tokens, *bert.all_special_tokens):
        assert control_tokens(f"a {token} a") == [token]
    own = SimpleTokenizer()
    for token in (text for text, number in own.encoder.items() if number in own.all_special_ids):
        assert control_tokens(f"a {token.upper()} a") == [token]
        assert set(own.encode(f"a {token.upper()} a")) & set(own.all_special_ids)


def test_control_tokens_are_counted() -> None:
    assert control_token_warning(["a", "b"]) == ""
    assert control_token_warning(["a", "b [SEP] c", "[CLS]"]).startswith(
        "2 of 3 prompts hold text that tokenizers read as control tokens, as the published models do: [SEP] in 'b [SEP]"
    )
