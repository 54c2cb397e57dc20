"""What must still be there after a restart: runs and what they measured.

    store = current()                       # SQLite in the home folder, or the server that DATABASE_URL names
    run = store.submit("local", "key-1", "My run", spec)
    for id, record in store.records(run.id, after_id=last): ...

A page reads with the owner's name and sees nothing of others. What the supervisor and its workers do stands in
`lab.store_attempts`.
"""

from __future__ import annotations

import json
import time
import uuid
from functools import lru_cache
from typing import Any

from sqlalchemy import Table, delete, func, insert, select, update

from lab import store_engine
from lab.store_attempts import Fenced, Work
from lab.store_engine import is_away, lock_owner, reading
from lab.store_tables import ACTIVE, AT_WORK, RUN_COLUMNS, Run, artifacts, as_run, metrics, probes, runs

__all__ = ["Fenced", "QuotaError", "Run", "Store", "current", "is_away"]

WISHES = ("pause", "resume", "cancel")
LONGEST_KEY = LONGEST_TITLE = 200
LONGEST_NOTE = 4000


class QuotaError(ValueError):
    """A limit that the teacher has set is reached. `reason` is the id of a text, `numbers` are its values."""

    def __init__(self, reason: str, **numbers: float | str) -> None:
        super().__init__(f"{reason}: {', '.join(f'{name} {value}' for name, value in numbers.items())}")
        self.reason, self.numbers = reason, numbers


def current() -> Store:
    """The store of this home and environment. Raises what the database's driver raises where it cannot be opened."""
    return _open(store_engine.url())


@lru_cache(maxsize=4)
def _open(url: str) -> Store:
    return Store(url)


