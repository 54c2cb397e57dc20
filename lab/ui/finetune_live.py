"""A run on the screen: its curves, what it says now, its buttons. While it is worked on, drawn anew once a second.

Each drawing asks the store for what is new since the last one only; what a session has seen it keeps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import streamlit as st

from lab import figures, run_models, runs, store
from lab import finetune_records as numbers
from lab.figures import training_curves
from lab.finetune_records import Probe, Record
from lab.language import text
from lab.lessons import escape_markdown
from lab.runs import reasons
from lab.store import QuotaError, Run
from lab.ui import components, model_choice, view
from lab.ui.charts import chart
from lab.ui.finetune_setup import t
from lab.ui.panels import figure_head

EVERY = 1.0  # seconds between two looks at a run that is worked on
MOST_SAMPLES = 3
MOST_TITLE = 24  # characters of the probe sentence in a title
MOST_FLIPS = 5
MOST_SAMPLE_CHARACTERS = 600
# Streamlit pales what it is about to draw anew; once a second that is a flicker.
_STEADY = '<style>[data-testid="stElementContainer"][data-stale="true"] { opacity: 1 !important; }</style>'
_SEEN, _REFUSED = "finetune.seen", "finetune.refused"


def show(run: Run) -> None:
    """Draw a run; while it waits or is worked on, again every second by itself."""
    st.fragment(_draw, run_every=EVERY if run.is_active else None)(run.id, run.owner, run.is_active)


def seen(run_id: str) -> tuple[list[Record], list[Probe]]:
    """Everything the run has said, in order; only what is new is read."""
    kept: dict[str, Any] = st.session_state.get(_SEEN, {})
    if kept.get("run") != run_id:
        kept = {"run": run_id, "records": [], "record": 0, "probes": [], "probe": 0}
    there = store.current()
    for name, last, new in (
        ("records", "record", there.records(run_id, kept["record"])),
        ("probes", "probe", there.probes(run_id, kept["probe"])),
    ):
        if new:
            kept[name] = numbers.merged(kept[name], [entry for _, entry in new])
            kept[last] = new[-1][0]
    st.session_state[_SEEN] = kept
    return kept["records"], kept["probes"]


def _draw(run_id: str, owner: str, was_active: bool) -> None:
    run = store.current().run(run_id, owner)
    if run is None or run.is_active != was_active:
        st.rerun(scope="app")
    assert run is not None
    records, probes = seen(run_id)
    st.html(_STEADY)
    left, right = st.columns([47, 62], gap="large")
    with left:
        _head(run, records)
        _doctor(run, records)
        _samples(run, probes)
    with right:
        _curves(run, records)
        if run.spec["config"]["task"] == "classification":
            _sides(probes)
        _reading(run, probes)


# --- where it stands --------------------------------------------------------------------------------------------------


def _head(run: Run, records: list[Record]) -> None:
    """Buttons, progress, and one line: step, speed, time left, or the place in the queue."""
    pace = numbers.pace(records)
    with st.container(horizontal=True, vertical_alignment="center", key="ft_buttons"):
        if run.is_active and run.wanted != "cancel":
            if run.wanted != "pause":
                _button(run, "pause", "secondary")
            _button(run, "cancel", "secondary")
        elif run.status == "paused" or (run.status == "failed" and records):
            _button(run, "resume", "primary")
            if run.status == "paused":
                _button(run, "cancel", "secondary")
    if refused := st.session_state.pop(_REFUSED, None):
        st.warning(refused)
    st.progress(min(1.0, run.step / max(1, run.n_steps)))
    st.caption(_line(run, pace))
    if run.status == "failed" and run.reason:
        st.warning(reasons.say(run.reason))


def _button(run: Run, wanted: str, kind: Any) -> None:
    def ask() -> None:
        try:
            runs.ask(run.id, run.owner, wanted)
        except QuotaError as error:
            st.session_state[_REFUSED] = reasons.say_error(error)

    st.button(t(f"button.{wanted}"), key=f"ft_{wanted}", type=kind, on_click=ask)


def _line(run: Run, pace: numbers.Pace | None) -> str:
    """`step 164 of 240 · 7,400 tokens/s · 21 s left`, or what else there is to say."""
    if run.status == "queued":
        return t("status.queued", place=store.current().place(run.id) or 1)
    if run.status == "starting" or (run.status == "running" and pace is None):
        return t("status.starting")
    said = t("status.step", step=run.step, n_steps=run.n_steps)
    if run.status == "running" and pace is not None:
        if pace.tokens_per_second:
            said += " · " + t("status.speed", speed=f"{pace.tokens_per_second:,.0f}")
        if pace.seconds_left and pace.step:
            said += " · " + t("status.left", time=duration(pace.seconds_left))
        if run.wanted in ("pause", "cancel"):
            said += " · " + t(f"status.asked_{run.wanted}")
        return said
    took = f" · {duration(pace.seconds)}" if pace is not None and pace.seconds else ""
    return f"{t(f'status.{run.status}')} · {said}{took}"


def duration(seconds: float) -> str:
    """`21 s` or `3 min`, in the session's language."""
    return t("seconds", n=f"{seconds:.0f}") if seconds < 90 else t("minutes", n=f"{seconds / 60:.0f}")


