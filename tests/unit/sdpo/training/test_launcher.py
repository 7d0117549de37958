from __future__ import annotations

import os

import pytest

from sdpo.training import processes


@pytest.mark.parametrize(("given", "seconds"), [(None, 900), ("60", 60)])
def test_processes_have_time_to_save_when_the_launcher_is_asked_to_end(
    given: str | None, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch's own setting, as its launcher reads it."""
    from torch.distributed.launcher.api import LaunchConfig

    environment = {"PATH": os.environ["PATH"]} if given is None else {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": given}
    monkeypatch.setattr(os, "environ", environment)
    inherited: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execv", lambda program, words: inherited.append(dict(os.environ)))
    processes.together(["train", "--processes", "2", "--spec", "{}"], 2)
    assert len(inherited) == 1
    assert LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=2).shutdown_timeout == seconds
