"""What if the mask is broken? Two tiny models, really trained in a process of their own, followed on the page."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from lab import figures, settings
from lab.language import text
from lab.lessons import escape_markdown
from lab.theme import Role
from lab.ui.charts import chart
from lab.ui.panels import figure_head, source
from lm_core import mask_race

STATE = "broken_mask"  # {"file", "pid", "started", "watched"} of this session's race; one at a time
SECONDS, STEPS, SEED = 30, 160, 1
GRACE_SECONDS = 90  # to import torch and to write at the end; after that the process is ended
AT_ONCE = 2  # races on this server
ROOT = Path(__file__).resolve().parents[2]
ARMS: tuple[tuple[str, Role], ...] = (("causal", "weights"), ("open", "loss"))
Record = Mapping[str, Any]


def t(key: str, **values: object) -> str:
    """A text of this experiment."""
    return text(f"broken_mask.{key}", language=None, **values)


@st.cache_resource(show_spinner=False)
def _racers() -> list[subprocess.Popen[bytes]]:
    """The races of all sessions that may still run. No user's state: processes to count and to end."""
    return []


def running() -> list[subprocess.Popen[bytes]]:
    """The races that run now; those that have ended are forgotten."""
    racers = _racers()
    racers[:] = [racer for racer in racers if racer.poll() is None]
    return racers


def start() -> None:
    """Begin this session's race, if neither it nor too many others run."""
    if is_running() or len(running()) >= AT_ONCE:
        st.session_state[f"{STATE}.full"] = not is_running()
        return
    st.session_state[f"{STATE}.full"] = False
    folder = settings.home() / "mask_race"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.jsonl"):
        if time.time() - old.stat().st_mtime > 86_400:
            old.unlink(missing_ok=True)
    place = folder / f"{uuid.uuid4().hex}.jsonl"
    command = [sys.executable, "-m", "lab.runs.mask_race", str(place)]
    command += [f"--seconds={SECONDS}", f"--steps={STEPS}", f"--seed={SEED}"]
    racer = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _racers().append(racer)
    st.session_state[STATE] = {"file": str(place), "pid": racer.pid, "started": time.time(), "watched": True}


def stop() -> None:
    """End this session's race."""
    for racer in running():
        if racer.pid == (st.session_state.get(STATE) or {}).get("pid"):
            racer.terminate()


def is_running() -> bool:
    """Whether this session's race runs; one that has outlived its time is ended here."""
    mine = st.session_state.get(STATE)
    if mine is None:
        return False
    for racer in running():
        if racer.pid == mine["pid"]:
            if time.time() - mine["started"] > SECONDS + GRACE_SECONDS:
                racer.kill()
                return False
            return True
    return False


def read(place: Path) -> list[dict[str, Any]]:
    """The whole lines of a race's file, as far as it has come."""
    try:
        content = place.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in content.split("\n")[:-1]]


def show() -> None:
    """The whole experiment: the question, the button, and what came out."""
    st.subheader(t("title"), anchor="broken-mask")
    left, right = st.columns([47, 62], gap="large")
    with left:
        with st.container(key="prose_broken_mask"):
            st.markdown(t("what"))
        guess()
        if is_running():
            st.button(t("stop"), key="broken_mask_stop", on_click=stop)
        else:
            st.button(t("start"), key="broken_mask_start", type="primary", on_click=start)
        if st.session_state.get(f"{STATE}.full"):
            st.info(t("full", n=AT_ONCE))
        source(mask_race.learn, "loss = next_token_loss")
        source(mask_race.race, "masks = {arm: mask")
    with right:
        follow()


def guess() -> None:
    """Which of the two will have the lower loss? The race answers."""
    with st.container(key="predict_broken_mask"):
        st.caption(text("panel.predict"))
        st.markdown(t("question"))
        st.pills(
            t("question"), ("causal", "open", "same"), format_func=lambda arm: t(f"guess_{arm}"),
            key=f"{STATE}.guess", label_visibility="collapsed", persist_state="session",
        )  # fmt: skip


