"""How far each learner is with each exercise: kept in the store, there after a restart and for the teacher.

    untouched   the file is as it was handed out
    failing     its last check found something
    passing     its last check passed, and no hint was asked for before the first pass
    helped      it passes, after a hint of the ladder or the solution had been opened

The rules of the ladder (when the next hint opens, and when the solution) are those of `lm_core.judge.progress`. Hints
that a verdict brings by itself, the names of mistakes, are no help asked for; they are counted, since what trips a
class is what a teacher wants to know.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from lab import store
from lab.figures import table_csv
from lab.store_engine import reading
from lab.store_tables import MISTAKES, STANDINGS
from lm_core.judge.progress import N_HINTS, Progress
from lm_core.judge.verdict import Verdict

State = Literal["untouched", "failing", "passing", "helped"]
STATES: tuple[State, ...] = ("untouched", "failing", "passing", "helped")
SOLVED: tuple[State, ...] = ("passing", "helped")


@dataclass(frozen=True)
class Standing:
    """One learner at one exercise. Times are seconds since 1970; `passed_at` is the first pass.

    `attempts` counts checks of a text that differs from the last one; `digest` is the text last checked, with the
    `stage` and `hint_id` of what was found; `helped`: a hint or the solution had been opened before the first pass.
    """

    exercise: str
    state: State = "untouched"
    attempts: int = 0
    hints: int = 0
    attempts_at_hint: int = 0
    solution_seen: bool = False
    helped: bool = False
    passed_at: float | None = None
    digest: str = ""
    stage: str = ""
    hint_id: str | None = None
    updated: float = 0.0

    @property
    def ladder(self) -> Progress:
        """The same as the judge's own record, which knows the rules of the ladder."""
        return Progress(self.attempts, self.passed_at is not None, self.hints, self.attempts_at_hint, self.digest)


@dataclass(frozen=True)
class Learner:
    """One line of the class: at which exercise somebody is, and how much they have solved."""

    owner: str
    exercise: str
    state: State
    attempts: int
    hints: int
    hint_id: str | None
    updated: float
    solved: int
    helped: int


@dataclass(frozen=True)
class NeededHint:
    """A named mistake: how many learners it met, and how often."""

    exercise: str
    hint_id: str
    learners: int
    times: int


@dataclass(frozen=True)
class Opened:
    """How many learners tried an exercise, solved it, and opened each rung of its ladder and the solution."""

    exercise: str
    tried: int
    solved: int
    rungs: tuple[int, ...]
    solution: int


# --- one learner ------------------------------------------------------------------------------------------------------


def of(owner: str) -> dict[str, Standing]:
    """Every exercise that `owner` has begun, by slug."""
    with reading(_engine()) as connection:
        rows = connection.execute(sa.select(STANDINGS).where(STANDINGS.c.owner == owner)).mappings()
        return {row["exercise"]: _standing(row) for row in rows}


def one(owner: str, exercise: str) -> Standing:
    """One exercise of `owner`; untouched where nothing is known."""
    with reading(_engine()) as connection:
        row = connection.execute(sa.select(STANDINGS).where(_is(owner, exercise))).mappings().one_or_none()
    return Standing(exercise) if row is None else _standing(row)


def record(owner: str, verdict: Verdict, source: str, *, untouched: bool = False) -> Standing:
    """Note a check. `untouched`: the text is the file as it was handed out, and so no attempt."""
    exercise = verdict.slug
    with _engine().begin() as connection:
        before = _locked(connection, owner, exercise)
        ladder = before.ladder
        if not untouched and verdict.stage != "start":
            ladder = ladder.after_check(source, verdict.passed)
        first_pass = verdict.passed and before.passed_at is None
        helped = before.helped or (first_pass and (before.hints > 0 or before.solution_seen))
        failing: State = "untouched" if untouched else "failing"
        state: State = failing if not verdict.passed else "helped" if helped else "passing"
        changes: dict[str, Any] = {
            "state": state, "attempts": ladder.attempts, "digest": ladder.digest, "helped": helped,
            "stage": verdict.stage, "hint_id": None if untouched else verdict.hint_id,
            "passed_at": time.time() if first_pass else before.passed_at,
        }  # fmt: skip
        if ladder.attempts > before.attempts and not verdict.passed and verdict.hint_id is not None:
            _count(connection, owner, exercise, verdict.hint_id)
        return _change(connection, owner, before, changes)


def open_hint(owner: str, exercise: str) -> Standing:
    """Open the next rung of the ladder. Raises ValueError when it is not open yet."""
    with _engine().begin() as connection:
        before = _locked(connection, owner, exercise)
        after = before.ladder.after_hint()
        return _change(connection, owner, before, {"hints": after.hints, "attempts_at_hint": after.attempts_at_hint})


def see_solution(owner: str, exercise: str) -> Standing:
    """Note that the solution was opened. Raises ValueError when it is not open yet."""
    with _engine().begin() as connection:
        before = _locked(connection, owner, exercise)
        if not before.ladder.solution_open:
            raise ValueError("the solution opens after passing, or after all hints and three attempts")
        return _change(connection, owner, before, {"solution_seen": True})


