from __future__ import annotations

import hashlib
import json
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file

import evals.commands.doctor
import evals.published.fetch_weights
from artifacts.errors import InputError
from evals import cli, scorers
from evals.published.download import download
from evals.published.fetch_weights import convert
from evals.published.prompts import PROMPTS
from evals.published.weights import NEEDED, WEIGHTS, PublishedFile

DATA = bytes(range(256)) * 12_000  # 3 MB: several pieces


def test_a_plain_address_is_asked_again_where_the_connection_ends(server: Any, tmp_path: Path) -> None:
    server.files["/a"], server.cuts = DATA, [1_500_000, 600_000]
    assert download(f"{server.url}/a", tmp_path / "a", wait=0).read_bytes() == DATA
    assert server.ranges == [None] * 3
    server.cuts = [5] * 9
    with pytest.raises(InputError, match=r"IncompleteRead\(5 bytes"):
        download(f"{server.url}/a", tmp_path / "a", wait=0)
    assert len(server.ranges) == 3 + 5
    with pytest.raises(InputError, match="the server answers 404"):
        download(f"{server.url}/b", tmp_path / "b", wait=0)
    assert len(server.ranges) == 3 + 5 + 1


# What a scorer's repository might hold: a pickle of half-precision tensors under ``state_dict``, and a configuration.
COMMIT = "c" * 40


@pytest.fixture
def published(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PublishedFile, ...]:
    """A pickle with a digest, and a configuration that a commit fixes."""
    shared = torch.arange(6, dtype=torch.float16)
    torch.save({"state_dict": {"a": shared.view(2, 3), "b": shared}}, tmp_path / "w.pt")
    pickled, config = (tmp_path / "w.pt").read_bytes(), b'{"width": 3}'
    server.files |= {f"/org/m/resolve/{COMMIT}/w.pt": pickled, f"/org/m/resolve/{COMMIT}/sub/config.json": config}
    files = (
        PublishedFile("w.safetensors", "org/m", COMMIT, "w.pt", len(pickled), hashlib.sha256(pickled).hexdigest()),
        PublishedFile("clip/config.json", "org/m", COMMIT, "sub/config.json"),
    )
    use(monkeypatch, files)
    return files


def use(monkeypatch: pytest.MonkeyPatch, files: tuple[PublishedFile, ...]) -> None:
    monkeypatch.setattr(evals.published.fetch_weights, "WEIGHTS", {"tiny": files})


def fetch(to: Path, *options: str) -> int:
    return cli.main(["weights", "fetch", "tiny", "--to", str(to), *options])


def test_fetch_verifies_converts_and_records(
    server: Any, published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "to"
    assert fetch(to) == 0
    assert "fixed by its commit, sha256 of config.json is" in capsys.readouterr().out
    state = load_file(to / "tiny" / "w.safetensors")
    assert {key: (value.dtype, value.tolist()) for key, value in state.items()} == {
        "a": (torch.float16, [[0, 1, 2], [3, 4, 5]]),
        "b": (torch.float16, [0, 1, 2, 3, 4, 5]),
    }
    names = {path.relative_to(to / "tiny").as_posix() for path in (to / "tiny").rglob("*") if path.is_file()}
    assert names == {".lock", "w.safetensors", "clip/config.json", "fetched.json"}
    record = json.loads((to / "tiny" / "fetched.json").read_text())
    assert record["w.safetensors"]["source_sha256"] == published[0].sha256
    assert not any(entry["trusted_on_first_download"] for entry in record.values())
    # The second time nothing is fetched.
    server.ranges.clear()
    assert fetch(to) == 0
    assert server.ranges == []


@pytest.mark.slow
def test_a_cut_connection_is_gone_on_with(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What has come of a piece, 10 MB by itself, is lost.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100_000)
    server.files[f"/org/m/resolve/{COMMIT}/m.bin"], server.cuts = DATA, [1_500_000, 600_000]
    use(monkeypatch, (PublishedFile("m.bin", "org/m", COMMIT, "m.bin", sha256=hashlib.sha256(DATA).hexdigest()),))
    assert fetch(tmp_path) == 0
    assert (tmp_path / "tiny" / "m.bin").read_bytes() == DATA
    assert server.ranges == [None, "bytes=1500000-", "bytes=2100000-"]


def test_the_users_token_is_sent_and_never_shown(
    server: Any, published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert fetch(tmp_path / "to") == 0
    assert server.tokens == ["Bearer hf_secret"] * 2
    server.refused["/org/m"] = 500, "hf_secret"
    monkeypatch.setattr("time.sleep", lambda _: None)
    assert fetch(tmp_path / "elsewhere") == 2
    assert "hf_secret" not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (403, "GatedRepo", "the repository is gated: accept its terms on its page, and log in with `hf auth login`"),
        (404, "RepoNotFound", "no such repository, or a private one: correct the name, or log in"),
        (401, "RepoNotFound", "no such repository, or a private one: correct the name, or log in"),
        (404, "RevisionNotFound", "no such revision: correct it"),
        (404, "EntryNotFound", "no such file in this revision: correct the one or the other"),
    ],
)
def test_what_the_hub_refuses_is_one_line_with_what_helps(
    server: Any,
    published: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    status: int,
    error: str,
    message: str,
) -> None:
    server.refused["/org/m"] = status, error
    assert fetch(tmp_path / "to") == 2
    printed = capsys.readouterr().err.splitlines()
    assert printed[-1].startswith(f"error: {published[0].url()}: cannot be fetched ({message}")
    assert [path.name for path in (tmp_path / "to" / "tiny").iterdir()] == [".lock"]


