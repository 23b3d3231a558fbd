"""Where a study is kept, and the lock under which its processes agree on who takes which trial."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from xrayexp.errors import ConfigError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from sqlalchemy.engine import Connection

log = logging.getLogger(__name__)

JOURNAL = "study.journal"  # in the sweep's folder
GRACE = 10  # seconds after which the lock of a process that died while it wrote is taken away


def check_url(url: str | None) -> list[str]:
    """What is wrong with `search.storage`, one sentence each.

    A password would end in the folders of the sweep and of its trials.
    """
    if url is None:
        return []
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    known = "sqlite:////FOLDER/study.db, postgresql://USER@HOST/DATABASE, or null for a file in the sweep's folder"
    try:
        parsed = make_url(url)
    except ArgumentError:
        return [f"search.storage: '{url}' is no URL of a database: {known}"]
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        return [f"search.storage: {parsed.get_backend_name()} is not supported: {known}"]
    if parsed.password is not None or "password" in parsed.query:
        return ["search.storage: leave the password out of the URL, which is kept with the runs: ~/.pgpass holds it"]
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").is_absolute():
        return [f"search.storage: '{url}' must be the absolute path of a file, with four slashes: {known}"]
    return []


def open_storage(url: str | None, folder: Path) -> BaseStorage:
    """Opens the study's storage, which is made when there is none.

    Args:
        url: of a database; None for Optuna's journal in the sweep's folder.
        folder: of the sweep.

    Raises:
        ConfigError: the database cannot be reached.
    """
    if url is None:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        # Absolute: of a relative path Optuna's other lock never lets go when its holder has died.
        path = (folder / JOURNAL).absolute()
        path.parent.mkdir(parents=True, exist_ok=True)
        repair(path)
        lock = JournalFileOpenLock(str(path), grace_period=GRACE)
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return RDBStorage(_with_driver(url))
    except SQLAlchemyError as error:
        raise ConfigError([_unusable(url, error)]) from error
    except ImportError as error:
        raise ConfigError([_no_driver(url, error)]) from error


def _with_driver(url: str) -> str:
    """Names the driver, which SQLAlchemy 2.0 and 2.1 choose differently."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


def repair(path: Path) -> None:
    """Cuts off a last line that was not written to its end, by a full disk or a loss of power.

    The next record would be appended to it, and nobody could read the journal any more.
    """
    from optuna.storages.journal import JournalFileOpenLock

    if not path.exists():
        return
    lock = JournalFileOpenLock(str(path), grace_period=GRACE)
    lock.acquire()
    try:
        with path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            end = _after_last_newline(path, size)
            if end < size:
                log.warning("%s: the last record was cut off (%d bytes) and is removed", path, size - end)
                file.truncate(end)
    finally:
        lock.release()


def _after_last_newline(path: Path, size: int, block: int = 65536) -> int:
    with path.open("rb") as file:
        end = size
        while end > 0:
            start = max(0, end - block)
            file.seek(start)
            if (found := file.read(end - start).rfind(b"\n")) >= 0:
                return start + found + 1
            end = start
    return 0


@contextmanager
def claim_lock(url: str | None, folder: Path, name: str) -> Iterator[None]:
    """Lets one process at a time look at a study and take a trial, on all machines that share it.

    Optuna's own counting and asking are two steps: between them other processes ask as well, and a study ends up with
    too many trials. The lock of a process that dies is free at once.

    Args:
        url: of the database; None for the journal.
        folder: of the sweep.
        name: of the study.
    """
    if url is None:
        with FileLock(folder / f"{JOURNAL}.claim"):
            yield
        return
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        with FileLock(f"{parsed.database}.claim"):
            yield
        return
    key = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
    with _connection(url) as connection:
        # Of the session: the server gives it back when the connection is gone, whatever became of the process.
        connection.exec_driver_sql(f"SELECT pg_advisory_lock({key})")
        try:
            yield
        finally:
            connection.exec_driver_sql(f"SELECT pg_advisory_unlock({key})")


@contextmanager
def _connection(url: str) -> Iterator[Connection]:
    """A connection that is closed for good after the body, in which each statement stands alone."""
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    try:
        engine = create_engine(_with_driver(url), isolation_level="AUTOCOMMIT")
        connection = engine.connect()
    except SQLAlchemyError as error:
        raise ConfigError([_unusable(url, error)]) from error
    except ImportError as error:
        raise ConfigError([_no_driver(url, error)]) from error
    try:
        yield connection
    finally:
        connection.close()
        engine.dispose()


def _unusable(url: str, error: Exception) -> str:
    return f"search.storage: {url} cannot be used: {str(error).partition(chr(10))[0]}"


def _no_driver(url: str, error: ImportError) -> str:
    return f"search.storage: {url} needs a driver ({error}): pip install 'psycopg[binary]'"
