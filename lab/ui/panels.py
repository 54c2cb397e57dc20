"""The panels around a figure: prose, formula, code, question, CSV."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitAPIException

from lab import lessons
from lab.course import Lesson, lesson, part_of
from lab.language import address, current, text
from lab.lessons import Markdown, escape_markdown
from lab.source import source_of
from lab.theme import Role, latex_colour
from lab.ui import code_switch, components, view

COLOURS = {"q": "blue", "k": "orange", "v": "green", "weights": "violet", "loss": "red"}


def word(label: str, role: str | None = None) -> Markdown:
    """A token in a sentence: bold, inert, in the colour of its role."""
    bold = f"**{escape_markdown(label)}**"
    return Markdown(f":{COLOURS[role]}[{bold}]" if role else bold)


def prose(slug: str, id: str, **values: object) -> None:
    """One section of a lesson, its placeholders filled."""
    with st.container(key=f"prose_{slug}_{id}"):
        st.markdown(lessons.section(slug, id, current()).fill(**values))


def lesson_link(slug: str, label: str, **query: str) -> None:
    """A way to another page of the course, its address given `query`; words alone where there is no such way.

    Streamlit knows the other pages only if `app.py` ran: not where a test opens one page by itself.
    """
    try:
        st.page_link(lesson(slug).file, label=escape_markdown(label), query_params={**query, **address()})
    except StreamlitAPIException:
        st.caption(escape_markdown(label))


def tex_name(label: str, position: int) -> str:
    r"""A token as a subscript of a formula: its letters where KaTeX can print them, else its place, from 1.

    >>> tex_name("␣bird", 8), tex_name("猫", 2), tex_name("$x", 0)
    ('\\text{bird}', '3', '1')
    """
    letters = label.removeprefix("␣")
    return rf"\text{{{letters}}}" if re.fullmatch(r"[A-Za-z]{1,12}", letters) else str(position + 1)


def tex(role: Role, symbol: str) -> str:
    """A symbol in the colour of its role."""
    return rf"\textcolor{{{latex_colour(role)}}}{{{symbol}}}"


def tex_sum(pairs: Sequence[tuple[float, float]], decimals: int = 2, shown: int = 2) -> str:
    r"""A sum of products, its first and last terms written out: `a·b + c·d + … + y·z`.

    >>> tex_sum([(1, 2), (3, -4)], decimals=0)
    '1 \\cdot 2 + 3 \\cdot (-4)'
    """

    def term(a: float, b: float) -> str:
        left, right = f"{a:.{decimals}f}", f"{b:.{decimals}f}"
        return rf"{left if a >= 0 else f'({left})'} \cdot {right if b >= 0 else f'({right})'}"

    terms = [term(a, b) for a, b in pairs]
    if len(terms) > shown + 1:
        terms = [*terms[:shown], r"\dots", terms[-1]]
    return " + ".join(terms)


def formula(lines: Sequence[str], label: str | None = None) -> None:
    """A formula, and below it the same formula with the numbers of the chosen cell, line by line."""
    st.caption(label or text("panel.formula"))
    rows = [lines[0], *(rf"\quad {line}" for line in lines[1:])]
    with st.container(key=f"formula_{zlib.crc32(lines[0].encode())}"):
        st.latex(r"\begin{array}{l} " + r" \\[1.0em] ".join(rows) + r" \end{array}")


def source(function: Callable[..., Any], line: str) -> None:
    """The code of `function` as it ran, the decisive line marked, with its place in the repository.

    Where a learner's function has computed the figure instead, it is that one's.
    """
    if (own := code_switch.own_source(function)) is not None:
        _own_source(*own, key=f"place_{function.__qualname__}")
        return
    found = source_of(function)
    place = f"{found.file} : {found.find(line)}"
    with st.container(horizontal=True, horizontal_alignment="distribute", key=f"place_{function.__qualname__}"):
        st.caption(text("panel.source"), width="content")
        st.caption(place, width="content")
    components.source(
        found,
        line,
        key=f"source_{function.__qualname__}",
        label=place,
        more=text("panel.more"),
        less=text("panel.less"),
    )


def _own_source(file: str, line: int, code: str, key: str) -> None:
    """The learner's function that computed a figure."""
    with st.container(horizontal=True, horizontal_alignment="distribute", key=key):
        st.caption(text("own.source"), width="content")
        st.caption(f"{file} : {line}", width="content")
    st.code(code, language="python", wrap_lines=True)


