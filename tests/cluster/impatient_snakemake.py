"""``snakemake`` that asks Slurm every second how its jobs are, where the executor would wait longer each time."""

from __future__ import annotations

from typing import Any

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


def _keep_asking(executor: RemoteExecutor, seconds: Any) -> None:
    """In place of taking over a longer pause."""


RemoteExecutor.next_seconds_between_status_checks = property(lambda executor: 1, _keep_asking)
if __name__ == "__main__":
    main()
