"""Files of data sets: checksum manifests, downloads from the hub, and long JSON arrays."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from artifacts.atomic import write_text
from artifacts.errors import InputError
from sdpo import pairs
from sdpo.cli import main
from sdpo.pairs.reading import json_array
from sdpo.pairs.reading.checksums import verify, write_manifest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of one pair; a hidden file does not belong to it."""
    folder = tmp_path / "data"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "x y.png")
    write_text(folder / "pairs.jsonl", json.dumps({"prompt": "a", "winner": "x y.png", "loser": "x y.png"}))
    write_text(folder / ".cache" / "z", "z")
    return folder


def test_manifest_is_that_of_sha256sum(data: Path) -> None:
    assert write_manifest(data, data / "MANIFEST") == 2
    assert [line[66:] for line in (data / "MANIFEST").read_text().splitlines()] == ["pairs.jsonl", "x y.png"]
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "MANIFEST"], cwd=data, check=True)
    assert verify(data, data / "MANIFEST") == 2
    written = subprocess.run(["sha256sum", "-b", "x y.png", "./pairs.jsonl"], cwd=data, check=True, capture_output=True)
    (data / "MANIFEST").write_bytes(written.stdout)
    assert verify(data, data / "MANIFEST") == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pairs.jsonl", "{}", "pairs.jsonl is damaged or another version"),
        ("pairs.jsonl", None, "pairs.jsonl is missing"),
        ("new.txt", "", "new.txt is not listed"),
    ],
)
def test_manifest_finds_what_has_changed(
    data: Path, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    write_manifest(data, tmp_path / "m")
    if content is None:
        (data / name).unlink()
    else:
        write_text(data / name, content)
    options = {"path": str(data), "heldout_splits": [], "manifest": str(tmp_path / "m")}
    with pytest.raises(InputError, match=f"data is not what .*m lists: {message}; fetch these files again, or, if"):
        pairs.read("folder", options, base_path=Path())


@pytest.mark.parametrize("text", ["", "abc  x\n", f"{'0' * 64} x\n"])
def test_no_manifest(data: Path, tmp_path: Path, text: str) -> None:
    write_text(tmp_path / "m", text)
    with pytest.raises(InputError, match="lists no file" if not text else "m, line 1: expected a SHA-256"):
        verify(data, tmp_path / "m")
    with pytest.raises(InputError, match=r"m2: .*give a manifest"):
        verify(data, tmp_path / "m2")


COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_manifest_of_names_that_another_system_writes_differently(data: Path, tmp_path: Path) -> None:
    """macOS decomposes letters; U+2028 in a name ends no line."""
    write_text(data / f"{COMPOSED} \u2028x", "1")
    write_manifest(data, tmp_path / "m")
    (data / f"{COMPOSED} \u2028x").rename(data / f"{DECOMPOSED} \u2028x")
    assert verify(data, tmp_path / "m") == 3
    (tmp_path / "m").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "m").read_bytes().replace(b"\n", b"\r\n"))
    assert verify(data, tmp_path / "m") == 3
    write_text(data / f"{COMPOSED} \u2028x", "1")
    with pytest.raises(InputError, match="differ only in how letters are composed; rename one"):
        verify(data, tmp_path / "m")


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\\b", b"a\xff".decode("utf-8", "surrogateescape")])
def test_names_that_a_manifest_cannot_hold(data: Path, tmp_path: Path, name: str) -> None:
    (data / name).touch()
    with pytest.raises(InputError, match="a manifest cannot hold this name; rename the file") as error:
        write_manifest(data, tmp_path / "m")
    assert "\n" not in str(error.value)


def test_manifest_that_says_two_things(data: Path, tmp_path: Path) -> None:
    write_text(tmp_path / "m", f"{'0' * 64}  x\n{'0' * 64}  ./x\n{'1' * 64}  x\n")
    with pytest.raises(InputError, match="m, line 3: x is listed twice, with two digests"):
        verify(data, tmp_path / "m")


def test_manifest_from_the_command_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pairs", "manifest", str(data), "--out", str(tmp_path / "m")]) == 0
    assert main(["pairs", "verify", str(data), "--manifest", str(tmp_path / "m")]) == 0
    assert f"{data}: 2 files are as {tmp_path / 'm'} lists them" in capsys.readouterr().out
    write_text(data / "new", "")
    assert main(["pairs", "verify", str(data), "--manifest", str(tmp_path / "m")]) == 2
    assert main(["pairs", "manifest", str(tmp_path / "none"), "--out", str(tmp_path / "m")]) == 2
    assert "none: no such folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["pairs"])
    assert "pairs: --spec is missing" in capsys.readouterr().err


