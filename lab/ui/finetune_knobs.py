"""Every setting of a fine-tune with one line on what it does. What is changed is kept for each form by itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import streamlit as st

from lab import settings
from lab.language import text
from lab.runs.entry import LONGEST_PROBE, LONGEST_PROMPT, MOST_PROMPTS
from lm_core.adapters import LORA_TARGETS
from lm_core.finetune_config import FinetuneConfig, Learns, Pooling, Precision
from lm_core.optim import KINDS, SCHEDULES

_CHANGED = "finetune.changed"  # form -> field -> value
_WATCHED = "finetune.watched"  # form -> prompts or probe -> text


@dataclass(frozen=True)
class Knob:
    """One field: the options of a menu, or the bounds of a number; `only`: the choices of `learns` it matters for."""

    name: str
    options: tuple[str, ...] = ()
    low: float = 0
    high: float = 0
    step: float = 1
    only: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = ()
    switch: bool = False
    many: bool = False


GROUPS: dict[str, tuple[Knob, ...]] = {
    "learns": (
        Knob("lora_rank", low=1, high=256, only=("lora",)),
        Knob("lora_alpha", low=0.25, high=1024.0, step=1.0, only=("lora",)),
        Knob("lora_targets", options=LORA_TARGETS, only=("lora",), many=True),
        Knob("n_last_layers", low=0, high=64, only=("last_layers",)),
        Knob("n_virtual", low=1, high=64, only=("soft_prompt",)),
        Knob("pooling", options=get_args(Pooling)),
        Knob("from_scratch", only=("whole", "last_layers"), switch=True),
    ),
    "data": (
        Knob("n_tokens", low=8, high=1024),
        Knob("batch_size", low=1, high=256),
        Knob("accumulate", low=1, high=64),
        Knob("seed", low=0, high=9999),
    ),
    "optimizer": (
        Knob("optimizer", options=KINDS),
        Knob("muon_lr", low=1e-6, high=1.0, step=1e-3, optimizers=("muon",)),
        Knob("momentum", low=0.0, high=0.999, step=0.05, optimizers=("momentum", "muon")),
        Knob("beta1", low=0.0, high=0.9999, step=0.01, optimizers=("adam", "adamw", "muon")),
        Knob("beta2", low=0.0, high=0.9999, step=0.01, optimizers=("adam", "adamw", "muon")),
        Knob("weight_decay", low=0.0, high=10.0, step=0.01),
        Knob("clip_norm", low=0.01, high=1000.0, step=0.5),
    ),
    "schedule": (
        Knob("schedule", options=tuple(SCHEDULES)),
        Knob("warmup", low=0, high=10_000),
        Knob("final_lr_share", low=0.0, high=1.0, step=0.05),
    ),
    "measure": (
        Knob("validate_every", low=1, high=10_000),
        Knob("validation_batches", low=0, high=10_000),
        Knob("save_every", low=1, high=10_000),
        Knob("sample_every", low=0, high=10_000),
        Knob("precision", options=get_args(Precision)),
    ),
}
LEARNS: dict[str, tuple[str, ...]] = {
    "causal": ("whole", "last_layers", "lora", "soft_prompt"),
    "classification": get_args(Learns),
}


def t(key: str, **values: object) -> str:
    """A text of this page."""
    return text(f"finetune.{key}", language=None, **values)


def draw(form: str, usual: FinetuneConfig, *, is_encoder: bool) -> FinetuneConfig:
    """The three settings that matter most, and behind a switch all the others.

    What was changed in one form stays there, also while the switch hides it: a line says so.
    """
    changed: dict[str, Any] = st.session_state.setdefault(_CHANGED, {}).setdefault(form, {})
    config = _fitting(usual, changed, is_encoder)
    ways = [way for way in LEARNS[usual.task] if not (is_encoder and way == "soft_prompt")]
    _menu(form, "learns", ways, config, st.pills)
    config = _fitting(usual, changed, is_encoder)
    st.caption(t(f"way.{config.learns}"))
    with st.container(horizontal=True):
        _number(form, Knob("lr", low=1e-7, high=10.0, step=1e-4), config)
        _number(form, Knob("n_steps", low=1, high=settings.current().runs.steps), config)
    if st.toggle(t("every_knob"), key="ft_every_knob", persist_state="session"):
        for group, knobs in GROUPS.items():
            st.markdown(f"**{t(f'group.{group}')}**")
            for knob in knobs:
                if not (knob.name == "pooling" and usual.task == "causal"):
                    _knob(form, knob, config, is_encoder)
    config = _fitting(usual, changed, is_encoder)
    others = [name for name in changed if getattr(config, name) != getattr(usual, name)]
    if others:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(t("changed", names=", ".join(f"{name} = {_said(getattr(config, name))}" for name in others)))
            st.button(t("put_back"), key="ft_put_back", type="tertiary", on_click=changed.clear)
    return config


def _said(value: object) -> str:
    return "+".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)


def _fitting(usual: FinetuneConfig, changed: dict[str, Any], is_encoder: bool) -> FinetuneConfig:
    """The settings with the changes that go together; what does not fit here waits until it does."""
    entries = asdict(usual) | changed
    if entries["learns"] not in LEARNS[usual.task] or (is_encoder and entries["learns"] == "soft_prompt"):
        entries["learns"] = usual.learns
    if entries["learns"] in ("soft_prompt", "head") and entries["optimizer"] == "muon":
        entries["optimizer"] = usual.optimizer
    if entries["learns"] in ("lora", "soft_prompt", "head"):
        entries["from_scratch"] = False
    if entries["pooling"] == "first" and not is_encoder:
        entries["pooling"] = usual.pooling
    if entries["learns"] == "last_layers" and usual.task == "causal":
        entries["n_last_layers"] = max(1, entries["n_last_layers"])
    if not entries["lora_targets"]:
        entries["lora_targets"] = usual.lora_targets
    return replace(usual, **entries)


def _keep(form: str, name: str, key: str) -> None:
    value = st.session_state[key]
    if value is not None:
        st.session_state[_CHANGED][form][name] = tuple(value) if isinstance(value, list) else value


def _knob(form: str, knob: Knob, config: FinetuneConfig, is_encoder: bool) -> None:
    """One setting and its line."""
    off = bool(
        (knob.only and config.learns not in knob.only) or (knob.optimizers and config.optimizer not in knob.optimizers)
    )
    field, line = st.columns([2, 3], vertical_alignment="bottom")
    with field:
        key = f"ft_{form}_{knob.name}"
        if knob.switch:
            st.session_state[key] = getattr(config, knob.name)
            st.toggle(t(f"knob.{knob.name}"), key=key, disabled=off, on_change=_keep, args=(form, knob.name, key))
        elif knob.many:
            st.session_state[key] = list(getattr(config, knob.name))
            st.multiselect(
                t(f"knob.{knob.name}"), knob.options, key=key, disabled=off, on_change=_keep,
                args=(form, knob.name, key),
            )  # fmt: skip
        elif knob.options:
            options = [o for o in knob.options if _possible(knob.name, o, config, is_encoder)]
            _menu(form, knob.name, options, config, st.selectbox, disabled=off)
        else:
            _number(form, knob, config, disabled=off)
    line.caption(t(f"knob_line.{knob.name}"))


def _possible(name: str, option: str, config: FinetuneConfig, is_encoder: bool) -> bool:
    if name == "optimizer":
        return option != "muon" or config.learns not in ("soft_prompt", "head")
    return not (name == "pooling" and option == "first" and not is_encoder)


def _menu(form: str, name: str, options: list[str], config: FinetuneConfig, draw: Any, **more: Any) -> None:
    key = f"ft_{form}_{name}"
    st.session_state[key] = getattr(config, name)
    if name == "learns":
        more |= {"required": True, "wrap": True, "format_func": lambda way: t(f"learns.{way}")}
    draw(t(f"knob.{name}"), options, key=key, on_change=_keep, args=(form, name, key), **more)


def _number(form: str, knob: Knob, config: FinetuneConfig, disabled: bool = False) -> None:
    key, value = f"ft_{form}_{knob.name}", getattr(config, knob.name)
    whole = isinstance(value, int)
    kind = int if whole else float
    st.session_state[key] = min(max(kind(value), kind(knob.low)), kind(knob.high))
    st.number_input(
        t(f"knob.{knob.name}"), min_value=kind(knob.low), max_value=kind(knob.high), step=kind(knob.step),
        format=None if whole else "%g", key=key, disabled=disabled, on_change=_keep, args=(form, knob.name, key),
    )  # fmt: skip


def watched(form: str, prompts: list[str], probe: str) -> tuple[list[str], str]:
    """The prompts that are continued or judged at every look, and the sentence whose next token is watched."""
    kept: dict[str, str] = st.session_state.setdefault(_WATCHED, {}).setdefault(form, {})
    if st.session_state.get("ft_every_knob"):
        st.markdown(f"**{t('group.watch')}**")
        for name, value in (("prompts", "\n".join(prompts)), ("probe", probe)):
            key = f"ft_{form}_{name}"
            st.session_state[key] = kept.get(name, value)

            def keep(name: str = name, key: str = key) -> None:
                kept[name] = st.session_state[key]

            if name == "prompts":
                st.text_area(t("knob.prompts"), key=key, on_change=keep, max_chars=MOST_PROMPTS * LONGEST_PROMPT)
            else:
                st.text_input(t("knob.probe"), key=key, on_change=keep, max_chars=LONGEST_PROBE)
            st.caption(t(f"knob_line.{name}", most=MOST_PROMPTS))
    lines = [line.strip()[:LONGEST_PROMPT] for line in kept.get("prompts", "").split("\n") if line.strip()]
    return lines[:MOST_PROMPTS] or prompts, kept.get("probe", "").strip() or probe
