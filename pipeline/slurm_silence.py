"""Times in which Slurm does not answer, such as a restart of its controller.

Version 2.8 of Snakemake's executor for Slurm forgets all jobs of a workflow when one round of its questions stays
without an answer, and then waits for them for ever.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

Query = Callable[..., Awaitable[tuple[dict[str, str] | None, float | None]]]
"""The executor's question how its jobs are: states by job and the seconds that it took, ``None`` without an answer."""


def outlast_silence(executor: Any) -> None:
    """Let the executor take no answer for no news of any job, so that it asks again.

    Args:
        executor: module of the executor, ``snakemake_executor_plugin_slurm``.
    """
    executor.query_job_status = _no_answer_is_no_news(executor.query_job_status)


def _no_answer_is_no_news(query: Query) -> Query:
    async def answered(*arguments: Any) -> tuple[dict[str, str] | None, float | None]:
        states, seconds = await query(*arguments)
        return ({}, 0.0) if states is None else (states, seconds)

    return answered
