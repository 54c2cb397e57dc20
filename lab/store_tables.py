"""The tables of the store, and the values that are read from them. Every table has an owner.

A run is *attempted* by one worker at a time. Each attempt has a number, its fencing token, larger than all before it;
`runs.token` names the attempt that may write. Times are seconds since 1970 (UTC), contents are JSON texts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text
from sqlalchemy import UniqueConstraint as Unique
from sqlalchemy.engine import Row

# Names of constraints by rule, so that a later migration can name what it changes on every database.
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)
# SQLite gives numbers by itself only to a column of type INTEGER; PostgreSQL's would end at two thousand million.
NUMBER = BigInteger().with_variant(Integer, "sqlite")
WAITING, AT_WORK, OVER = ("queued",), ("starting", "running"), ("finished", "failed", "cancelled")
ACTIVE = WAITING + AT_WORK
STATUSES = (*ACTIVE, "paused", *OVER)


def _run_id() -> Column[str]:
    return Column("run_id", String(32), ForeignKey("runs.id", ondelete="CASCADE"), nullable=False)


def _owner() -> Column[str]:
    return Column("owner", String(200), nullable=False)


runs = Table(
    "runs",
    metadata,
    Column("id", String(32), primary_key=True),
    _owner(),
    Column("key", String(200), nullable=False),  # chosen by who submits: the same key is the same run
    Column("title", String(200), nullable=False),
    Column("status", String(16), nullable=False),
    Column("reason", Text, nullable=False, default=""),
    Column("wanted", String(16), nullable=False, default=""),
    Column("step", Integer, nullable=False, default=0),
    Column("n_steps", Integer, nullable=False, default=0),
    Column("created", Float, nullable=False),
    Column("queued", Float, nullable=False),  # since when it waits; decides its place
    Column("started", Float),
    Column("ended", Float),
    Column("spec", Text, nullable=False),
    Column("note", Text, nullable=False, default=""),
    Column("race", String(64)),
    Column("token", NUMBER),  # the attempt that may write; none while nobody works on it
    Column("retries", Integer, nullable=False, default=0),
    Unique("owner", "key"),
)
Index("ix_runs_status_queued", runs.c.status, runs.c.queued)
Index("ix_runs_owner_created", runs.c.owner, runs.c.created)

attempts = Table(
    "attempts",
    metadata,
    Column("token", NUMBER, primary_key=True, autoincrement=True),
    _run_id(),
    _owner(),
    Column("place", String(200), nullable=False),  # the supervisor that started it: only it can reach the process
    Column("handle", Text, nullable=False, default=""),  # the launcher's word for the process
    Column("state", String(16), nullable=False),  # starting, running, saving, ended
    Column("lease", Float, nullable=False),  # without a beat until then, the worker counts as lost
    Column("from_step", Integer, nullable=False, default=0),
    Column("started", Float, nullable=False),
    Column("ended", Float),
    Column("outcome", Text, nullable=False, default=""),
    sqlite_autoincrement=True,  # a token is never given twice
)
Index("ix_attempts_run_id", attempts.c.run_id)


def _of_a_step(name: str) -> Table:
    """What a run says as it goes, one JSON text a row, in the order in which it was said."""
    table = Table(
        name,
        metadata,
        Column("id", NUMBER, primary_key=True, autoincrement=True),
        _run_id(),
        _owner(),
        Column("token", NUMBER, nullable=False),
        Column("step", Integer, nullable=False),
        Column("content", Text, nullable=False),
        sqlite_autoincrement=True,
    )
    Index(f"ix_{name}_run_id_id", table.c.run_id, table.c.id)
    return table


metrics, probes = _of_a_step("metrics"), _of_a_step("probes")

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", NUMBER, primary_key=True, autoincrement=True),
    _run_id(),
    _owner(),
    Column("path", Text, nullable=False),  # inside the run's folder
    Column("bytes", NUMBER, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("created", Float, nullable=False),
    Unique("run_id", "path"),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True)
class Run:
    """One fine-tune of somebody. Times are seconds since 1970; `reason` says why it ended (see `lab.runs.reasons`);
    `race` is shared by runs that are compared; `wanted` is what its owner has asked for and the worker not yet done.
    """

    id: str
    owner: str
    title: str
    status: str
    reason: str
    step: int
    n_steps: int
    created: float
    started: float | None
    ended: float | None
    spec: dict[str, Any]
    note: str
    race: str | None
    wanted: str

    @property
    def is_active(self) -> bool:
        """Whether it waits or is worked on."""
        return self.status in ACTIVE

    @property
    def is_over(self) -> bool:
        """Whether it has ended for good, or failed."""
        return self.status in OVER


@dataclass(frozen=True)
class Attempt:
    """One worker's try at a run."""

    token: int
    run_id: str
    owner: str
    place: str
    handle: str
    state: str
    lease: float
    from_step: int
    started: float


RUN_COLUMNS = [
    runs.c.id, runs.c.owner, runs.c.title, runs.c.status, runs.c.reason, runs.c.step, runs.c.n_steps, runs.c.created,
    runs.c.started, runs.c.ended, runs.c.spec, runs.c.note, runs.c.race, runs.c.wanted,
]  # fmt: skip
ATTEMPT_COLUMNS = [
    attempts.c.token, attempts.c.run_id, attempts.c.owner, attempts.c.place, attempts.c.handle, attempts.c.state,
    attempts.c.lease, attempts.c.from_step, attempts.c.started,
]  # fmt: skip


def as_run(row: Row[Any]) -> Run:
    """A row of `RUN_COLUMNS` as a value."""
    return Run(**(row._asdict() | {"spec": json.loads(row.spec)}))


def as_attempt(row: Row[Any]) -> Attempt:
    """A row of `ATTEMPT_COLUMNS` as a value."""
    return Attempt(**row._asdict())


# --- exercises (lab.progress): one row a learner and exercise, and one a named mistake that they met ---

STANDINGS = Table(
    "exercise_progress",
    metadata,
    Column("owner", String(200), primary_key=True),
    Column("exercise", String(64), primary_key=True),
    Column("state", String(16), nullable=False, default="untouched"),
    Column("attempts", Integer, nullable=False, default=0),
    Column("hints", Integer, nullable=False, default=0),
    Column("attempts_at_hint", Integer, nullable=False, default=0),
    Column("solution_seen", Boolean, nullable=False, default=False),
    Column("helped", Boolean, nullable=False, default=False),
    Column("passed_at", Float),
    Column("digest", String(16), nullable=False, default=""),  # of the text last checked
    Column("stage", String(16), nullable=False, default=""),
    Column("hint_id", String(128)),
    Column("updated", Float, nullable=False, default=0.0),
)
MISTAKES = Table(
    "exercise_mistakes",
    metadata,
    Column("owner", String(200), primary_key=True),
    Column("exercise", String(64), primary_key=True),
    Column("hint_id", String(128), primary_key=True),
    Column("times", Integer, nullable=False, default=0),
)