def test_no_network_and_the_librarys_offline_mode(
    server: Any, published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with monkeypatch.context() as offline:
        offline.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        huggingface_hub.close_session()
        assert fetch(tmp_path / "to") == 2
        assert "cannot be fetched (HF_HUB_OFFLINE is set: unset it); see to that" in capsys.readouterr().err
    huggingface_hub.close_session()
    closed = "http://127.0.0.1:9/{repo_id}/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", closed)
    assert fetch(tmp_path / "to") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"w\.pt: cannot be fetched \(.*refused.*\); see to that and run the command again", error)


def test_what_is_in_the_hubs_cache_is_taken_from_there(
    server: Any, published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("w.pt", "sub/config.json")
    kept = [Path(huggingface_hub.hf_hub_download("org/m", name, revision=COMMIT)) for name in names]
    server.asked.clear()
    assert fetch(tmp_path / "to", "--offline") == 0
    assert server.asked == []
    here = {path.name for path in (tmp_path / "to" / "tiny").iterdir()}
    assert here == {".lock", "clip", "w.safetensors", "fetched.json"}
    assert all(path.is_file() for path in kept)
    # A damaged one is named, and stays for its owner to remove.
    kept[1].resolve().write_text("{")
    assert fetch(tmp_path / "again", "--offline") == 2
    assert f"{kept[1]}: not JSON" in (error := capsys.readouterr().err) and "is left there; remove it" in error


def test_conversion_copies_only_what_shares_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source of gigabytes is mapped; a clone of every tensor would double them in memory."""
    shared = torch.arange(6.0)
    state = {
        "a": shared.view(2, 3),
        "b": shared,
        "part": shared[2:4],
        "own": torch.ones(3),
        "turned": torch.eye(3)[:2].T,
    }
    torch.save(state, tmp_path / "w.pt")
    cloned: list[tuple[int, ...]] = []
    clone = torch.Tensor.clone

    def counting(tensor: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        cloned.append(tuple(tensor.shape))
        return clone(tensor, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "clone", counting)
    convert(tmp_path / "w.pt", tmp_path / "w.safetensors", "0" * 64)
    assert cloned == [(6,), (2,)]
    written = load_file(tmp_path / "w.safetensors")
    assert {key: value.tolist() for key, value in written.items()} == {k: v.tolist() for k, v in state.items()}


def test_a_file_of_the_format_before_zip_is_converted_too(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(3.0)}, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    convert(tmp_path / "w.pt", tmp_path / "w.safetensors", "0" * 64)
    assert load_file(tmp_path / "w.safetensors")["a"].tolist() == [0.0, 1.0, 2.0]


LARGE = [
    (PublishedFile("w.pt", "org/m", COMMIT, "w.pt"), "w.pt"),
    (PublishedFile("w.safetensors", "org/m", COMMIT, "w.pt"), "w.pt"),
    (PublishedFile("m.safetensors", "org/m", COMMIT, "m.safetensors"), "m.safetensors"),
    (PublishedFile("m.bin", "org/m", COMMIT, "m.bin"), "m.bin"),
]
MOVING = [
    (PublishedFile("c.json", "org/m", "main", "c.json"), "c.json"),
    (PublishedFile("c.json", "org/m", COMMIT[:7], "c.json"), "c.json"),
    (PublishedFile("c.json", "org/m", COMMIT.upper(), "c.json"), "c.json"),
    # An address has no revision, whatever the entry says.
    (PublishedFile("c.json", "", COMMIT, "http://127.0.0.1/c.json"), "c.json"),
]


@pytest.mark.parametrize(("file", "name"), LARGE + MOVING)
def test_weights_without_a_digest_and_what_can_move_need_trust(
    server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    file: PublishedFile,
    name: str,
) -> None:
    use(monkeypatch, (file,))
    assert fetch(tmp_path) == 2
    error = capsys.readouterr().err
    assert f"tiny: no sha256 of {name} is known ({file.origin}); say --trust-first-download" in error
    assert server.ranges == []  # refused before anything was fetched


def test_what_trust_is_given_for_stands_in_the_record(
    server: Any, published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, (replace(published[0], sha256=None), published[1]))
    assert fetch(tmp_path, "--trust-first-download") == 0
    record = json.loads((tmp_path / "tiny" / "fetched.json").read_text())
    assert {name: entry["trusted_on_first_download"] for name, entry in record.items()} == {
        "w.safetensors": True,
        "clip/config.json": False,
    }


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("c.json", b"<html>please log in</html>", "not JSON"),
        ("c.json", b'{"long": "' + b"a" * 4_000_000 + b'"}', "has 4000012 bytes, expected 4000000 at most"),
        ("merges.txt", b"\n<!DOCTYPE html><html>please log in</html>", "a web page, not a list of tokens"),
        ("merges.txt", b"a b\n" * 1_000_001, "has 4000004 bytes, expected 4000000 at most"),
    ],
)
def test_a_commit_is_enough_for_small_text_only(
    server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: bytes,
    reason: str,
) -> None:
    server.files[f"/org/m/resolve/{COMMIT}/{name}"] = content
    use(monkeypatch, (PublishedFile(name, "org/m", COMMIT, name),))
    assert fetch(tmp_path) == 2
    assert f"{name}: {reason}" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == [".lock"]


def test_a_fetch_that_is_cut_off_after_the_download_goes_on_from_there(
    server: Any, published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "to"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(evals.published.fetch_weights, "convert", killed)
        assert fetch(to) == 130
    server.asked.clear()
    assert fetch(to) == 0
    assert server.asked == [f"/org/m/resolve/{COMMIT}/sub/config.json"]
    assert not (to / "tiny" / ".fetched").exists()
    assert load_file(to / "tiny" / "w.safetensors")["a"].shape == (2, 3)


def test_what_was_taken_once_must_be_the_same_ever_after(
    server: Any, published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "to"
    assert fetch(to, "--trust-first-download") == 0
    (to / "tiny" / "clip" / "config.json").unlink()
    server.files[f"/org/m/resolve/{COMMIT}/sub/config.json"] = b'{"width": 4}'
    assert fetch(to, "--trust-first-download") == 2
    error = capsys.readouterr().err
    assert re.search(r"config\.json: sha256 is \w{64}, expected \w{64}; the file was removed", error)
    assert not (to / "tiny" / ".fetched").exists()
    assert not (to / "tiny" / "clip" / "config.json").exists()


@pytest.mark.parametrize("option", [(), ("--trust-first-download",)])
def test_a_wrong_digest_leaves_nothing(
    server: Any, published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, ...]
) -> None:
    path = f"/org/m/resolve/{COMMIT}/w.pt"
    server.files[path] = server.files[path][:-1] + b"!"
    assert fetch(tmp_path / "to", *option) == 2
    assert f"w.pt: sha256 is {hashlib.sha256(server.files[path]).hexdigest()}, expected" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "to" / "tiny").iterdir()] == [".lock"]


def test_a_wrong_length_leaves_nothing(
    server: Any, published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = f"/org/m/resolve/{COMMIT}/w.pt"
    server.files[path] += b"!"
    assert fetch(tmp_path / "to") == 2
    assert f"has {published[0].bytes + 1} bytes, expected {published[0].bytes}" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "to" / "tiny").iterdir()] == [".lock"]


def test_a_digest_that_became_known_is_asked_of_what_was_trusted_before(
    server: Any,
    published: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(monkeypatch, (replace(published[0], sha256=None),))
    assert fetch(tmp_path, "--trust-first-download") == 0
    use(monkeypatch, (published[0],))
    assert fetch(tmp_path) == 0
    use(monkeypatch, (replace(published[0], sha256="0" * 64),))
    assert fetch(tmp_path) == 2
    assert "w.safetensors: was made from another file than the published one; delete it" in capsys.readouterr().err


def test_a_file_changed_later_is_noticed(
    server: Any, published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch(tmp_path / "to", "--trust-first-download") == 0
    (tmp_path / "to" / "tiny" / "clip" / "config.json").write_text("{}")
    assert fetch(tmp_path / "to") == 2
    assert "clip/config.json: has changed since it was fetched; delete it" in capsys.readouterr().err


def test_offline_touches_no_network_and_takes_files_put_there_by_hand(
    server: Any, published: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "to" / "tiny"
    folder.mkdir(parents=True)
    (folder / "w.pt").write_bytes((tmp_path / "w.pt").read_bytes())
    assert fetch(tmp_path / "to", "--offline") == 2
    error = capsys.readouterr().err
    assert "clip/config.json: missing (1 files in all) and --offline; put config.json from http://127" in error
    assert (folder / "w.safetensors").exists()
    assert (folder / "w.pt").exists()  # what the user put there stays
    (folder / "config.json").write_text('{"width": 3}')
    assert fetch(tmp_path / "to", "--offline") == 0
    assert server.ranges == []


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm-was-done"),)


def test_a_pickle_that_runs_code_is_refused(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    server.files["/org/m/resolve/main/w.pt"] = pickle.dumps({"a": Harmful()})
    use(monkeypatch, (PublishedFile("w.safetensors", "org/m", "main", "w.pt"),))
    assert fetch(tmp_path / "to", "--trust-first-download") == 2
    assert "not a readable weight file" in capsys.readouterr().err
    assert not (tmp_path / "harm-was-done").exists()
    assert [path.name for path in (tmp_path / "to" / "tiny").iterdir()] == [".lock"]


def test_an_error_page_is_not_taken_for_weights(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.files["/org/m/resolve/main/w.safetensors"] = b"<html>please log in</html>"
    use(monkeypatch, (PublishedFile("w.safetensors", "org/m", "main", "w.safetensors"),))
    assert fetch(tmp_path / "to", "--trust-first-download") == 2
    assert "w.safetensors: not a safetensors file" in capsys.readouterr().err
    assert not (tmp_path / "to" / "tiny" / "w.safetensors").exists()


def test_published_list_fits_the_scorers() -> None:
    assert set(WEIGHTS) == set(NEEDED) <= set(scorers.names())
    for name, groups in NEEDED.items():
        targets = {file.target for file in WEIGHTS[name]}
        for alternatives in groups:
            assert any(set(group) <= targets for group in alternatives), (name, alternatives)


PUBLISHED = [file for files in (*WEIGHTS.values(), *PROMPTS.values()) for file in files]


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: file.origin)
def test_every_published_file_is_pinned_in_the_right_form(file: PublishedFile) -> None:
    assert not file.needs_trust
    assert re.fullmatch("[0-9a-f]{64}", file.sha256 or "0" * 64)
    assert file.bytes is None or file.bytes > 0
    if file.repository:
        assert re.fullmatch("[0-9a-f]{40}", file.revision)
        assert not file.name.startswith("http")
    else:
        assert file.name.startswith("https://")
        assert file.sha256 is not None


def test_one_digest_is_one_file() -> None:
    """Digests that were put beside each other by mistake."""
    of = {file.sha256: (file.repository, file.name, file.bytes) for file in PUBLISHED if file.sha256}
    assert len(of) == sum(file.sha256 is not None for file in PUBLISHED)
    assert sum(file.bytes or 0 for files in WEIGHTS.values() for file in files) == pytest.approx(15.3e9, rel=0.01)


def test_doctor_names_what_a_config_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip, half = tmp_path / "clip", tmp_path / "half"
    for folder, names in ((clip, ["open_clip_model.safetensors"]), (half, ["config.json", "model.safetensors"])):
        folder.mkdir()
        for name in names:
            (folder / name).touch()
    config = tmp_path / "c.yaml"

    def run(scorers_block: str, *options: str) -> tuple[int, str]:
        config.write_text(f"scorers:\n{scorers_block}")
        status = cli.main(["doctor", "--config", str(config), "--weights-dir", str(tmp_path), *options])
        return status, capsys.readouterr().out

    status, out = run(f"  clip: {{weights: {clip}}}\n  pickscore: {{weights: {half}}}\n  hpsv2: {{weights: nowhere}}\n")
    assert status == 1
    assert f"ok       clip: {clip}" in out
    assert "incomplete: no tokenizer.json or vocab.json + merges.txt" in out
    assert "To get hpsv2: evals weights fetch hpsv2 --to" in out
    assert "2 of 3 missing: pickscore, hpsv2" in out
    status, out = run(f"  clip: {{weights: {clip}}}\n")
    assert status == 0
    assert "To get" not in out
    (clip / "fetched.json").write_text('{"open_clip_model.safetensors": {"sha256": "0"}}')
    assert run(f"  clip: {{weights: {clip}}}\n")[0] == 0
    status, out = run(f"  clip: {{weights: {clip}}}\n", "--verify")
    assert status == 1
    assert "open_clip_model.safetensors has changed since it was fetched" in out


def test_doctor_alone_lists_what_is_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--weights-dir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "21dd590f3ccdc646f0d53120778b296013b096a035a2718c9cb0d511bff0f1e0" in out
    assert "sha256 not known" not in out
    assert out.count("fixed by its commit") == 5
    assert "GB free for" in out
