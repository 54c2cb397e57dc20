"""What the reader sets in the lesson on sampling: the text, five sliders, a seed, the token that is followed."""

from __future__ import annotations

import re
from dataclasses import dataclass

import streamlit as st

from lab.language import text
from lab.lessons import Markdown
from lab.ui import components, panels, trouble, view
from lab.ui import sampling_numbers as numbers
from lab.ui.reading import readable_sentence
from lab.ui.sampling_numbers import Prompt, Stages
from lm_core.sampling import SamplingConfig

MOST_SEED = 9999


def t(key: str, **values: object) -> str:
    """A text of this lesson."""
    return text(f"sampling.{key}", language=None, **values)


@dataclass(frozen=True)
class Slider:
    """The range of one setting, where it begins, and the value that switches the step off (None: it has none)."""

    low: float
    high: float
    step: float
    start: float
    off: float | None
    whole: bool = False


SLIDERS = {
    "repetition": Slider(1.0, 2.0, 0.05, 1.2, 1.0),
    "temperature": Slider(0.0, 2.0, 0.05, 0.8, 1.0),
    "top_k": Slider(0, 100, 1, 40, 0, whole=True),
    "top_p": Slider(0.05, 1.0, 0.01, 0.9, 1.0),
    "min_p": Slider(0.0, 0.5, 0.01, 0.05, 0.0),
}


def open_prompt(model: str) -> Prompt:
    """The text field and the model's reading of it; a clear message and a stop where it cannot be read."""
    sentence = readable_sentence(model)
    try:
        prompt = numbers.read(model, sentence)
        numbers.next_logits(model, prompt.token_ids)
    except (ValueError, OSError, MemoryError) as error:
        trouble.show(error)
        st.stop()
    if prompt.n_cut:
        full = "cut_context" if prompt.room == 0 else "cut"
        st.caption(text(f"trouble.{full}", kept=len(prompt.token_ids), cut=prompt.n_cut))
    elif len(sentence) > view.LONGEST_TEXT:
        st.caption(text("trouble.long_link", longest=view.LONGEST_TEXT))
    return prompt


def prompt_bar(prompt: Prompt) -> None:
    """The tokens of the text; what comes after the last one is what this lesson is about."""
    labels = numbers.labels(prompt.model, prompt.token_ids)
    components.token_strip(labels, ids=prompt.token_ids, selected_query=len(labels) - 1, key="sampling_tokens")


# --- settings ---------------------------------------------------------------------------------------------------------


def value_of(name: str) -> float:
    """One setting: from the address where that is a number in range, else where it begins."""
    slider, asked = SLIDERS[name], str(view.get(f"sampling_{name}", ""))
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", asked):
        return slider.start
    value = min(max(float(asked), slider.low), slider.high)
    return round(slider.low + round((value - slider.low) / slider.step) * slider.step, 3)


def config() -> SamplingConfig:
    """All five settings."""
    return SamplingConfig(
        temperature=value_of("temperature"), top_k=int(value_of("top_k")), top_p=value_of("top_p"),
        repetition_penalty=value_of("repetition"), min_p=value_of("min_p"),
    )  # fmt: skip


def slider(name: str, place: str = "") -> float:
    """One setting as a slider, the same wherever it stands."""
    s, key = SLIDERS[name], f"sampling_{name}_{place}"
    cast = int if s.whole else float
    st.session_state[key] = cast(value_of(name))

    def moved() -> None:
        view.put(f"sampling_{name}", f"{st.session_state[key]:g}")

    label = t(f"slider_{name}")
    value = st.slider(
        label, cast(s.low), cast(s.high), step=cast(s.step), key=key, on_change=moved,
        format="%d" if s.whole else "%.2f",
    )  # fmt: skip
    return float(value)


def sliders(place: str) -> None:
    """All five, in the order of the computation, and two buttons that set them all."""
    for column, name in zip(st.columns(5, gap="small"), SLIDERS, strict=True):
        with column:
            slider(name, place)
    with st.container(horizontal=True):
        st.button(t("set_off"), key=f"off_{place}", type="tertiary", on_click=_set_all, args=("off",))
        st.button(t("set_start"), key=f"start_{place}", type="tertiary", on_click=_set_all, args=("start",))


def _set_all(which: str) -> None:
    for name, s in SLIDERS.items():
        value = s.off if which == "off" else s.start
        view.put(f"sampling_{name}", f"{value:g}" if which == "off" else None)


def said_config(shown: SamplingConfig) -> str:
    """The settings in one line."""
    return t(
        "settings", repetition=f"{shown.repetition_penalty:g}", temperature=f"{shown.temperature:g}",
        top_k=shown.top_k or "–", top_p=f"{shown.top_p:g}", min_p=f"{shown.min_p:g}",
    )  # fmt: skip


def whole_number(name: str, low: int, high: int, start: int) -> int:
    """A whole number of the view, kept in its range."""
    asked = str(view.get(f"sampling_{name}", ""))
    return min(max(int(asked), low), high) if re.fullmatch(r"[0-9]{1,6}", asked) else start


def whole_slider(name: str, low: int, high: int, start: int) -> int:
    """A whole number as a slider; a fixed number where there is nothing to choose."""
    value, key = whole_number(name, low, high, start), f"sampling_{name}_slider"
    if low >= high:
        return low
    st.session_state[key] = value
    return int(
        st.slider(
            t(f"slider_{name}"), low, high, key=key,
            on_change=lambda: view.put(f"sampling_{name}", str(st.session_state[key])),
        )
    )  # fmt: skip


def seed_box(place: str) -> int:
    """The seed: a number that can be typed, and a button for the next one."""
    key = f"sampling_seed_{place}"
    seed = st.session_state[key] = whole_number("seed", 0, MOST_SEED, 0)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.number_input(
            t("seed"), 0, MOST_SEED, key=key, width=130,
            on_change=lambda: view.put("sampling_seed", str(st.session_state[key] or 0)),
        )  # fmt: skip
        st.button(
            t("next_seed"), key=f"next_seed_{place}",
            on_click=lambda: view.put("sampling_seed", str((seed + 1) % (MOST_SEED + 1))),
        )  # fmt: skip
    return seed


# --- the token that is followed ---------------------------------------------------------------------------------------


def followed(found: Stages, usual: int | None = None) -> int:
    """The id of the token whose numbers are written out: the one chosen, else `usual`, else the model's favourite."""
    size = found.logits.shape[1]
    asked = whole_number("token", 0, 10**6, -1)
    if 0 <= asked < size:
        return asked
    return int(found.of("model").argmax()) if usual is None else usual


def follow(token_id: int) -> None:
    """Write out the numbers of this token from now on."""
    view.put("sampling_token", str(token_id))


def named(prompt: Prompt, token_id: int, role: str | None = "loss") -> Markdown:
    """A token after the text, for a sentence: in quotation marks, so that a full stop is seen too."""
    return Markdown(f"“{panels.word(numbers.label_after(prompt.model, prompt.token_ids, token_id), role)}”")
