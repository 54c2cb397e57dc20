"""What is taught, to which model and how: the left side of the fine-tune page before a run has begun."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import streamlit as st

from lab import finetune_input, models, runs, settings
from lab import finetune_presets as presets
from lab.finetune_presets import OWN, Kind
from lab.language import current, strings, text
from lab.lessons import escape_markdown
from lab.runs.entry import LONGEST_PROBE, LONGEST_PROMPT, MOST_PROMPTS, RefusedError
from lab.store import QuotaError, Run
from lab.ui import finetune_knobs, model_choice, trouble
from lab.ui.model_choice import count_words
from lm_core.checkpoint_error import CheckpointError
from lm_core.finetune_config import FinetuneConfig

MOST_PASTED = 1_000_000  # characters; a longer text comes as a file
SHOWN_TEXT = 700  # characters of what is learned from
_NONCE, _UPLOAD = "finetune.nonce", "finetune.upload"
KINDS: tuple[Kind, ...] = ("text", "examples")


@dataclass(frozen=True)
class Form:
    """What the learner has chosen. id: a preset, `own_text` or `own_examples`."""

    id: str
    model: str
    kind: Kind
    files: Mapping[str, bytes]
    config: FinetuneConfig
    prompts: list[str]
    probe: str
    layer: int | None
    head: int | None


def t(key: str, **values: object) -> str:
    """A text of this page."""
    return text(f"finetune.{key}", language=None, **values)


def say(error: Exception) -> None:
    """What is wrong with words, settings or limits, in the reader's language; the engine's own words below it."""
    if isinstance(error, QuotaError | RefusedError):
        key, values = f"runs.{error.reason}", error.numbers
        if error.reason == "data" or key not in strings("en"):
            return say(ValueError(str(error)))
        st.warning(text(key, language=None, **values))
        return None
    if isinstance(error, CheckpointError | MemoryError | models.NoTokenizerError | settings.SettingsError):
        return trouble.show(error)
    reason, found = finetune_input.explain(error)
    st.warning(t(f"trouble.{reason}", **{name: escape_markdown(str(value)) for name, value in found.items()}))
    if not isinstance(error, finetune_input.InputError):
        st.code(trouble.detail(error), language=None, wrap_lines=True)
    return None


def setup(owner: str, model: str) -> Run | None:
    """Draw the form; returns the run that a press on Start has made."""
    left, right = st.columns([47, 62], gap="large")
    with left:
        form = _form(model)
        facts, fault = _checked(form)
        if form is not None and fault is None:
            _moves(form, facts)
        with st.container(horizontal=True, vertical_alignment="center"):
            pressed = st.button(t("start"), type="primary", key="ft_start", disabled=fault is not None or form is None)
            if form is not None and fault is None:
                st.caption(t("takes", minutes=settings.current().runs.minutes))
        if fault is not None:
            say(fault)
    with right:
        if form is not None:
            _words(form, facts)
    if not pressed or form is None or fault is not None:
        return None
    try:
        with left, st.spinner(t("starting")):
            return _submit(owner, form)
    except (ValueError, OSError, MemoryError) as error:
        with left:
            say(error)
    return None


def new_form() -> None:
    """The next press on Start makes another run, even with the same settings."""
    st.session_state.pop(_NONCE, None)


# --- the form ---------------------------------------------------------------------------------------------------------


def _form(model: str) -> Form | None:
    task = _task()
    if task == OWN:
        return _own(model)
    chosen = presets.preset(task)
    st.markdown(t(f"about.{task}"))
    config = finetune_knobs.draw(task, presets.usual_config(chosen.kind, chosen.model, task), is_encoder=False)
    prompts, probe = finetune_knobs.watched(task, presets.prompts(task), chosen.probe)
    if config is None:
        return None
    return Form(task, chosen.model, chosen.kind, presets.files(task), config, prompts, probe, chosen.layer, chosen.head)


def _task() -> str:
    """The presets, those in the reader's language first, and one's own words."""
    options, key = [*presets.ids(current()), OWN], "ft_task"
    if st.session_state.get("finetune.task") not in options:
        st.session_state["finetune.task"] = options[0]
    if st.session_state.get("finetune.task_language") != current() and "finetune.task_chosen" not in st.session_state:
        st.session_state["finetune.task"] = options[0]  # nobody has chosen: it follows the language
    st.session_state["finetune.task_language"] = current()
    st.session_state[key] = st.session_state["finetune.task"]

    def changed() -> None:
        st.session_state["finetune.task"] = st.session_state["finetune.task_chosen"] = st.session_state[key]

    return str(
        st.pills(
            t("task"),
            options,
            key=key,
            required=True,
            wrap=True,
            format_func=lambda id: t(f"preset.{id}"),
            on_change=changed,
        )
    )


def _own(model: str) -> Form | None:
    """One's own words, pasted or uploaded, and the model that learns them."""
    kind: Kind = st.segmented_control(
        t("kind"), KINDS, key="ft_kind", default=KINDS[0], required=True, persist_state="session",
        format_func=lambda kind: t(f"kind_{kind}"),
    )  # fmt: skip
    id = f"{OWN}_{kind}"
    pasted = st.text_area(
        t(f"paste_{kind}"), key=f"ft_paste_{kind}", height=180, max_chars=MOST_PASTED, persist_state="session",
        placeholder=t(f"example_{kind}"),
    )  # fmt: skip
    upload = _upload(kind)
    learner = _own_model(model, kind)
    try:
        encoder = models.is_encoder(learner)
        usual = presets.usual_config(kind, learner)
    except (ValueError, OSError, MemoryError) as error:
        say(error)
        return None
    files: dict[str, bytes] = {}
    try:
        files = finetune_input.own_files(kind, pasted or "", upload)
    except finetune_input.InputError as error:
        if error.reason != "nothing":
            say(error)
        else:
            st.caption(t("trouble.nothing"))
    config = finetune_knobs.draw(id, usual, is_encoder=encoder)
    prompts, probe = finetune_knobs.watched(id, *_own_watched(kind, files))
    if not files:
        return None
    return Form(id, learner, kind, files, config, prompts, probe, None, None)