def _doctor(run: Run, records: list[Record]) -> None:
    """What the doctor says: the last thing found and what to try, else that all is well, with numbers."""
    if not records or numbers.training(records) == []:
        return
    found = numbers.findings(records)
    with st.container(key="predict_doctor", border=False):
        st.caption(t("doctor"))
        for finding in found[-2:]:
            evidence = {name: _evidence(finding["id"], name, value) for name, value in finding["evidence"].items()}
            said = text(f"doctor.finding.{finding['id']}", language=None, **evidence)
            advice = text(f"doctor.suggestion.{finding['suggestion']}")
            st.markdown(t("found", step=finding["step"], said=said, advice=advice))
        if not found:
            start = (numbers.validation(records) or numbers.training(records))[0][1]
            clipped = numbers.clipped_share(records, run.spec["config"]["clip_norm"])
            st.markdown(t("healthy", start=f"{start:.2f}", clipped=f"{clipped:.0%}"))


def _evidence(id: str, name: str, value: float | None) -> str:
    """A number of the doctor's, rounded as it is read."""
    if value is None or not math.isfinite(value):
        return "NaN"
    if name in ("steps", "best_step"):
        return f"{value:.0f}"
    if id == "lr_too_low" and name in ("update", "limit"):
        return f"{value:.1g}"
    return f"{value:.0%}" if name in ("share", "update", "limit") or id == "lr_too_low" else f"{value:.2f}"


# --- what it says -----------------------------------------------------------------------------------------------------


def _samples(run: Run, probes: list[Probe]) -> None:
    """The same prompts with the same drawn numbers: before, and at the last look."""
    if not probes or not probes[0].get("samples"):
        return
    st.caption(t("same_prompts"))
    columns = st.columns(2, gap="medium")
    waits = len(probes) == 1 and run.is_active
    if waits:
        columns[1].caption(t("next_look"))
    now = probes[-1].get("samples") or probes[0]["samples"]
    said = t("before"), t("at_step", step=probes[-1]["step"])
    for column, samples, title, colour in zip(
        columns[: 1 if waits else 2], (probes[0]["samples"], now), said, ("gray", "violet"), strict=False
    ):
        with column:
            st.caption(title)
            for sample in samples[:MOST_SAMPLES]:
                st.markdown(_continued(sample["prompt"], sample["text"], colour))


def _continued(prompt: str, said: str, colour: str) -> str:
    """A prompt and what the model adds, in colour, both inert; its line breaks are kept."""
    added = said.removeprefix(prompt)[:MOST_SAMPLE_CHARACTERS]
    lines = [f":{colour}[{escape_markdown(line)}]" if line.strip() else "" for line in added.split("\n")]
    between = "" if said.startswith(prompt) else " → "
    return escape_markdown(prompt) + between + "  \n".join(lines)