def follow() -> None:
    """What this session's race has measured so far, anew every second while it runs."""
    if st.session_state.get(STATE) is None:
        curves([])
        st.caption(t("not_yet"))
        return
    st.fragment(_follow, run_every=1.0 if is_running() else None)()


def _follow() -> None:
    mine = st.session_state[STATE]
    alive = is_running()
    records = read(Path(mine["file"]))
    done = bool(records) and records[-1]["last"]
    if alive and not done:
        step = records[-1]["step"] if records else 0
        words = t("progress", step=step, n=STEPS, seconds=f"{time.time() - mine['started']:.0f}")
        st.progress(min(1.0, step / STEPS), words if records else t("starting"))
    elif not done:
        st.warning(t("ended"))
    curves(records)
    if done:
        outcome(records)
    if not alive and mine["watched"]:
        st.session_state[STATE] = mine | {"watched": False}
        st.rerun()  # the page as a whole: its button is `start` again, and nothing asks any more


def curves(records: Sequence[Record]) -> None:
    """Both losses on text that neither learned from, each under its own mask; axes fixed from the first step."""
    kept = [record for record in records if record["validation"]]
    steps = [record["step"] for record in kept]
    last = {arm: kept[-1]["validation"][arm] if kept else math.nan for arm, _ in ARMS}
    chart(
        figures.overlaid_curves,
        {t(arm): (steps, [record["validation"][arm] for record in kept]) for arm, _ in ARMS},
        roles={t(arm): role for arm, role in ARMS}, x_range=(0, STEPS), y_range=(0, 6),
        x_title=t("steps"), y_title=t("nats"),
        alt=t("curves_alt", causal=f"{last['causal']:.2f}", open=f"{last['open']:.2f}"),
        title=t("curves"), file="broken_mask_loss",
    )  # fmt: skip


def outcome(records: Sequence[Record]) -> None:
    """What the race says: the two losses, the last position, the texts."""
    last = records[-1]
    loss = last["validation"]
    chosen = st.session_state.get(f"{STATE}.guess")
    verdict = "" if chosen is None else text("panel.right" if chosen == "open" else "panel.wrong") + " "
    by_place = last["by_position"]
    end, before = by_place["open"][-1], sum(by_place["open"][:-1]) / (len(by_place["open"]) - 1)
    st.markdown(verdict + t(
        "found", causal=f"{loss['causal']:.2f}", open=f"{loss['open']:.2f}", steps=last["step"],
        share=f"{100 * math.exp(-before):.0f}", causal_share=f"{100 * math.exp(-loss['causal']):.0f}",
    ))  # fmt: skip
    places = list(range(1, len(by_place["open"]) + 1))
    chart(
        figures.overlaid_curves, {t(arm): (places, by_place[arm]) for arm, _ in ARMS},
        roles={t(arm): role for arm, role in ARMS}, x_range=(1, len(places)), y_range=(0, 7),
        x_title=t("place"), y_title=t("nats"), alt=t("places_alt", before=f"{before:.2f}", end=f"{end:.2f}"),
        title=t("places"), file="broken_mask_places",
    )  # fmt: skip
    st.markdown(t("places_note", before=f"{before:.2f}", end=f"{end:.2f}", n=len(places)))
    texts(last)


def texts(last: Record) -> None:
    """What both write after the same prompts with the same seed."""
    prompts = mask_race.RaceConfig().prompts
    rows = [(p, *(last["samples"][arm][k] for arm, _ in ARMS)) for k, p in enumerate(prompts)]
    figure_head(t("same_seed"), figures.rows_csv([("prompt", "causal", "open"), *rows]), "broken_mask_texts")
    for prompt, *written in rows:
        for column, (arm, _), whole in zip(st.columns(2), ARMS, written, strict=True):
            with column:
                st.caption(t(arm))
                lines = [escape_markdown(line) for line in whole[len(prompt) :].split("\n")]
                colour = "violet" if arm == "causal" else "red"
                inked = "  \n".join(f":{colour}[{line}]" if line.strip() else "&nbsp;" for line in lines)
                st.markdown(escape_markdown(prompt.rstrip("\n")) + ("  \n" if prompt.endswith("\n") else "") + inked)
