"""The store that runs are imported into: a file, a database server, or a server of MLflow.

One import at a time: MLflow makes and migrates a database's schema without a lock, and two that do so at once break it;
two imports of one benchmark would write its runs twice. On a server of MLflow, which offers no lock, that holds for
imports from one results folder only.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from artifacts.errors import InputError
from artifacts.locks import held

if TYPE_CHECKING:
    from mlflow import MlflowClient

URI = "MLFLOW_TRACKING_URI"
KEY = "bench.key"
"""Tag by which a run is found."""
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_DOING = "imports into this store"
_LOCK = "hashtext('sdpo-bench import')"


@dataclass(frozen=True)
class Store:
    """Where runs are kept.

    Attributes:
        uri: as MLflow takes it.
        lock: file that one import at a time holds.
        artifacts: folder of all artifacts; ``None`` where a server keeps them as it was told to.
    """

    uri: str
    lock: Path
    artifacts: Path | None

    @property
    def shown(self) -> str:
        """The address without user, password and options; of a file its path."""
        if path := _file(self.uri):
            return str(path)
        parts = urlsplit(self.uri)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()

    @contextmanager
    def alone(self) -> Iterator[MlflowClient]:
        """Open the store for one import; another one waits, on other machines too where a database can tell.

        Raises:
            InputError: it cannot be opened.
        """
        with held(self.lock, doing=_DOING), self._held_by_database():
            yield self._client()

    def _held_by_database(self) -> AbstractContextManager[None]:
        return _advisory_lock(self) if _scheme(self.uri) == "postgresql" else nullcontext()

    def _client(self) -> MlflowClient:
        # Read at import: nothing about this machine is to be reported anywhere.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ["DO_NOT_TRACK"] = "true"
        from alembic.util import CommandError
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.WARNING)
        try:
            # The first client makes or migrates the schema.
            client = MlflowClient(tracking_uri=self.uri)
            client.search_experiments(max_results=1)
        except (CommandError, MlflowException, SQLAlchemyError) as error:
            raise self._closed(error) from error
        return client

    def _closed(self, error: Exception) -> InputError:
        remedy = (
            "stop other writers or delete it, then import again: the runs come from the results"
            if _file(self.uri)
            else f"see that it runs, and what {URI} says"
        )
        return InputError(f"{self.shown}: MLflow cannot open it ({str(error).splitlines()[0]}); {remedy}")


def store(database: Path, artifacts: Path) -> Store:
    """The store that ``MLFLOW_TRACKING_URI`` names, else a file.

    Args:
        database: SQLite file for the runs, where no store is named; made if it does not exist.
        artifacts: folder of all artifacts, where no server of MLflow keeps them.
    """
    uri = os.environ.get(URI) or f"sqlite:///{database.resolve()}"
    lock = (_file(uri) or database).resolve().with_suffix(".lock")
    return Store(uri, lock, artifacts if _scheme(uri) in _DATABASES else None)


def _scheme(uri: str) -> str:
    """``postgresql`` of ``postgresql+psycopg2://…``."""
    return uri.partition(":")[0].partition("+")[0]


def _file(uri: str) -> Path | None:
    """File of an SQLite database."""
    return Path(uri.partition(":///")[2]) if _scheme(uri) == "sqlite" else None


@contextmanager
def _advisory_lock(opened: Store) -> Iterator[None]:
    """Hold PostgreSQL's lock for imports, which is gone with the connection."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(opened.uri, isolation_level="AUTOCOMMIT")
    except ModuleNotFoundError as error:
        raise InputError(f"{opened.shown}: {error.name} is not installed; pip install psycopg2-binary") from error
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(engine.connect())
            if not connection.scalar(text(f"SELECT pg_try_advisory_lock({_LOCK})")):
                print(f"{opened.shown}: another process {_DOING}; waiting for it", file=sys.stderr)
                connection.execute(text(f"SELECT pg_advisory_lock({_LOCK})"))
        except SQLAlchemyError as error:
            raise opened._closed(error) from error
        yield
    engine.dispose()
