from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import evals.scoring.score_cache
from artifacts.errors import InputError
from evals.scoring.score_cache import ScoreCache


def test_a_score_is_found_by_all_three_keys_and_by_them_only(tmp_path: Path) -> None:
    with ScoreCache(tmp_path / "new") as cache:
        cache.put([("f", "image", "prompt", 0.1), ("f", "image", "", -2.5)])
    with ScoreCache(tmp_path / "new") as cache:
        assert cache.get("f", "image", "prompt") == 0.1  # to the last bit
        assert cache.get("f", "image", "") == -2.5
        for key in (("g", "image", "prompt"), ("f", "other", "prompt"), ("f", "image", "Prompt")):
            assert cache.get(*key) is None


def test_the_first_number_stays(tmp_path: Path) -> None:
    with ScoreCache(tmp_path) as cache:
        cache.put([("f", "i", "p", 1.0)])
        cache.put([("f", "i", "p", 2.0), ("f", "i", "q", 3.0)])
        assert (cache.get("f", "i", "p"), cache.get("f", "i", "q")) == (1.0, 3.0)


WRITER = """
import sys
from evals.scoring.score_cache import ScoreCache
with ScoreCache(sys.argv[1]) as cache:
    for i in range(60):
        cache.put([("f", f"{sys.argv[2]}-{i}-{j}", "p", i + j) for j in range(5)] + [("f", f"shared-{i}", "p", i)])
        cache.touch([("f", f"shared-{i}", "p")])
"""


def test_processes_that_write_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    running = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(n)]) for n in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    with ScoreCache(tmp_path) as cache:
        assert cache.size().scores == 3 * 300 + 60
        assert cache.get("f", "2-59-4", "p") == 63.0


OPENER = """
import sys, time
from pathlib import Path
from evals.scoring.score_cache import ScoreCache
folder, name, rounds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
for n in range(rounds):
    (folder / f"ready-{n}-{name}").touch()
    while not (folder / f"go-{n}").exists():
        pass
    with ScoreCache(folder / f"cache-{n}") as cache:
        cache.put([("f", name, "p", 1.0)])
"""


def test_processes_that_make_a_cache_at_the_same_time_wait_for_each_other(tmp_path: Path) -> None:
    names, rounds = [str(n) for n in range(6)], 5
    running = [subprocess.Popen([sys.executable, "-c", OPENER, str(tmp_path), n, str(rounds)]) for n in names]
    for n in range(rounds):
        while len(list(tmp_path.glob(f"ready-{n}-*"))) < len(names):
            assert all(process.poll() in (None, 0) for process in running)
        (tmp_path / f"go-{n}").touch()
    assert [process.wait(timeout=120) for process in running] == [0] * len(names)
    for n in range(rounds):
        with ScoreCache(tmp_path / f"cache-{n}") as cache:
            assert cache.size().scores == len(names)


def test_a_file_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    """SQLite refuses at once to switch a file to write-ahead mode while somebody writes to it in another mode."""
    other = sqlite3.connect(tmp_path / "scores.sqlite", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        sqlite3.connect(tmp_path / "scores.sqlite", timeout=60).execute("PRAGMA journal_mode = WAL")
    threading.Timer(0.3, lambda: other.execute("ROLLBACK")).start()
    with ScoreCache(tmp_path) as cache:
        cache.put([("f", "i", "p", 1.0)])
    other.close()


def test_a_cache_that_stays_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evals.scoring.score_cache, "_WAIT_SECONDS", 0.2)
    connection = sqlite3.connect(tmp_path / "scores.sqlite", isolation_level=None)
    connection.execute("CREATE TABLE other (a)")
    connection.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(InputError, match=r"scores\.sqlite: database is locked; see that .* no other job hangs"):
            ScoreCache(tmp_path)
    finally:
        connection.close()


def test_prune_by_age_counts_from_the_last_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScoreCache(tmp_path) as cache:
        monkeypatch.setattr(evals.scoring.score_cache, "_today", lambda: 100)
        cache.put([("f", "old", "p", 1.0), ("f", "used", "p", 2.0)])
        monkeypatch.setattr(evals.scoring.score_cache, "_today", lambda: 130)
        cache.touch([("f", "used", "p")])
        assert cache.prune(unused_days=31) == 0
        assert cache.prune(unused_days=30) == 0
        assert cache.prune(unused_days=29) == 1
        assert cache.get("f", "old", "p") is None
        assert cache.get("f", "used", "p") == 2.0


def test_prune_by_fingerprint(tmp_path: Path) -> None:
    with ScoreCache(tmp_path) as cache:
        cache.put([("f", "i", "p", 1.0), ("g", "i", "p", 2.0), ("g", "j", "p", 2.0)])
        assert cache.prune(fingerprints=["g", "unknown"]) == 2
        assert cache.size().fingerprints == 1


def test_files_that_are_no_cache(tmp_path: Path) -> None:
    (tmp_path / "scores.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match=r"scores\.sqlite: not a readable cache .*delete the file"):
        ScoreCache(tmp_path)
    connection = sqlite3.connect(tmp_path / "newer.sqlite")
    connection.execute("PRAGMA user_version = 7")
    connection.close()
    (tmp_path / "newer.sqlite").replace(tmp_path / "scores.sqlite")
    with pytest.raises(InputError, match="cache of version 7, this release has 1"):
        ScoreCache(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot keep a cache there"):
        ScoreCache(tmp_path / "file" / "below")
