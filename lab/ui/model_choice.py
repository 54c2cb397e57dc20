"""Which model reads, and on which device: two menus in the sidebar, and below them the size of what is loaded."""

from __future__ import annotations

import streamlit as st

from lab import models, run_models, settings
from lab.language import current, text
from lab.ui import model_fetch, trouble, view

FOLDER = "folder"
NO_FOLDER = "folder:"  # the entry for a folder is chosen, and no path typed yet
LONGEST_PATH = 500
MENU = "model_menu"
LABELS = {  # where a model has more than its folder's name
    "bundled:shiren": "shiren 诗人",
    "kept:smollm2-135m-instruct": "SmolLM2 Instruct",
}
_FOLLOWED = "model.followed"  # what stands in the menu because nobody has chosen: it follows the language
# How large numbers are spoken in each language: (from, unit), the largest first.
UNITS = {"en": ((1e9, " B"), (1e6, " M")), "zh": ((1e8, " 亿"), (1e4, " 万"))}


def choose() -> str:
    """Draw the menus and load the model; returns its name, such as `bundled:storyteller`.

    Only what the teacher's settings offer can be chosen. A name from a link counts where the menu holds it; a folder
    never comes from a link. While the path of a folder is empty the name is `NO_FOLDER`. A model of the hub is fetched
    first; where that fails the page ends with a message. What is wrong with other models, `open_reading` says.
    """
    try:
        labels = _labels()
        devices = models.offered_devices()
    except settings.SettingsError as error:
        trouble.show(error)
        st.stop()
    asked, usual = view.get("model"), next(iter(labels))
    if (now := st.session_state.get(MENU)) not in labels and asked in labels and asked != FOLDER:
        _choose(asked)
    elif now not in labels or now == st.session_state.get(_FOLLOWED):
        st.session_state[MENU] = st.session_state[_FOLLOWED] = usual
    if asked and run_models.is_name(asked) and asked not in labels:
        _say_why_not(asked)
    slot = st.empty()  # on the page and not in the sidebar, which a phone hides
    with st.sidebar.container(key="model"):
        chosen = st.selectbox(
            text("controls.model"), list(labels), key=MENU, persist_state="session", format_func=labels.__getitem__,
            on_change=_remember,
        )  # fmt: skip
        name = _folder() if chosen == FOLDER else str(chosen)
        size = st.empty()
        _choose_device(devices)
    view.put("model", name if chosen not in (FOLDER, usual) else None)
    if name == NO_FOLDER:
        return name
    if name.startswith("hub:"):
        model_fetch.fetch(name, labels[name], slot, lambda: _choose(usual), labels[usual])
    try:
        with slot, st.spinner(text("model.loading")):
            about = models.about(name)
    except (ValueError, OSError, MemoryError) as error:
        if name.startswith("hub:"):
            model_fetch.give_up(error, name, slot, lambda: _choose(usual), labels[usual])
    else:
        count = count_words(about.n_parameters, current())
        size.caption(text("model.about", count=count, device=about.device))
    return name


def _say_why_not(name: str) -> None:
    """A run that a link names and the menu cannot hold: what it is, or that it is not there."""
    try:
        run_models.folder(name)
    except ValueError as error:
        trouble.show(error)


def _labels() -> dict[str, str]:
    """What the menu holds, the language's usual model first: name -> label, in the language of the session."""
    usual = models.usual(current())
    names = sorted(models.causal() or [usual], key=lambda name: name != usual)
    labels = {name: LABELS.get(name, name.removeprefix("bundled:")) for name in names}
    labels |= models.on_hub()
    labels |= {name: text("model.kept", name=_kept_label(name)) for name in models.kept()}
    labels |= {name: text("model.run", name=title) for name, title in run_models.mine().items()}
    return labels | ({FOLDER: text("controls.folder")} if models.folders_allowed() else {})


def _kept_label(name: str) -> str:
    return LABELS.get(name, name.removeprefix("kept:"))


def label(name: str) -> str:
    """What a menu calls a model: `storyteller` for `bundled:storyteller`, the title of a run for `run:ID`."""
    if name.startswith(run_models.FRONT):
        return run_models.mine().get(name, name[: len(run_models.FRONT) + 8])
    return LABELS.get(name, name.removeprefix("bundled:"))


def use(name: str) -> None:
    """Read with this model in every lesson from now on; for a button's callback."""
    _choose(name)
    view.put("model", name)


def _folder() -> str:
    """The field for the path; returns `folder:PATH`."""
    path = st.text_input(
        text("controls.folder_path"), key="model_folder", max_chars=LONGEST_PATH, persist_state="session"
    )
    return f"folder:{_bare(path or '')}"


def _bare(path: str) -> str:
    """A path as typed or pasted, without the quotes that file managers put around it."""
    path = path.strip()
    return path[1:-1].strip() if len(path) > 1 and path[0] == path[-1] and path[0] in "\"'" else path


def _choose_device(offered: list[str]) -> None:
    """A menu where there is a choice; what it holds is `models.chosen_device()` from then on."""
    if len(offered) > 1:
        key = "device_menu"
        st.session_state[key] = models.chosen_device()

        def changed() -> None:
            st.session_state[models.DEVICE_STATE] = st.session_state[key]

        st.selectbox(text("controls.device"), offered, key=key, on_change=changed)


def _remember() -> None:
    st.session_state.pop(_FOLLOWED, None)


def _choose(name: str) -> None:
    """Put another model into the menu; for a button, which is pressed before the menu is drawn."""
    st.session_state[MENU] = name
    _remember()


def count_words(n: int, language: str) -> str:
    """A large number as it is spoken.

    >>> count_words(5_870_000, "en"), count_words(134_515_008, "en"), count_words(5_870_000, "zh")
    ('5.9 M', '135 M', '587 万')
    """
    for start, unit in UNITS[language]:
        if n >= start:
            return f"{n / start:.{1 if n < 100 * start else 0}f}{unit}"
    return f"{n:,}"