def figure_head(title: str, csv: str | Callable[[], str], file: str, control: Callable[[], None] | None = None) -> None:
    """The line above a figure: what it shows, a control of its drawing, and its numbers to take away.

    A `csv` that is long to write comes as a function, called when somebody wants it.
    """
    with st.container(
        horizontal=True, horizontal_alignment="left", vertical_alignment="center", key=f"figure_head_{file}"
    ):
        st.markdown(title, width="stretch")
        if control is not None:
            control()
        st.download_button(
            text("panel.csv"), csv, file_name=f"{file}.csv", mime="text/csv", type="tertiary", key=f"csv_{file}"
        )


def told_apart(options: Sequence[str]) -> list[str]:
    """The same text twice among `options` is numbered: Streamlit takes options that read the same for one.

    >>> told_apart(["the", "cat", "the"])
    ['the (1)', 'cat', 'the (2)']
    """
    return [
        f"{option} ({options[: n + 1].count(option)})" if options.count(option) > 1 else option
        for n, option in enumerate(options)
    ]


def predict(
    key: str,
    question: str,
    options: Sequence[str],
    right: int,
    reveal: str,
    *,
    about: object = None,
    covers: bool = False,
) -> bool:
    """A question to answer before the model does. The answer is the model's; a wrong guess is no failure.

    `options` are shown inert; `about` is what the question depends on: when it changes, the guess is forgotten.
    `covers`: a figure waits for the answer, so there is a button too that shows it without one.
    Returns whether what gives the answer away may be drawn: answered, or asked for without.
    """
    state, opened = f"guess.{key}.{about!r}", f"uncovered.{key}"
    names = [escape_markdown(option) for option in told_apart(options)]
    with st.container(key=f"predict_{key}", border=False):
        st.caption(text("panel.predict"))
        st.markdown(question)
        guess = st.pills(
            text("panel.predict"),
            range(len(options)),
            format_func=names.__getitem__,
            key=state,
            label_visibility="collapsed",
        )
        if guess is not None:
            st.markdown(text("panel.right" if guess == right else "panel.wrong") + " " + reveal)
        elif covers:
            is_open = bool(st.session_state.get(opened))
            st.button(
                text("panel.cover" if is_open else "panel.uncover"), key=f"uncover_{key}", type="tertiary",
                on_click=lambda: st.session_state.update({opened: not is_open}),
            )  # fmt: skip
    return guess is not None or (covers and bool(st.session_state.get(opened)))


def shown_if(answered: bool, draw: Callable[[], object]) -> None:
    """A figure that would give an answer away: drawn once `predict` says so, until then a line in its place."""
    if answered:
        draw()
    else:
        st.caption(text("panel.covered"))


def predict_section(
    slug: str, step: str, options: Sequence[str], right: int, *, about: object = None, **values: object
) -> bool:
    """`predict` with the sections `<step>_predict` and `<step>_reveal` of a lesson."""
    question, reveal = _asked(slug, step, values)
    return predict(step, question, options, right, reveal, about=about)


def predict_first(
    slug: str, step: str, options: Sequence[str], right: int, *, about: object = None, **values: object
) -> bool:
    """`predict_section` for a question whose figure waits for the answer: give what it returns to `shown_if`."""
    question, reveal = _asked(slug, step, values)
    return predict(step, question, options, right, reveal, about=about, covers=True)


def _asked(slug: str, step: str, values: dict[str, object]) -> tuple[str, str]:
    """Question and reveal of a step, each with the values that it names."""
    asked, revealed = (lessons.section(slug, f"{step}_{part}", current()) for part in ("predict", "reveal"))
    fill = {name: value for name, value in values.items() if name in asked.placeholders}
    answer = {name: value for name, value in values.items() if name in revealed.placeholders}
    return asked.fill(**fill), revealed.fill(**answer)


def page_tools(lesson: Lesson, *, has_toy: bool = True) -> tuple[str, bool]:
    """The quiet line on top of a lesson: where we are, model or toy numbers where it has both, steps or whole page."""
    mode = "model"
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center", key="tools"):
        st.caption(f"{part_of(lesson).title()} / {lesson.title()}", width="content")
        with st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="center", width="content"):
            if has_toy:
                mode = _mode_menu()
            code_switch.switch(lesson.slug if mode == "model" else None)
            whole = st.toggle(text("walk.whole_page"), key="whole_page", persist_state="session")
    if has_toy:
        view.put("mode", mode if mode != "model" else None)
    return mode, bool(whole)


def _mode_menu() -> str:
    """`from the model | toy numbers`."""
    modes = ("model", "toy")
    st.session_state["mode_menu"] = view.get("mode") if view.get("mode") in modes else "model"
    return str(
        st.segmented_control(
            text("controls.mode"), modes, key="mode_menu", required=True, label_visibility="collapsed",
            format_func=lambda m: text(f"controls.mode_{m}"),
            on_change=lambda: view.put("mode", st.session_state["mode_menu"]),
        )
    )  # fmt: skip
