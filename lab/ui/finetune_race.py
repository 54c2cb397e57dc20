"""A race on the page: whole model, head, LoRA, soft prompt, from scratch; their curves, and what each costs."""

from __future__ import annotations

import math
from typing import Any

import streamlit as st

from lab import figures, models, race, runs, store
from lab.language import text
from lab.lessons import escape_markdown
from lab.runs import reasons
from lab.store import QuotaError, Run
from lab.ui.charts import chart
from lab.ui.panels import figure_head
from lm_core.checkpoint_error import CheckpointError

SECONDS_BETWEEN_LOOKS = 2.0


def t(key: str, **values: object) -> str:
    """A text of the race."""
    return text(f"race.{key}", language=None, **values)


def show(run: Run) -> None:
    """The race that this run belongs to, or may begin: what may still join, the curves, the table."""
    found = race.members(run)
    base = found[0] if found else run
    with st.container(key="prose_race"):
        st.markdown(t("what"))
    _join(base, found)
    if len(found) > 1:
        active = any(member.is_active for member in found)
        st.fragment(_follow, run_every=SECONDS_BETWEEN_LOOKS if active else None)(base.id, base.owner, active)


def _join(base: Run, found: list[Run]) -> None:
    """Choose who joins, and send them off."""
    there = {race.kind_of(member.spec["config"]) for member in found}
    possible = [kind for kind in race.contestants(base.spec, _is_encoder(str(base.spec["model"]))) if kind not in there]
    if not possible:
        return
    key = f"race_kinds_{base.id}_{len(possible)}"
    chosen = st.pills(
        t("who", own=t(race.kind_of(base.spec["config"]))), possible, selection_mode="multi", key=key,
        default=possible[:2], format_func=t,
    )  # fmt: skip
    if st.button(t("start", n=len(chosen)), key=f"race_start_{base.id}", type="primary", disabled=not chosen):
        title = {kind: f"{base.title} · {t(kind)}"[:200] for kind in chosen}
        try:
            race.start(base, chosen, title)
        except (QuotaError, CheckpointError, ValueError, OSError) as error:
            st.session_state["race.said"] = _said(error)
        st.rerun()
    if said := st.session_state.pop("race.said", None):
        st.warning(said)


def _said(error: Exception) -> str:
    if isinstance(error, QuotaError) or type(error).__name__ == "RefusedError":
        return reasons.say_error(error)
    return t("cannot", why=escape_markdown(str(error)))


def _is_encoder(model: str) -> bool:
    try:
        models.shape(model)
    except models.NotCausalError:
        return True
    except (CheckpointError, ValueError, OSError):  # the model is gone: `start` will say so
        return False
    return False


def _follow(base_id: str, owner: str, was_active: bool) -> None:
    base = store.current().run(base_id, owner)
    if base is None:
        return
    found = race.members(base)
    records = {member.id: [record for _, record in store.current().records(member.id)] for member in found}
    _curves(base, found, records)
    _table(base, found, records)
    if was_active and not any(member.is_active for member in found):
        st.rerun()


def _names(found: list[Run]) -> dict[str, str]:
    return {member.id: t(race.kind_of(member.spec["config"])) for member in found}


def _curves(base: Run, found: list[Run], records: dict[str, list[Any]]) -> None:
    """Validation over steps, one curve a contestant."""
    names = _names(found)
    curves = {names[member.id]: race.curve(records[member.id]) for member in found}
    starts = [ys[0] for _, ys in curves.values() if ys and math.isfinite(ys[0])]  # they fix the axis: no curve moves it
    classifies = base.spec["config"].get("task") == "classification"
    top = 1.0 if classifies else math.ceil(max(starts, default=5.0) + 0.25)
    low = 0.0 if classifies else max(0.0, math.floor(min(starts, default=5.0)) - 2.0)
    last = ", ".join(f"{name} {ys[-1]:.2f}" for name, (_, ys) in curves.items() if ys)
    chart(
        figures.overlaid_curves, curves, x_range=(0, max(member.n_steps for member in found)), y_range=(low, top),
        x_title=t("steps"), y_title=t("accuracy" if classifies else "nats"), alt=t("curves_alt", last=last),
        title=t("curves_accuracy" if classifies else "curves"), file="race_curves",
    )  # fmt: skip


def _table(base: Run, found: list[Run], records: dict[str, list[Any]]) -> None:
    """What each came to and what it cost."""
    names, classifies = _names(found), base.spec["config"].get("task") == "classification"
    entries = [(member, race.entry_of(runs.folder(member.id), records[member.id])) for member in found]
    columns = ("quality", "learned", "lr", "time", "memory", "disk")
    rows = [
        (names[member.id], e.quality, e.learned, member.spec["config"].get("lr"), e.seconds, e.memory, e.disk)
        for member, e in entries
    ]
    plain = [tuple("" if value is None else value for value in row) for row in rows]
    figure_head(t("table"), figures.rows_csv([("what_learns", *columns), *plain]), "race_table")
    shown: dict[str, list[str]] = {t("learns"): [f"{names[member.id]}{_state(member)}" for member, _ in entries]}
    head = t("accuracy" if classifies else "nats")
    shown[head] = [
        _number(e.quality, 100 if classifies else 1, " %" if classifies else "", classifies) for _, e in entries
    ]
    shown[t("learned")] = ["–" if e.learned is None else f"{e.learned:,}" for _, e in entries]
    shown[t("lr")] = [f"{member.spec['config'].get('lr', 0):g}" for member, _ in entries]
    shown[t("time")] = [_number(e.seconds, 1, " s", True) for _, e in entries]
    shown[t("memory")] = [_number(e.memory, 2**-20, " MiB", True) for _, e in entries]
    shown[t("disk")] = [_number(e.disk, 2**-20, " MiB", False) for _, e in entries]
    st.table(shown)
    st.caption(t("note"))


def _state(member: Run) -> str:
    return "" if member.status == "finished" else f" ({t(f'status_{member.status}')})"


def _number(value: float | None, factor: float, unit: str, whole: bool) -> str:
    """`–` for what is not known."""
    return "–" if value is None else f"{value * factor:.{0 if whole else 2}f}{unit}"
