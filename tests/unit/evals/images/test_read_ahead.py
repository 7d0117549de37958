from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from evals.images.read_ahead import read_ahead


@pytest.mark.parametrize("workers", [1, 3])
def test_order_and_sizes(workers: int) -> None:
    assert list(read_ahead(lambda item: item * 10, range(5), size=2, workers=workers)) == [[0, 10], [20, 30], [40]]
    assert list(read_ahead(str, [], size=2, workers=workers)) == []


def test_the_next_list_is_read_while_the_caller_has_this_one_and_no_further() -> None:
    started: list[int] = []
    fourth = threading.Event()

    def read(item: int) -> int:
        started.append(item)
        if item == 3:
            fourth.set()
        return item

    lists = read_ahead(read, range(8), size=2, workers=1)
    assert next(lists) == [0, 1]
    assert fourth.wait(10)
    assert started == [0, 1, 2, 3]
    lists.close()
    assert started == [0, 1, 2, 3]


def test_an_error_comes_up_where_its_list_would() -> None:
    lists = read_ahead(lambda item: 1 // item, [1, 1, 0, 1], size=2, workers=2)
    assert next(lists) == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(lists)


@pytest.mark.slow
def test_the_command_makes_torchs_threads_sleep_before_torch_is_loaded(tmp_path: Path) -> None:
    """libgomp reads the policy once, when torch loads it."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "0.png")
    (tmp_path / "p.txt").write_text("a")
    code = """
import os, sys
from evals import cli
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            print("policy", os.environ.get("OMP_WAIT_POLICY"))
sys.meta_path.insert(0, Watch())
sys.exit(cli.main(sys.argv[1:]))
"""
    command = ["score", "--scorers", "blank", "--images", "images", "--prompts", "p.txt", "--out", "o.parquet"]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "policy PASSIVE"
