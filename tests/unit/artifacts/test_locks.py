from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from artifacts import locks
from artifacts.atomic import owned
from artifacts.errors import InputError
from evals.images.folder import UnfinishedImages
from evals.images.numbering import Numbering

FORK = multiprocessing.get_context("fork")
SCRIPT = "import sys, time; from pathlib import Path; from artifacts.locks import held\n"


def held(path: Path, busy: str | None = None) -> AbstractContextManager[bool]:
    return locks.held(path, doing="works here", busy=busy)


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Another process that holds a lock file until it is killed or asked to go."""
    code = f"{SCRIPT}with held(Path({str(path)!r}), doing='x'): print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "made" / "lock"
    with holder(path) as process:
        with pytest.raises(InputError, match=rf"^{path.parent}: somebody is there$"), held(path, "somebody is there"):
            pass
        process.kill()
        process.wait()
        with held(path, "somebody is there") as waited:
            assert not waited


def test_waiting_is_said_and_lasts_as_long_as_the_other_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lock"
    with holder(path) as process:
        began = time.monotonic()
        waker = FORK.Process(target=lambda: (time.sleep(0.4), os.kill(process.pid, 9)))
        waker.start()
        with held(path) as waited:
            assert waited and time.monotonic() - began >= 0.35
        waker.join()
    assert capsys.readouterr().err == f"{tmp_path}: another process works here; waiting for it\n"


def test_file_that_was_removed_while_it_was_waited_for_is_made_anew(tmp_path: Path) -> None:
    """Who is done may remove folder and lock; two that waited must not both go on, each with a file of its own."""
    path = tmp_path / "folder" / "lock"
    with holder(path) as process:

        def remove() -> None:
            time.sleep(0.3)
            path.unlink()
            path.parent.rmdir()
            os.kill(process.pid, 9)

        remover = FORK.Process(target=remove)
        remover.start()
        with held(path) as waited:
            assert waited and path.exists()
            with pytest.raises(InputError, match="taken"), held(path, "taken"):
                pass
        remover.join()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_disk_without_locks_is_named_once_and_everything_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    monkeypatch.setattr(locks, "_warned", set())
    images = UnfinishedImages(tmp_path / "images", Numbering(12))
    with held(tmp_path / "a" / "lock", "busy") as waited, owned(tmp_path / "b", doing="y"), images.owned(range(3)):
        assert not waited
    images.forget(range(3))
    said = capsys.readouterr().err
    assert said.count("this disk has no file locks") == 1
    assert said.startswith(f"warning: {tmp_path / 'a' / 'lock'}: ") and os.strerror(code) in said


def test_other_errors_are_not_taken_for_a_disk_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"), held(tmp_path / "lock"):
        pass


def test_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(InputError, match=r"lock: .*; give a folder that can be written$"), held(tmp_path / "lock"):
        pass
    assert not (tmp_path / "precious").exists()


def test_file_in_the_place_of_the_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("x")
    with pytest.raises(InputError, match=r"folder/lock: .*can be written"), held(tmp_path / "folder" / "lock"):
        pass