def _sides(probes: list[Probe]) -> None:
    """Every validation sentence: how sure of its true label the model was, and is; and which have just changed."""
    rows = numbers.judged(probes)
    if not rows:
        return
    right, was = sum(row.is_right for row in rows), sum(row.was_right for row in rows)
    n_labels = len(probes[0]["predictions"]["labels"])
    chart(
        training_curves.sides, [row.text for row in rows], [row.before for row in rows], [row.now for row in rows],
        [row.is_right for row in rows], threshold=0.5 if n_labels == 2 else None, x_title=t("sides_axis"),
        alt=t("sides_alt", right=right, n=len(rows), was=was),
        title=t("sides_title", right=right, n=len(rows), was=was),
        file="ft_sides",
    )  # fmt: skip
    last = [row for row in numbers.judged(probes[-2:]) if row.was_right != row.is_right] if len(probes) > 1 else []
    if last:
        st.caption(t("flipped", step=probes[-1]["step"]))
        for row in last[:MOST_FLIPS]:
            mark = t("now_right" if row.is_right else "now_wrong", said=escape_markdown(row.said))
            st.markdown(f"{escape_markdown(row.text)} — {mark}")


def _curves(run: Run, records: list[Record]) -> None:
    """Training and validation loss over all steps of the run, on axes that stay."""
    log = bool(st.session_state.get("ft_log"))
    training, validation = numbers.training(records), numbers.validation(records)
    unit = t("nats_token" if run.spec["config"]["task"] == "causal" else "nats_text")
    title = t("loss_title", unit=unit)
    last = f"{validation[-1][1]:.3f}" if validation else "–"
    if reports := numbers.accuracies(records):
        title += " · " + t("accuracy", share=f"{reports[-1][1]:.0%}")
    chart(
        training_curves.curves, training, validation, n_steps=run.n_steps,
        y_range=numbers.loss_range(training, validation, log=log), names=(t("training"), t("validation")),
        alt=t("loss_alt", n=len(training), last=last), best=numbers.best_step(records), log=log,
        title=title, file="ft_loss",
    )  # fmt: skip
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.toggle(t("log_axis"), key="ft_log", persist_state="session")
        if (best := numbers.best_step(records)) is not None:
            st.caption(t("best", step=best), width="content")


def _reading(run: Run, probes: list[Probe]) -> None:
    """The probe sentence: what may come next, before and now, and where one head looks."""
    if not probes:
        return
    rows = numbers.next_tokens(probes)
    with_map = (probes[-1].get("attention") or {}).get("weights")
    bars, map_ = st.columns([6, 5], gap="medium")
    if rows:
        probe = run.spec.get("probe", "")
        sentence = escape_markdown(probe if len(probe) <= MOST_TITLE else "… " + probe[-MOST_TITLE:])
        with bars:
            chart(
                training_curves.next_token_bars, [row.token for row in rows], [row.before for row in rows],
                [row.now for row in rows], alt=t("next_alt", token=rows[0].token, now=f"{rows[0].now:.2f}"),
                title=t("next_title", sentence=sentence), file="ft_next",
            )  # fmt: skip
    if with_map:
        attention = probes[-1]["attention"]
        with map_:
            said = t("attention_title", layer=attention["layer"] + 1, head=attention["head"] + 1)
            figure_head(
                f"{said} · {t('at_step', step=probes[-1]['step'])}",
                figures.matrix_csv(attention["weights"], attention["tokens"], attention["tokens"]), "ft_attention",
            )  # fmt: skip
            components.matrix(
                np.asarray(attention["weights"]), attention["tokens"], attention["tokens"], key="ft_attention",
                alt=f"{said}: {escape_markdown(run.spec.get('probe', ''))}", vmin=0.0, vmax=1.0, decimals=2,
            )  # fmt: skip


# --- the quiet lines --------------------------------------------------------------------------------------------------


def summary(run: Run) -> None:
    """What was set, in one line, and what to do with the model that came out of it."""
    config = run.spec["config"]
    name = escape_markdown(model_choice.label(run.spec["model"]))
    st.caption(
        t(
            "summary", model=name, way=t(f"learns.{config['learns']}"), lr=f"{config['lr']:g}",
            schedule=config["schedule"],
            n_steps=config["n_steps"], rows=config["batch_size"] * config["accumulate"], n_tokens=config["n_tokens"],
            optimizer=config["optimizer"],
        )
    )  # fmt: skip


def use_button(run: Run) -> None:
    """Read with this run's model in every lesson: for what writes, not for a classifier."""
    if f"run:{run.id}" not in run_models.mine():
        return
    name = f"run:{run.id}"
    if view.get("model") == name:
        st.caption(t("in_use"))
    else:
        st.button(t("use"), key="ft_use", type="primary", on_click=model_choice.use, args=(name,))
