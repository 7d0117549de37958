from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.slurm_silence import outlast_silence


@pytest.mark.parametrize("answer", [(None, None), ({"7": "RUNNING"}, 0.5)])
def test_no_answer_is_no_news(answer: Any) -> None:
    async def query(command: str, logger: object) -> Any:
        return answer

    executor = SimpleNamespace(query_job_status=query)
    outlast_silence(executor)
    found = asyncio.run(executor.query_job_status("squeue", None))
    assert found == (({}, 0.0) if answer == (None, None) else answer)