def _upload(kind: Kind) -> tuple[str, bytes] | None:
    """The file of this session, which outlives a page switch as the widget does not."""
    key = f"{_UPLOAD}.{kind}"
    found = st.file_uploader(t("upload"), type=list(finetune_input.ENDINGS[kind]), key=f"ft_upload_{kind}")
    if found is not None:
        st.session_state[key] = (found.name, found.getvalue())
    kept: tuple[str, bytes] | None = st.session_state.get(key)
    if kept is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(t("uploaded", name=escape_markdown(kept[0]), kb=f"{len(kept[1]) / 1000:,.1f}"))
            if found is None:  # the widget's own cross takes it away otherwise
                st.button(t("drop"), key="ft_drop", type="tertiary", on_click=st.session_state.pop, args=(key, None))
    return kept


def _own_model(model: str, kind: Kind) -> str:
    options = list(dict.fromkeys([model, *models.causal(), *(models.bundled() if kind == "examples" else [])]))
    return str(
        st.selectbox(
            t("model"), options, key=f"ft_model_{kind}", persist_state="session", format_func=model_choice.label
        )
    )


def _own_watched(kind: Kind, files: Mapping[str, bytes]) -> tuple[list[str], str]:
    """What is watched where nobody says it: how the text begins, or its first examples."""
    if not files:
        return [], ""
    name, content = next(iter(files.items()))
    words = content.decode("utf-8", "ignore").strip()
    if kind == "text":
        begin = " ".join(words.split()[:4])[:24]
        return [begin], begin
    try:
        texts = [example.text for example in finetune_input.parse_examples(content, name)[:3]]
    except ValueError:
        return [], ""
    return [one[:LONGEST_PROMPT] for one in texts], texts[0][:100]


