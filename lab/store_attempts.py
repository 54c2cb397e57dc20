"""The side of the store that works: the supervisor takes runs from the queue, workers report what they measure.

Whatever a worker writes is conditional on its fencing token, in the same transaction: once another attempt has been
begun, or the run was ended, a worker that slept and wakes up is refused with `Fenced`, whatever its clock says.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, func, insert, select, update

from lab.store_engine import reading
from lab.store_tables import (
    AT_WORK,
    ATTEMPT_COLUMNS,
    RUN_COLUMNS,
    Attempt,
    Run,
    artifacts,
    as_attempt,
    as_run,
    attempts,
    metrics,
    probes,
    runs,
)

LEASE = 30.0  # seconds without a beat after which a worker counts as lost; longer than a database is usually away
ENDS = ("finished", "failed", "cancelled", "paused")


class Fenced(Exception):
    """This attempt may write no more: the run was given to another one, or has ended."""


class Work:
    """What the supervisor and its workers do with the store; a part of `lab.store.Store`."""

    engine: Engine

    # --- the supervisor -----------------------------------------------------------------------------------------------

    def claim(self, place: str, lease: float = LEASE) -> Attempt | None:
        """Take the run that has waited longest and begin an attempt at it; None when nobody waits."""
        with self.engine.begin() as connection:
            waiting = (
                select(runs.c.id, runs.c.owner)
                .where(runs.c.status == "queued")
                .order_by(runs.c.queued, runs.c.id)
                .limit(1)
                .with_for_update(skip_locked=True)  # SQLite locks the whole file, and ignores it
            )
            row = connection.execute(waiting).first()
            if row is None:
                return None
            now = time.time()
            begun = connection.execute(
                insert(attempts)
                .values(
                    run_id=row.id, owner=row.owner, place=place, state="starting", lease=now + lease, started=now,
                )
                .returning(*ATTEMPT_COLUMNS)
            ).one()  # fmt: skip
            connection.execute(
                update(runs)
                .where(runs.c.id == row.id)
                .values(status="starting", token=begun.token, wanted="", reason="", ended=None)
            )
            return as_attempt(begun)

    def set_handle(self, token: int, handle: str) -> None:
        """Note how the launcher calls the process of an attempt."""
        with self.engine.begin() as connection:
            connection.execute(update(attempts).where(attempts.c.token == token).values(handle=handle))

    def open_attempts(self, place: str | None = None) -> list[Attempt]:
        """The attempts that have not ended, all or those of one supervisor."""
        query = select(*ATTEMPT_COLUMNS).where(attempts.c.ended.is_(None)).order_by(attempts.c.token)
        if place is not None:
            query = query.where(attempts.c.place == place)
        with reading(self.engine) as connection:
            return [as_attempt(row) for row in connection.execute(query)]

    def retry(self, run_id: str, token: int, outcome: str, most: int) -> bool:
        """Put a run whose worker was lost back at its old place in the queue; False if that happened `most` times.

        The retries are counted anew once an attempt has begun from a later save than all before it. Raises Fenced.
        """
        with self.engine.begin() as connection:
            _hold(connection, run_id, token)
            retries = int(connection.execute(select(runs.c.retries).where(runs.c.id == run_id)).scalar_one())
            of_run = select(func.max(attempts.c.from_step)).where(attempts.c.run_id == run_id)
            now = connection.execute(of_run.where(attempts.c.token == token)).scalar() or 0
            if now > (connection.execute(of_run.where(attempts.c.token < token)).scalar() or 0):
                retries = 0
            if retries >= most:
                return False
            _end_attempt(connection, token, outcome)
            connection.execute(
                update(runs).where(runs.c.id == run_id).values(status="queued", token=None, retries=retries + 1)
            )
            return True

    def all_ids(self) -> Sequence[str]:
        """The ids of all runs: their folders must not be swept away."""
        with reading(self.engine) as connection:
            return connection.execute(select(runs.c.id)).scalars().all()

    # --- a worker -----------------------------------------------------------------------------------------------------

    def read_run(self, run_id: str) -> Run | None:
        """A run, whoever owns it: for workers, never for a page."""
        with reading(self.engine) as connection:
            row = connection.execute(select(*RUN_COLUMNS).where(runs.c.id == run_id)).first()
        return None if row is None else as_run(row)

    def beat(self, run_id: str, token: int, state: str | None = None, lease: float = LEASE) -> str:
        """Say that the worker lives; returns what the owner wants of it ("" for nothing). Raises Fenced."""
        with self.engine.begin() as connection:
            wanted = _hold(connection, run_id, token)
            values: dict[str, Any] = {"lease": time.time() + lease} | ({"state": state} if state else {})
            connection.execute(update(attempts).where(attempts.c.token == token).values(**values))
            return wanted

    def rewind(self, run_id: str, token: int, step: int) -> None:
        """Go on after `step`: what an earlier attempt measured beyond it will be measured again. Raises Fenced."""
        with self.engine.begin() as connection:
            _hold(connection, run_id, token)
            for table in (metrics, probes):
                connection.execute(delete(table).where(table.c.run_id == run_id, table.c.step > step))
            connection.execute(update(runs).where(runs.c.id == run_id).values(step=max(0, step)))
            connection.execute(update(attempts).where(attempts.c.token == token).values(from_step=max(0, step)))

    def add_records(self, run_id: str, token: int, records: Sequence[dict[str, Any]]) -> None:
        """Keep the records of some steps, and how far the run is. Raises Fenced."""
        if not records:
            return
        with _writing(self.engine, run_id, token) as (connection, owner):
            _add(connection, metrics, run_id, owner, token, records)
            values = {"step": records[-1]["step"], "n_steps": records[-1]["n_steps"], "status": "running"}
            started = func.coalesce(runs.c.started, time.time())
            connection.execute(update(runs).where(runs.c.id == run_id).values(**values, started=started))

    def add_probe(self, run_id: str, token: int, probe: dict[str, Any]) -> None:
        """Keep what the model says at one step. Raises Fenced."""
        with _writing(self.engine, run_id, token) as (connection, owner):
            _add(connection, probes, run_id, owner, token, [probe])

    def add_artifact(self, run_id: str, token: int, path: str, size: int, sha256: str) -> None:
        """Note a file that the run leaves behind, in place of an earlier one at that path. Raises Fenced."""
        with _writing(self.engine, run_id, token) as (connection, owner):
            same = (artifacts.c.run_id == run_id, artifacts.c.path == path)
            connection.execute(delete(artifacts).where(*same))
            connection.execute(
                insert(artifacts).values(
                    run_id=run_id, owner=owner, path=path, bytes=size, sha256=sha256, created=time.time()
                )
            )

    def end(self, run_id: str, token: int, status: str, reason: str = "") -> None:
        """The attempt is over, and with it the run (or, paused, for now). Raises Fenced, ValueError.

        What was asked meanwhile still counts: a pause that shall go on waits again, one that shall end is cancelled.
        """
        if status not in ENDS:
            raise ValueError(f"a run cannot end {status}: use one of {', '.join(ENDS)}")
        with self.engine.begin() as connection:
            wanted, now = _hold(connection, run_id, token), time.time()
            if status == "paused" and wanted in ("resume", "cancel"):
                status = "queued" if wanted == "resume" else "cancelled"
            values: dict[str, Any] = {"status": status, "reason": reason, "wanted": "", "token": None, "retries": 0}
            values |= {"queued": now} if status == "queued" else {}
            values |= {"ended": now} if status not in ("queued", "paused") else {}
            connection.execute(update(runs).where(runs.c.id == run_id).values(**values))
            _end_attempt(connection, token, f"{status} {reason}".strip())


def _hold(connection: Connection, run_id: str, token: int) -> str:
    """Lock the run's row for this transaction if the token is the one that counts; returns `wanted`."""
    mine = (runs.c.id == run_id, runs.c.token == token, runs.c.status.in_(AT_WORK))
    row = connection.execute(select(runs.c.wanted).where(*mine).with_for_update()).first()
    if row is None:
        raise Fenced(f"attempt {token} of run {run_id} may write no more")
    return str(row.wanted)


@contextmanager
def _writing(engine: Engine, run_id: str, token: int) -> Iterator[tuple[Connection, str]]:
    """A transaction in which this attempt may write; gives the run's owner too. Raises Fenced."""
    with engine.begin() as connection:
        _hold(connection, run_id, token)
        yield connection, connection.execute(select(runs.c.owner).where(runs.c.id == run_id)).scalar_one()


def _add(
    connection: Connection, table: Table, run_id: str, owner: str, token: int, contents: Sequence[dict[str, Any]]
) -> None:
    rows = [
        {"run_id": run_id, "owner": owner, "token": token, "step": c["step"], "content": json.dumps(c)}
        for c in contents
    ]
    connection.execute(insert(table), rows)


def _end_attempt(connection: Connection, token: int, outcome: str) -> None:
    values = {"ended": time.time(), "state": "ended", "outcome": outcome}
    connection.execute(update(attempts).where(attempts.c.token == token).values(**values))
