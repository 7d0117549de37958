"""Logger ``mlflow``: a run in the store that ``MLFLOW_TRACKING_URI`` names, while the training goes on.

Its experiment is that of ``MLFLOW_EXPERIMENT_NAME``, by default ``<benchmark>-training``: the one of the benchmark's
own name holds the runs that are imported from finished results. A training that goes on continues its run; steps that a
killed process had logged after its last state are then there twice, with the same values.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
from typing import TYPE_CHECKING

from artifacts.errors import InputError
from sdpo.training.loggers import LoggedRun, Logger, Values

if TYPE_CHECKING:
    from mlflow import MlflowClient

URI, EXPERIMENT = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"
DIGEST = "bench.training_sha256"
"""Tag by which a run is found again."""
_LONGEST = 6000
"""Characters of a parameter, MLflow's own limit."""


class _Run:
    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client, self._id = client, run_id

    def log(self, step: int, row: Values) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        known = {name: value for name, value in row.items() if value is not None and math.isfinite(value)}
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in known.items()])

    def close(self, *, finished: bool) -> None:
        self._client.set_terminated(self._id, status="FINISHED" if finished else "KILLED")


def create(run: LoggedRun) -> Logger:
    """The run of a training in MLflow.

    Raises:
        InputError: ``MLFLOW_TRACKING_URI`` is not set.
    """
    if not os.environ.get(URI):
        raise InputError(f"{URI} is not set; set it to the address of a tracking server")
    # Read at import: nothing about this machine is to be reported anywhere.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    client = MlflowClient()
    experiment = _experiment(client, os.environ.get(EXPERIMENT) or f"{run.benchmark}-training")
    found = client.search_runs([experiment], filter_string=f"tags.`{DIGEST}` = '{run.digest}'", max_results=1)
    if found:
        client.update_run(found[0].info.run_id, status="RUNNING")
        return _Run(client, found[0].info.run_id)
    made = client.create_run(experiment, run_name=run.model, tags={DIGEST: run.digest, "bench.model": run.model})
    for block in ("objective", "training"):
        for key, value in run.spec[block].items():
            client.log_param(made.info.run_id, f"{block}.{key}", json.dumps(value)[:_LONGEST])
    return _Run(client, made.info.run_id)


def _experiment(client: MlflowClient, name: str) -> str:
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name))
        except MlflowException:
            # Another training has just made it.
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return str(found.experiment_id)