# --- what will happen -------------------------------------------------------------------------------------------------


def _checked(form: Form | None) -> tuple[finetune_input.Facts | None, Exception | None]:
    """What is learned from, or what is wrong; computed once for the same words and settings."""
    if form is None:
        return None, None
    mark = hashlib.sha256(repr((form.model, form.kind, form.config)).encode())
    for name, content in form.files.items():
        mark.update(name.encode() + content)
    known: tuple[str, Any, Any] = st.session_state.get("finetune.checked", ("", None, None))
    if known[0] != mark.hexdigest():
        try:
            known = (
                mark.hexdigest(),
                asdict(finetune_input.check(form.model, form.kind, form.files, form.config)),
                None,
            )
        except (ValueError, OSError, MemoryError) as error:
            return None, error
        st.session_state["finetune.checked"] = known
    return finetune_input.Facts(**known[1]), None


def _moves(form: Form, facts: finetune_input.Facts | None) -> None:
    """How many numbers learn."""
    learned, total = finetune_input.n_learned(form.model, form.config, len(facts.labels) if facts else 2)
    st.caption(
        t(
            "moves", learned=count_words(learned, current()), total=count_words(total, current()),
            steps=form.config.n_steps, rows=form.config.batch_size * form.config.accumulate,
        )
    )  # fmt: skip


def _words(form: Form, facts: finetune_input.Facts | None) -> None:
    """What is learned from: how much, and how it begins."""
    st.markdown(t("words_title", model=escape_markdown(model_choice.label(form.model))))
    if facts is not None:
        labels = ", ".join(map(escape_markdown, facts.labels[:12]))
        st.caption(
            t(
                f"facts_{form.kind}", train=f"{facts.n_train:,}", validation=f"{facts.n_validation:,}",
                labels=labels,
            )
        )  # fmt: skip
        if facts.n_cut:
            st.caption(t("facts_cut", n=facts.n_cut, window=form.config.n_tokens))
    words = next(iter(form.files.values())).decode("utf-8", "replace")
    st.code(words[:SHOWN_TEXT] + (" …" if len(words) > SHOWN_TEXT else ""), language=None, wrap_lines=True)
    st.caption(t("watched_title", prompts=" · ".join(map(escape_markdown, form.prompts))))


def _submit(owner: str, form: Form) -> Run:
    """Make the run. The same press twice, or the same form sent from two clicks, makes one."""
    nonce = st.session_state.setdefault(_NONCE, uuid.uuid4().hex)
    spec: dict[str, Any] = {
        "model": form.model,
        "config": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(form.config).items()},
        "data": {"kind": form.kind, "preset": None if form.id.startswith(OWN) else presets.preset(form.id).data},
        "prompts": form.prompts[:MOST_PROMPTS],
        "probe": form.probe[:LONGEST_PROBE],
        "max_seconds": 60 * settings.current().runs.minutes,
        "max_new": 40,
        "device": models.chosen_device(),
    }
    if form.layer is not None and form.head is not None:
        spec |= {"layer": form.layer, "head": form.head}
    mark = hashlib.sha256((nonce + json.dumps(spec, sort_keys=True)).encode())
    for name, content in sorted(form.files.items()):
        mark.update(name.encode() + content)
    return runs.submit(owner, mark.hexdigest(), _title(form), spec, form.files)


def _title(form: Form) -> str:
    """What the history calls it."""
    if not form.id.startswith(OWN):
        return t(f"preset.{form.id}")
    kept = st.session_state.get(f"{_UPLOAD}.{form.kind}")
    begin = kept[0] if kept else " ".join(next(iter(form.files.values())).decode("utf-8", "ignore").split())[:40]
    return f"{t(f'kind_{form.kind}')}: {begin}"
