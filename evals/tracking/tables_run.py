"""The tables of a benchmark, taken out of a store of runs."""

from __future__ import annotations

from pathlib import Path

from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.tracking.runs import TABLES_RUN
from evals.tracking.store import KEY, Store


def download(named: Store, benchmark: str | None, to: Path) -> None:
    """Fetch the tables that the first run of an experiment keeps.

    Args:
        named: the store.
        benchmark: name of the experiment; ``None`` for the only one.
        to: folder that gets ``tables/``.

    Raises:
        InputError: the store cannot be opened, has no such benchmark, or lost its files.
    """
    with named.alone() as client:
        from mlflow.exceptions import MlflowException

        experiments = {found.name: found.experiment_id for found in client.search_experiments()}
        runs = client.search_runs(list(experiments.values()), f"tags.`{KEY}` = '{TABLES_RUN}'")
        held = {name: run for name, key in experiments.items() for run in runs if run.info.experiment_id == key}
        if benchmark is None and len(held) == 1:
            benchmark = next(iter(held))
        if benchmark is None or benchmark not in held:
            wanted = "--experiment is missing" if benchmark is None else f"no benchmark '{benchmark}'"
            hint = "" if benchmark is None else nearest(benchmark, list(held))
            raise InputError(f"{named.shown}: {wanted}{hint}; it has {', '.join(sorted(held)) or 'none'}")
        try:
            client.download_artifacts(held[benchmark].info.run_id, "tables", str(to))
        except (MlflowException, OSError) as error:
            cause = str(error).splitlines()[0]
            raise InputError(
                f"{named.shown}: the tables of '{benchmark}' are not to be had ({cause}); snakemake imports them again"
            ) from error
