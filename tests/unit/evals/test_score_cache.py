from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import evals.score_cache
from artifacts.errors import InputError
from evals.score_cache import ScoreCache


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
from evals.score_cache import ScoreCache
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


def test_prune_by_age_counts_from_the_last_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScoreCache(tmp_path) as cache:
        monkeypatch.setattr(evals.score_cache, "_today", lambda: 100)
        cache.put([("f", "old", "p", 1.0), ("f", "used", "p", 2.0)])
        monkeypatch.setattr(evals.score_cache, "_today", lambda: 130)
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
