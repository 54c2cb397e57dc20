"""Home: one sentence to try at once, and the map of the course."""

import streamlit as st

from lab import course, lessons
from lab.language import address, current, text

PAGE_WIDTH = 860  # pixels
LONGEST_TEXT = 300  # characters that travel in the address of a lesson
FIRST_LESSON = course.lesson("self_attention")


def show_welcome() -> None:
    """What this place is, and the sentence to begin with."""
    welcome = lessons.section("home", "welcome", current())
    st.title(welcome.title, anchor=False)
    with st.container(key="prose_welcome"):
        st.markdown(welcome.body)
    with st.form("try", border=False):
        sentence = st.text_input(
            text("home.sentence"),
            value=text("home.example"),
            key="home_sentence",
            persist_state="session",
        )
        st.caption(text("home.sentence_hint", longest=LONGEST_TEXT))
        go = st.form_submit_button(text("home.go"), type="primary", disabled=not FIRST_LESSON.is_open)
    if go and not sentence.strip():
        st.info(text("home.sentence_missing"))
    elif go and len(sentence) > LONGEST_TEXT:  # said, not cut: `max_chars` drops a longer paste without a word
        st.info(text("home.sentence_long", length=len(sentence), longest=LONGEST_TEXT))
    elif go:
        st.switch_page(FIRST_LESSON.file, query_params={"text": sentence, **address()})


def show_map() -> None:
    """The parts of the course with their lessons; a planned one stands in muted text, without a link."""
    course_map = lessons.section("home", "map", current())
    st.header(course_map.title, anchor=False)
    st.markdown(course_map.body)
    for part in course.PARTS:
        entries = [entry for entry in part.lessons if entry is not course.HOME]
        if entries:
            with st.container(key=f"part_{part.slug}", gap="xxsmall"):
                st.caption(part.title())
                for entry in entries:
                    show_entry(entry)


def show_entry(entry: course.Lesson) -> None:
    """One line of the map: the title, the question it answers, and the minutes or that it is still to come."""
    title, question, time = st.columns([4, 9, 1], gap="small", vertical_alignment="top")
    if entry.is_open:
        title.page_link(entry.file, label=f"**{entry.title()}**", query_params=address())
        question.markdown(entry.question())
        time.caption(text("home.minutes", minutes=entry.minutes) if entry.minutes else "")
    else:
        title.markdown(f":gray[{entry.title()}]")
        question.markdown(f":gray[{entry.question()}]")
        time.caption(text("home.planned"))


with st.container(width=PAGE_WIDTH):
    show_welcome()
    st.space("small")
    show_map()
