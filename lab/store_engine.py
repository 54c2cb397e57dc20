"""Opening the store's database: SQLite in the home folder, or the server that DATABASE_URL names.

SQLite writes ahead (WAL), so readers never wait for a writer, and takes its write lock when a writing transaction
begins: two writers wait for one another instead of failing in the middle. It must not lie on a network drive.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DBAPIError

from lab import settings

MIGRATIONS = Path(__file__).parent / "migrations"
PATIENCE = 10.0  # seconds that a writer waits for another one
MIGRATION_LOCK = 0x1AB_0001  # a number that nobody else locks in this database
POSTGRES = "postgresql+psycopg"


def url() -> str:
    """DATABASE_URL, else the file lab.db in the home folder."""
    given = os.environ.get("DATABASE_URL", "").strip()
    if not given:
        return f"sqlite:///{settings.home() / 'lab.db'}"
    for front in ("postgres://", "postgresql://"):  # as providers write it; we bring psycopg 3
        if given.startswith(front):
            return f"{POSTGRES}://{given.removeprefix(front)}"
    return given


def open_engine(where: str) -> Engine:
    """An engine for this URL, its database brought to the newest tables. Raises what the driver raises."""
    parsed = make_url(where)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(parsed, connect_args={"timeout": PATIENCE})
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        arguments = {"connect_timeout": 5} if parsed.get_backend_name() == "postgresql" else {}
        engine = create_engine(parsed, pool_pre_ping=True, pool_size=10, connect_args=arguments)
    migrate(engine)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # we begin transactions ourselves: Python's driver would begin them late
    for attempt in range(20):
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = wal")
            break
        except sqlite3.OperationalError:  # another process does the same right now, and this lock is not waited for
            if attempt == 19:
                raise
            time.sleep(0.05)
    connection.execute("PRAGMA synchronous = normal")
    connection.execute("PRAGMA foreign_keys = on")


def _begin_sqlite(connection: Connection) -> None:
    reads = connection.get_execution_options().get("reads", False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One transaction that only reads: no writer waits for it."""
    with engine.connect() as connection, connection.execution_options(reads=True).begin():
        yield connection


def migrate(engine: Engine) -> None:
    """Bring the tables to the newest shape; of several processes at once, one does it and the others wait."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    newest = ScriptDirectory.from_config(config).get_current_head()
    with reading(engine) as connection:
        if MigrationContext.configure(connection).get_current_revision() == newest:
            return
    with engine.begin() as connection:  # the write lock of SQLite
        if connection.dialect.name == "postgresql":
            connection.execute(text("select pg_advisory_xact_lock(:n)"), {"n": MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def lock_owner(connection: Connection, owner: str) -> None:
    """Until this transaction ends, no other one that calls this for the same owner goes on."""
    if connection.dialect.name == "postgresql":  # SQLite has one writer anyway
        connection.execute(text("select pg_advisory_xact_lock(hashtextextended(:owner, 1))"), {"owner": owner})


def is_away(error: BaseException) -> bool:
    """Whether the database cannot be reached or cannot write just now: worth trying again later."""
    return isinstance(error, DBAPIError) and (
        error.connection_invalidated or type(error).__name__ in ("OperationalError", "InterfaceError")
    )
