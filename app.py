"""The front door: page settings, language, navigation. A page does the rest.

Start it with `streamlit run app.py`; the server's options stand in `.streamlit/config.toml`.
"""

from pathlib import Path

import streamlit as st

from lab import course, garbage, language
from lab.runs import supervisor
from lab.ui import first_visit, page_style

SHELL_CSS = Path(__file__).parent / "assets" / "css" / "shell.css"

first_run_of_all = garbage.start()
supervisor.ensure()
language.choose()
page = course.navigation()
if first_run_of_all and first_visit.came_by_deep_link():
    first_visit.load_again()
st.set_page_config(page_title=f"{page.title} · LM Lab", layout="wide")
page_style.apply()
st.html(SHELL_CSS)
page.run()
