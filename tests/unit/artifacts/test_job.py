from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts.errors import InputError, run_command
from artifacts.job import add_spec, read_spec


def test_inline_file_and_standard_input_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = ' {"a": [1, {"b": "λ"}]}'
    file = tmp_path / "job.json"
    file.write_text(text, encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert read_spec(text) == read_spec(str(file)) == read_spec("-") == {"a": [1, {"b": "λ"}]}


def test_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--spec: .*job.json: No such file or directory; give inline JSON"):
        read_spec(str(tmp_path / "job.json"))


def test_folder_is_not_a_job(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="directory"):
        read_spec(str(tmp_path))


def test_file_that_is_not_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"job.json.*UTF-8"):
        read_spec(str(tmp_path / "job.json"))


def test_broken_json_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"^--spec: not JSON \(line 2: "):
        read_spec('{"a": 1,\n b}')
    (tmp_path / "job.json").write_text("{")
    with pytest.raises(InputError, match=r"job.json: not JSON \(line 1: "):
        read_spec(str(tmp_path / "job.json"))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(InputError, match=r"^standard input: not JSON"):
        read_spec("-")
    with pytest.raises(InputError, match=r"^--spec: not JSON \(brackets nested too deeply\)"):
        read_spec('{"a":' + "[" * 100_000)
    with pytest.raises(InputError, match=r"^--spec: not JSON \(an object names the key 'a' twice\)"):
        read_spec('{"a": 1, "a": 2}')


def test_job_is_an_object(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text("[1]")
    with pytest.raises(InputError, match="expected a JSON object, got list"):
        read_spec(str(tmp_path / "job.json"))


def test_option_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_spec(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([])
    assert "--spec" in capsys.readouterr().err
    assert parser.parse_args(["--spec", "{}"]).spec == "{}"


def test_input_error_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise InputError("file: wrong")

    assert run_command(fails) == 2
    assert capsys.readouterr().err == "error: file: wrong\n"
    assert run_command(lambda: None) == 0


def test_defect_keeps_its_traceback() -> None:
    def fails() -> None:
        raise ValueError("not the user's fault")

    with pytest.raises(ValueError, match="not the user's fault"):
        run_command(fails)


def test_too_little_gpu_memory_is_one_line_with_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    def fails() -> None:
        raise torch.OutOfMemoryError(
            "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 15 GiB."
        )

    assert run_command(fails) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: CUDA out of memory. Tried to allocate 2.00 GiB; take less at once: ")
    assert said.count("\n") == 1


CLOSED = (
    "import sys; from artifacts.errors import run_command; sys.exit(run_command(lambda: [print(x) for x in {}] and 0))"
)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("items", ["range(100000)", "'ab'"])
def test_a_reader_that_leaves_is_no_traceback(items: str, unbuffered: str) -> None:
    reader = subprocess.Popen(["true"], stdin=subprocess.PIPE)
    reader.wait()
    assert reader.stdin is not None
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-c", CLOSED.format(items)]
    done = subprocess.run(command, stdout=reader.stdin, stderr=subprocess.PIPE, text=True, env=environment)
    assert (done.returncode, done.stderr) == (141, "")


def test_another_broken_pipe_is_a_defect() -> None:
    code = (
        "import sys; from artifacts.errors import run_command\n"
        "def fails(): raise BrokenPipeError\n"
        "sys.exit(run_command(fails))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.endswith("BrokenPipeError\n")


def test_ctrl_c_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert run_command(interrupted) == 130
    assert capsys.readouterr().err == "interrupted; the same command goes on where it can\n"


def test_a_locale_without_utf_8_neither_changes_a_job_nor_ends_a_command() -> None:
    code = (
        "import sys; from artifacts.errors import run_command; from artifacts.job import read_spec\n"
        "sys.exit(run_command(lambda: print(read_spec('-')['path'])))"
    )
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    given = '{"path": "größer ≈ λ"}'.encode()
    done = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"gr\xf6\xdfer \\u2248 \\u03bb\n", b"")