class Store(Work):
    """The store at one database. Safe to use from many threads."""

    def __init__(self, url: str) -> None:
        self.engine = store_engine.open_engine(url)

    def submit(
        self,
        owner: str,
        key: str,
        title: str,
        spec: dict[str, Any],
        race: str | None = None,
        *,
        run_id: str | None = None,
        most_active: int | None = None,
    ) -> Run:
        """Put a run into the queue, or give the one that this owner has submitted with this key before.

        run_id: where the caller has made a folder for it already. Raises QuotaError when most_active runs of this owner
        wait or are worked on, ValueError for an owner or key that is empty or too long.
        """
        for name, value in (("owner", owner), ("key", key)):
            if not 0 < len(value) <= LONGEST_KEY or _clean(value, LONGEST_KEY) != value:
                raise ValueError(f"{name} must be a text of 1 to {LONGEST_KEY} ordinary characters")
        new, now = run_id or uuid.uuid4().hex, time.time()
        with self.engine.begin() as connection:
            lock_owner(connection, owner)
            same = select(*RUN_COLUMNS).where(runs.c.owner == owner, runs.c.key == key)
            if (row := connection.execute(same).first()) is not None:
                return as_run(row)
            if most_active is not None:
                _check_cap(connection, owner, most_active)
            values = {
                "id": new, "owner": owner, "key": key, "title": _clean(title, LONGEST_TITLE), "status": "queued",
                "created": now, "queued": now, "spec": json.dumps(spec), "race": race,
                "n_steps": int(spec.get("config", {}).get("n_steps", 0)),
            }  # fmt: skip
            return as_run(connection.execute(insert(runs).values(**values).returning(*RUN_COLUMNS)).one())

    def find(self, owner: str, key: str) -> Run | None:
        """The run that this owner has submitted with this key."""
        query = select(*RUN_COLUMNS).where(runs.c.owner == owner, runs.c.key == key)
        with reading(self.engine) as connection:
            row = connection.execute(query).first()
        return None if row is None else as_run(row)

    def run(self, run_id: str, owner: str) -> Run | None:
        """A run of this owner; None where there is none, and for a run of somebody else."""
        query = select(*RUN_COLUMNS).where(runs.c.id == run_id, runs.c.owner == owner)
        with reading(self.engine) as connection:
            row = connection.execute(query).first()
        return None if row is None else as_run(row)

    def history(self, owner: str, limit: int = 50) -> list[Run]:
        """The runs of an owner, the newest first."""
        query = select(*RUN_COLUMNS).where(runs.c.owner == owner).order_by(runs.c.created.desc(), runs.c.id)
        with reading(self.engine) as connection:
            return [as_run(row) for row in connection.execute(query.limit(limit))]

    def place(self, run_id: str) -> int | None:
        """How many runs will be started before this one does, and itself: 1 is the next. None if it does not wait."""
        with reading(self.engine) as connection:
            mine = connection.execute(
                select(runs.c.queued, runs.c.id).where(runs.c.id == run_id, runs.c.status == "queued")
            ).first()
            if mine is None:
                return None
            earlier = (runs.c.queued < mine.queued) | ((runs.c.queued == mine.queued) & (runs.c.id <= mine.id))
            query = select(func.count()).select_from(runs).where(runs.c.status == "queued", earlier)
            return int(connection.execute(query).scalar_one())

    def ask(self, run_id: str, owner: str, wanted: str, *, most_active: int | None = None) -> bool:
        """Ask for "pause", "resume" or "cancel"; False where that means nothing now, or the run is not this owner's.

        What nobody works on obeys at once; a worker is told, and obeys within three seconds or is killed. A paused run,
        and one that failed with its state kept, may be resumed: it waits in the queue again. Raises QuotaError.
        """
        if wanted not in WISHES:
            raise ValueError(f"cannot ask a run to {wanted}: use one of {', '.join(WISHES)}")
        with self.engine.begin() as connection:
            lock_owner(connection, owner)
            mine = (runs.c.id == run_id, runs.c.owner == owner)
            row = connection.execute(select(runs.c.status, runs.c.wanted).where(*mine).with_for_update()).first()
            if row is None:
                return False
            now = time.time()
            change: dict[str, Any] | None = None
            if row.status in AT_WORK:
                if row.wanted != "cancel" and not (wanted == "resume" and row.wanted != "pause"):
                    change = {"wanted": wanted}
            elif wanted == "cancel" and row.status in ("queued", "paused"):
                change = {"status": "cancelled", "ended": now}
            elif wanted == "pause" and row.status == "queued":
                change = {"status": "paused"}
            elif wanted == "resume" and row.status in ("paused", "failed"):
                if most_active is not None:
                    _check_cap(connection, owner, most_active)
                change = {"status": "queued", "queued": now, "ended": None, "reason": ""}
            if change is None:
                return False
            connection.execute(update(runs).where(*mine).values(**change))
            return True

    def ids_of(self, owner: str) -> list[str]:
        """The ids of all runs of an owner."""
        with reading(self.engine) as connection:
            return list(connection.execute(select(runs.c.id).where(runs.c.owner == owner)).scalars())

    def set_note(self, run_id: str, owner: str, note: str) -> bool:
        """Keep a learner's own words about a run; False if it is not this owner's."""
        change = update(runs).where(runs.c.id == run_id, runs.c.owner == owner)
        with self.engine.begin() as connection:
            return connection.execute(change.values(note=_clean(note, LONGEST_NOTE))).rowcount == 1

    def delete(self, run_id: str, owner: str) -> bool:
        """Forget a run that nobody works on, with all it measured; False otherwise.

        Its folder is removed by `lab.runs.delete`, or later by the supervisor.
        """
        idle = runs.c.status.not_in(AT_WORK)
        with self.engine.begin() as connection:
            done = connection.execute(delete(runs).where(runs.c.id == run_id, runs.c.owner == owner, idle))
            return done.rowcount == 1

    def records(self, run_id: str, after_id: int = 0) -> list[tuple[int, dict[str, Any]]]:
        """(id, record) of each step kept after `after_id`, in the order of their steps.

        A run that goes on from its last save measures the steps since then again: where a step comes twice, the later
        one holds.
        """
        return self._contents(metrics, run_id, after_id)

    def probes(self, run_id: str, after_id: int = 0) -> list[tuple[int, dict[str, Any]]]:
        """(id, probe), as `records`."""
        return self._contents(probes, run_id, after_id)

    def _contents(self, table: Table, run_id: str, after_id: int) -> list[tuple[int, dict[str, Any]]]:
        query = select(table.c.id, table.c.content).where(table.c.run_id == run_id, table.c.id > after_id)
        with reading(self.engine) as connection:
            return [(row.id, json.loads(row.content)) for row in connection.execute(query.order_by(table.c.id))]

    def artifacts(self, run_id: str, owner: str) -> list[dict[str, Any]]:
        """The files that a run has left: path inside its folder, bytes, sha256, created."""
        columns = (artifacts.c.path, artifacts.c.bytes, artifacts.c.sha256, artifacts.c.created)
        query = select(*columns).where(artifacts.c.run_id == run_id, artifacts.c.owner == owner)
        with reading(self.engine) as connection:
            return [row._asdict() for row in connection.execute(query.order_by(artifacts.c.path))]


def _check_cap(connection: Any, owner: str, most: int) -> None:
    query = select(func.count()).select_from(runs).where(runs.c.owner == owner, runs.c.status.in_(ACTIVE))
    if (active := int(connection.execute(query).scalar_one())) >= most:
        raise QuotaError("too_many_runs", active=active, most=most)


def _clean(text: str, longest: int) -> str:
    """What every database can keep: no NUL, no half of a surrogate pair, not longer than `longest`."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode("utf-8")[:longest]