COMMIT = "0123456789" * 4


def test_hub_download_is_pinned_and_takes_only_the_splits(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def snapshot_download(repo: str, **options: Any) -> str:
        asked.append((repo, options))
        return str(data)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(InputError, match=r"split 'test': no file \*\*/test-\*.parquet in .*data"):
        list(
            pairs.read(
                "pickapic",
                {"repo": "owner/set", "revision": COMMIT, "heldout_splits": ["test"]},
                base_path=Path(),
            )
        )
    patterns = ["**/test-*.parquet", "**/train-*.parquet", "test-*.parquet", "train-*.parquet"]
    chosen = {"repo_type": "dataset", "revision": COMMIT, "allow_patterns": patterns, "ignore_patterns": []}
    assert asked == [("owner/set", chosen)]


def test_failed_download_names_no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(repo: str, **options: Any) -> str:
        raise OSError("404 for https://hub/owner/set with hf_secret")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with pytest.raises(
        InputError, match=r"owner/set at 0123.* cannot be downloaded: 404 .* with \*\*\*; it may"
    ) as error:
        pairs.read("pickapic", {"repo": "owner/set", "revision": COMMIT}, base_path=Path())
    assert "hf_secret" not in str(error.value)


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_array_is_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int, indent: int | None
) -> None:
    monkeypatch.setattr(json_array, "PIECE", piece)
    rows = [{"a": [1, {"b": ']},\\"ü'}]}, {}, {"c": "x" * 50, "d": 12345.5e10}]
    write_text(tmp_path / "x.json", "\n " + json.dumps(rows, indent=indent) + "\n")
    assert list(json_array.read_objects(tmp_path / "x.json")) == rows
    write_text(tmp_path / "x.json", "[]")
    assert list(json_array.read_objects(tmp_path / "x.json")) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no array after element 0"),
        ('{"a": 1}', "no array after element 0"),
        ('[{"a": 1}, {"b"', "after element 1"),
        ('[{"a": 1},', "after element 1"),
        ("[{}, 3]", "element 2: expected an object, got int"),
        ("[{} {}]", "neither comma nor bracket after element 1"),
        ("[{},,{}]", "after element 1"),
        ("[{},]", "after element 1"),
        ("[,{}]", "after element 0"),
        ("[{}] x", "more text after element 1"),
        ("[{}]{}", "more text after element 1"),
        ('[{}, {"a": {"b": 1, "b": 2}}]', "an object names the key 'b' twice after element 1"),
        ('[{"a": ' + "[" * 100_000, "brackets nested too deeply after element 0"),
        ('[{"a": ' + "1" * 5000 + "}]", "digits"),
    ],
)
def test_json_that_is_no_whole_array(tmp_path: Path, text: str, message: str) -> None:
    write_text(tmp_path / "x.json", text)
    with pytest.raises(InputError, match=f"x.json.*{message}"):
        list(json_array.read_objects(tmp_path / "x.json"))


@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_json_array_in_the_encodings_of_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(json_array, "PIECE", piece)
    path = tmp_path / "x.json"
    path.write_bytes('\ufeff[{"a": "\u2028ü"},\r\n{}\r\n]\r\n'.encode())
    assert list(json_array.read_objects(path)) == [{"a": "\u2028ü"}, {}]
    path.write_bytes("[{}]".encode("utf-16"))
    with pytest.raises(InputError, match=r"x\.json: is UTF-16 text; save it as UTF-8"):
        list(json_array.read_objects(path))
    path.write_bytes(b'[{"a": 1},\n{"b": "\xff"}]')
    with pytest.raises(InputError, match=r"x\.json: not UTF-8 text \(invalid start byte in line 2, at byte 18\)"):
        list(json_array.read_objects(path))


def test_json_array_does_not_hold_the_file_in_memory(tmp_path: Path) -> None:
    import tracemalloc

    row = json.dumps({"prompt": "x" * 1000})
    write_text(tmp_path / "x.json", f"[{','.join([row] * 12_000)}]")
    tracemalloc.start()
    count = sum(1 for _ in json_array.read_objects(tmp_path / "x.json"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 12_000
    assert peak < 6e6  # of 12 MB
