"""The store, on SQLite and on a real PostgreSQL: who sees what, who may write, and what many at once do to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import insert, inspect, select, update

from lab import store, store_engine
from lab.store import Fenced, QuotaError, Store
from lab.store_tables import attempts, metadata, runs

T = TypeVar("T")
SPEC = {"model": "bundled:storyteller", "config": {"task": "causal", "n_steps": 40}}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        monkeypatch.delenv("DATABASE_URL", raising=False)
        monkeypatch.setenv("LM_LAB_HOME", str(tmp_path / "home"))
    else:
        monkeypatch.setenv("DATABASE_URL", request.getfixturevalue("postgres").new_database())
    return store_engine.url()


@pytest.fixture
def there(url: str) -> Iterator[Store]:
    """A store in it."""
    opened = Store(url)
    yield opened
    opened.engine.dispose()


def _at_once(n: int, what: Callable[[int], T]) -> list[T]:
    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(what, range(n)))


def _record(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "n_steps": 40, **more}


# --- tables -----------------------------------------------------------------------------------------------------------


def test_the_migrations_make_the_tables_that_the_code_knows(there: Store) -> None:
    with there.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_every_table_has_an_owner(there: Store) -> None:
    inspector = inspect(there.engine)
    tables = set(inspector.get_table_names()) - {"alembic_version"}
    assert tables >= {"runs", "attempts", "metrics", "probes", "artifacts"}
    for table in tables:
        owner = {column["name"]: column for column in inspector.get_columns(table)}["owner"]
        assert owner["nullable"] is False, table


def test_many_that_open_an_empty_database_at_once_make_it_once(url: str) -> None:
    opened = _at_once(8, lambda i: Store(url))
    assert {store.submit("ann", "key", "title", SPEC).id for store in opened} == {opened[0].history("ann")[0].id}


def test_the_way_back_leaves_nothing(there: Store) -> None:
    config = Config()
    config.set_main_option("script_location", str(store_engine.MIGRATIONS))
    with there.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(inspect(there.engine).get_table_names()) <= {"alembic_version"}
    store_engine.migrate(there.engine)
    assert there.submit("ann", "key", "title", SPEC).status == "queued"


def test_sqlite_writes_ahead_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("LM_LAB_HOME", str(tmp_path / "a" / "home"))
    assert not store_engine.exists()
    opened = store.current()
    assert store.current() is opened and store_engine.exists() and (tmp_path / "a" / "home" / "lab.db").is_file()
    with store_engine.reading(opened.engine) as connection:
        assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"


# --- submit -----------------------------------------------------------------------------------------------------------


def test_twenty_submits_with_one_key_are_one_run(there: Store) -> None:
    found = _at_once(20, lambda i: there.submit("ann", "click", f"title {i}", SPEC))
    assert len({run.id for run in found}) == 1 and len(there.history("ann")) == 1
    assert len({run.title for run in found}) == 1, "all see the one that was first"
    assert there.submit("ben", "click", "other", SPEC).id != found[0].id, "a key is its owner's own"


def test_the_cap_holds_for_many_at_once(there: Store) -> None:
    def submit(i: int) -> str:
        try:
            return there.submit("ann", f"key {i}", "title", SPEC, most_active=3).id
        except QuotaError as error:
            assert error.reason == "too_many_runs" and error.numbers == {"active": 3, "most": 3}
            return ""

    found = _at_once(12, submit)
    assert len([run_id for run_id in found if run_id]) == 3 == len(there.history("ann"))
    assert there.submit("ben", "key", "title", SPEC, most_active=3).status == "queued"
    there.ask(there.history("ann")[0].id, "ann", "cancel")
    assert there.submit("ann", "new", "title", SPEC, most_active=3).status == "queued", "one has made room"


def test_what_a_run_is_comes_back(there: Store) -> None:
    spec = SPEC | {"prompts": ["猫 \u0000 \ud800 👩‍👩‍👧"], "seed": 0.1}
    run = there.submit("ann", "k", "T\0itle \ud800 猫", spec, race="race-1")
    assert there.run(run.id, "ann") == run == there.find("ann", "k")
    assert run.spec == spec and run.title == "Title  猫" and run.race == "race-1" and run.n_steps == 40
    assert (run.status, run.step, run.wanted, run.reason, run.started, run.ended) == ("queued", 0, "", "", None, None)
    assert there.set_note(run.id, "ann", "\0" + "x" * 10_000)
    assert there.run(run.id, "ann").note == "x" * store.LONGEST_NOTE  # type: ignore[union-attr]
    for owner, key in (("", "k"), ("ann", ""), ("a" * 201, "k"), ("ann", "k" * 201), ("ann", "a\0b")):
        with pytest.raises(ValueError, match="1 to 200"):
            there.submit(owner, key, "title", SPEC)


def test_nobody_sees_or_touches_the_run_of_another(there: Store) -> None:
    run = there.submit("ann", "key", "title", SPEC)
    assert there.run(run.id, "ben") is None and there.find("ben", "key") is None
    assert there.history("ben") == [] == there.ids_of("ben")
    for wanted in store.WISHES:
        assert there.ask(run.id, "ben", wanted) is False
    assert there.set_note(run.id, "ben", "mine") is False and there.delete(run.id, "ben") is False
    assert there.run(run.id, "ann") == run


def test_the_history_is_newest_first(there: Store) -> None:
    ids = [there.submit("ann", f"{i}", f"{i}", SPEC).id for i in range(5)]
    assert [run.id for run in there.history("ann")] == ids[::-1]
    assert [run.id for run in there.history("ann", limit=2)] == ids[:-3:-1]


# --- the queue --------------------------------------------------------------------------------------------------------


def test_each_waiting_run_is_claimed_once_and_in_order(there: Store) -> None:
    ids = [there.submit("ann", f"{i}", "title", SPEC).id for i in range(10)]
    assert [there.place(run_id) for run_id in ids] == list(range(1, 11))
    first = there.claim("here")
    assert first is not None and first.run_id == ids[0] and there.place(ids[0]) is None and there.place(ids[1]) == 1
    taken = _at_once(12, lambda i: there.claim("here"))
    claimed = [attempt.run_id for attempt in taken if attempt is not None]
    assert sorted(claimed) == sorted(ids[1:]), "each once, and nothing for the three who came too late"
    assert there.claim("here") is None and there.place("no such run") is None
    tokens = [attempt.token for attempt in there.open_attempts("here")]
    assert len(set(tokens)) == 10 and there.open_attempts("there") == []


def test_an_attempt_may_write_until_the_next_one_is_begun(there: Store) -> None:
    run = there.submit("ann", "key", "title", SPEC)
    old = there.claim("here")
    assert old is not None
    there.add_records(run.id, old.token, [_record(0), _record(1, loss=2.5)])
    assert there.retry(run.id, old.token, "lost", 2)
    new = there.claim("here")
    assert new is not None and new.run_id == run.id and new.token > old.token
    writes: list[Callable[[int], Any]] = [
        lambda token: there.add_records(run.id, token, [_record(2)]),
        lambda token: there.add_probe(run.id, token, {"step": 2}),
        lambda token: there.add_artifact(run.id, token, "result/x", 1, "0" * 64),
        lambda token: there.beat(run.id, token),
        lambda token: there.rewind(run.id, token, 0),
        lambda token: there.retry(run.id, token, "lost", 9),
        lambda token: there.end(run.id, token, "failed", "stale"),
    ]  # fmt: skip
    before = there.records(run.id)
    for write in writes:
        for token in (old.token, new.token + 1, 0):
            with pytest.raises(Fenced):
                write(token)
    assert there.records(run.id) == before and there.probes(run.id) == [] and there.artifacts(run.id, "ann") == []
    assert there.run(run.id, "ann").status == "starting"  # type: ignore[union-attr]
    for write in writes[:5]:
        write(new.token)  # the one that counts may do all of it
    there.end(run.id, new.token, "finished")
    for write in writes:
        with pytest.raises(Fenced):
            write(new.token)


def test_records_come_in_order_and_a_rewind_takes_back_what_went_too_far(there: Store) -> None:
    run = there.submit("ann", "key", "title", SPEC)
    attempt = there.claim("here")
    assert attempt is not None
    there.add_records(run.id, attempt.token, [])
    there.add_records(run.id, attempt.token, [_record(step, samples=[{"text": "猫\0"}]) for step in range(10)])
    there.add_probe(run.id, attempt.token, {"step": 8})
    now = there.run(run.id, "ann")
    assert now is not None and (now.status, now.step) == ("running", 9) and now.started is not None
    found = there.records(run.id)
    assert [record["step"] for _, record in found] == list(range(10)) and found[0][1]["samples"] == [{"text": "猫\0"}]
    last = found[-1][0]
    assert there.records(run.id, after_id=last) == [] and len(there.records(run.id, after_id=found[3][0])) == 6
    there.rewind(run.id, attempt.token, 4)
    assert [record["step"] for _, record in there.records(run.id)] == list(range(5)) and there.probes(run.id) == []
    there.add_records(run.id, attempt.token, [_record(5)])
    assert [record["step"] for _, record in there.records(run.id, after_id=last)] == [5], "no id is given twice"


def test_a_lost_run_is_tried_again_a_few_times(there: Store) -> None:
    """... and counted anew once an attempt has begun from a later save: a long run may lose many workers."""
    run = there.submit("ann", "key", "title", SPEC)
    there.submit("ben", "key", "title", SPEC)

    def lose(from_step: int) -> bool:
        attempt = there.claim("here")
        assert attempt is not None and attempt.run_id == run.id, "it keeps its place before the others"
        there.rewind(run.id, attempt.token, from_step)
        there.add_records(run.id, attempt.token, [_record(from_step + 7)])
        again = there.retry(run.id, attempt.token, "lost", 2)
        if not again:
            there.end(run.id, attempt.token, "failed", "lost")
        return again

    assert [lose(step) for step in (0, 0, 20, 20, 20)] == [True, True, True, True, False]


# --- wishes -----------------------------------------------------------------------------------------------------------


def _bring_to(there: Store, run_id: str, status: str) -> None:
    """Put the run into a status, as its history would."""
    if status == "queued":
        return
    attempt = there.claim("here")
    assert attempt is not None and attempt.run_id == run_id
    if status in ("running", "starting"):
        there.add_records(run_id, attempt.token, [_record(0)] if status == "running" else [])
    else:
        there.end(run_id, attempt.token, status)


NOW = {  # (status, what is asked) -> (is it granted, the status at once)
    ("queued", "pause"): (True, "paused"), ("queued", "resume"): (False, "queued"),
    ("queued", "cancel"): (True, "cancelled"),
    ("paused", "pause"): (False, "paused"), ("paused", "resume"): (True, "queued"),
    ("paused", "cancel"): (True, "cancelled"),
    ("failed", "pause"): (False, "failed"), ("failed", "resume"): (True, "queued"),
    ("failed", "cancel"): (False, "failed"),
    ("finished", "pause"): (False, "finished"), ("finished", "resume"): (False, "finished"),
    ("finished", "cancel"): (False, "finished"),
    ("cancelled", "pause"): (False, "cancelled"), ("cancelled", "resume"): (False, "cancelled"),
    ("cancelled", "cancel"): (False, "cancelled"),
    ("running", "pause"): (True, "running"), ("running", "resume"): (False, "running"),
    ("running", "cancel"): (True, "running"), ("starting", "cancel"): (True, "starting"),
}  # fmt: skip


def test_what_nobody_works_on_obeys_at_once(there: Store) -> None:
    for i, ((status, wanted), expected) in enumerate(NOW.items()):
        run_id = there.submit("ann", f"{i}", "title", SPEC).id
        _bring_to(there, run_id, status)
        granted = there.ask(run_id, "ann", wanted)
        now = there.run(run_id, "ann")
        assert now is not None and (granted, now.status) == expected, (status, wanted)
        at_work = granted and status in ("running", "starting")
        assert now.wanted == (wanted if at_work else ""), (status, wanted)
        assert (now.ended is not None) == now.is_over, (status, wanted)
        there.ask(run_id, "ann", "cancel")  # out of the way of the next one
        if now.status in ("running", "starting"):
            (attempt,) = there.open_attempts()
            there.end(run_id, attempt.token, "cancelled")
    with pytest.raises(ValueError, match="cannot ask"):
        there.ask("x", "ann", "explode")


@pytest.mark.parametrize(
    "wishes, ends, status",
    [(["pause"], "paused", "paused"), (["pause", "resume"], "paused", "queued"),
     (["pause", "cancel"], "paused", "cancelled"), (["cancel", "pause"], "cancelled", "cancelled"),
     (["pause"], "finished", "finished")],
)  # fmt: skip
def test_the_last_word_counts(there: Store, wishes: list[str], ends: str, status: str) -> None:
    run = there.submit("ann", "key", "title", SPEC)
    attempt = there.claim("here")
    assert attempt is not None
    for wanted in wishes:
        there.ask(run.id, "ann", wanted)
    assert there.beat(run.id, attempt.token, "running") == ("cancel" if "cancel" in wishes else wishes[-1])
    there.end(run.id, attempt.token, ends)
    now = there.run(run.id, "ann")
    assert now is not None and (now.status, now.wanted) == (status, "") and there.open_attempts() == []


def test_a_resume_waits_at_the_end_and_within_the_cap(there: Store) -> None:
    first = there.submit("ann", "1", "title", SPEC)
    assert there.ask(first.id, "ann", "pause")
    second = there.submit("ann", "2", "title", SPEC)
    with pytest.raises(QuotaError):
        there.ask(first.id, "ann", "resume", most_active=1)
    assert there.ask(first.id, "ann", "resume", most_active=2)
    assert there.place(second.id) == 1 and there.place(first.id) == 2


def test_a_run_is_forgotten_with_all_it_measured_but_never_under_its_worker(there: Store) -> None:
    run = there.submit("ann", "key", "title", SPEC)
    attempt = there.claim("here")
    assert attempt is not None
    there.add_records(run.id, attempt.token, [_record(0)])
    there.add_probe(run.id, attempt.token, {"step": 0})
    there.add_artifact(run.id, attempt.token, "result/model.safetensors", 12, "a" * 64)
    assert there.artifacts(run.id, "ann")[0]["bytes"] == 12 and there.artifacts(run.id, "ben") == []
    assert there.delete(run.id, "ann") is False
    there.end(run.id, attempt.token, "finished")
    assert there.delete(run.id, "ann") is True
    with there.engine.connect() as connection:
        for table in metadata.sorted_tables:
            assert connection.execute(select(table)).all() == [], table.name


def test_a_status_that_is_no_end_is_refused(there: Store) -> None:
    with pytest.raises(ValueError, match="cannot end running"):
        there.end("x", 1, "running")


def test_readers_do_not_wait_for_a_writer(there: Store) -> None:
    run = there.submit("ann", "key", "title", SPEC)
    with there.engine.begin() as writer:
        writer.execute(update(runs).values(title="not yet"))
        writer.execute(insert(attempts).values(
            run_id=run.id, owner="ann", place="x", state="starting", lease=0.0, started=0.0, handle="", from_step=0,
            outcome="",
        ))  # fmt: skip
        assert there.run(run.id, "ann") == run, "what is not committed is not seen, and nobody waits for it"
    assert there.run(run.id, "ann").title == "not yet"  # type: ignore[union-attr]


def test_an_address_as_a_provider_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for given in ("postgres://u:p@host:1/db", "postgresql://u:p@host:1/db"):
        monkeypatch.setenv("DATABASE_URL", given)
        assert store_engine.url() == "postgresql+psycopg://u:p@host:1/db" and store_engine.exists()