def begin_again(owner: str, exercise: str) -> Standing:
    """The file was put back: untouched again. Attempts, and the hints seen, stay as they are."""
    with _engine().begin() as connection:
        before = _locked(connection, owner, exercise)
        return _change(connection, owner, before, {"state": "untouched", "stage": "", "hint_id": None})


# --- the class --------------------------------------------------------------------------------------------------------


def learners() -> list[Learner]:
    """Everybody who has begun, the latest first: the exercise they last worked at, and what they have solved."""
    own = STANDINGS.c
    latest = (own.updated.desc(), own.exercise)
    place = sa.func.row_number().over(partition_by=own.owner, order_by=latest).label("place")
    solved, helped = (
        sa.func.sum(sa.case((own.state.in_(states), 1), else_=0)).over(partition_by=own.owner).label(name)
        for states, name in ((SOLVED, "n_solved"), (("helped",), "n_helped"))
    )
    each = sa.select(STANDINGS, place, solved, helped).subquery()
    query = sa.select(each).where(each.c.place == 1).order_by(each.c.updated.desc(), each.c.owner)
    with reading(_engine()) as connection:
        return [
            Learner(row.owner, row.exercise, row.state, row.attempts, row.hints, row.hint_id, row.updated,
                    int(row.n_solved), int(row.n_helped))
            for row in connection.execute(query)
        ]  # fmt: skip


def needed_hints(most: int = 10) -> list[NeededHint]:
    """The named mistakes that met most learners, at most `most` of them."""
    own = MISTAKES.c
    met, times = sa.func.count(sa.distinct(own.owner)), sa.func.sum(own.times)
    query = (
        sa.select(own.exercise, own.hint_id, met.label("learners"), times.label("times"))
        .group_by(own.exercise, own.hint_id)
        .order_by(met.desc(), times.desc(), own.exercise, own.hint_id)
        .limit(most)
    )
    with reading(_engine()) as connection:
        found = connection.execute(query)
        return [NeededHint(row.exercise, row.hint_id, row.learners, int(row.times)) for row in found]


def opened() -> list[Opened]:
    """For each exercise that somebody tried: how many solved it, and how far up the ladder the class went."""
    own = STANDINGS.c

    def how_many(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.sum(sa.case((condition, 1), else_=0))

    query = sa.select(
        own.exercise, sa.func.count().label("tried"), how_many(own.passed_at.is_not(None)).label("solved"),
        how_many(own.solution_seen).label("solution"),
        *(how_many(own.hints >= rung).label(f"rung_{rung}") for rung in range(1, N_HINTS + 1)),
    ).group_by(own.exercise).order_by(own.exercise)  # fmt: skip
    with reading(_engine()) as connection:
        return [
            Opened(row["exercise"], row["tried"], int(row["solved"]),
                   tuple(int(row[f"rung_{rung}"]) for rung in range(1, N_HINTS + 1)), int(row["solution"]))
            for row in connection.execute(query).mappings()
        ]  # fmt: skip


def csv(standings: Iterable[Standing]) -> str:
    """One learner's progress as CSV, an exercise a row."""
    names = [field.name for field in fields(Standing) if field.name != "digest"]
    return table_csv(names, [[_plain(asdict(row)[name]) for name in names] for row in standings])


def class_csv(rows: Iterable[Learner]) -> str:
    """The class as CSV, a learner a row."""
    names = [field.name for field in fields(Learner)]
    return table_csv(names, [[_plain(asdict(row)[name]) for name in names] for row in rows])


# --- rows -------------------------------------------------------------------------------------------------------------


def _engine() -> sa.Engine:
    return store.current().engine


def _is(owner: str, exercise: str) -> sa.ColumnElement[bool]:
    return sa.and_(STANDINGS.c.owner == owner, STANDINGS.c.exercise == exercise)


def _standing(row: Mapping[Any, Any]) -> Standing:
    return Standing(**{field.name: row[field.name] for field in fields(Standing)})


def _plain(value: object) -> object:
    return "" if value is None else value


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    """An insert that may say what to do where the row is there already; each database has its own."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def _locked(connection: sa.Connection, owner: str, exercise: str) -> Standing:
    """The row, made where it is missing, and nobody else's to change until this transaction ends.

    SQLite has one writer anyway; PostgreSQL locks the row.
    """
    connection.execute(_insert(connection, STANDINGS).values(owner=owner, exercise=exercise).on_conflict_do_nothing())
    row = connection.execute(sa.select(STANDINGS).where(_is(owner, exercise)).with_for_update()).mappings().one()
    return _standing(row)


def _change(connection: sa.Connection, owner: str, before: Standing, changes: Mapping[str, Any]) -> Standing:
    new = dict(changes) | {"updated": time.time()}
    connection.execute(sa.update(STANDINGS).where(_is(owner, before.exercise)).values(**new))
    return Standing(**(asdict(before) | new))


def _count(connection: sa.Connection, owner: str, exercise: str, hint_id: str) -> None:
    found = _insert(connection, MISTAKES).values(owner=owner, exercise=exercise, hint_id=hint_id, times=1)
    connection.execute(
        found.on_conflict_do_update(
            index_elements=["owner", "exercise", "hint_id"], set_={"times": MISTAKES.c.times + 1}
        )
    )
