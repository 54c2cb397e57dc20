"""The little of the look that Streamlit's theme options cannot say: page width, top padding, short lines of prose.

The text is made of our constants only. Its selectors are Streamlit's `st-key-...` classes and test ids, and KaTeX's one
class. Streamlit sets `color-scheme` on the app, so `light-dark()` follows the theme without a run of the page.
"""

from __future__ import annotations

import streamlit as st

from lab.theme import DARK, LIGHT, PAGE_WIDTH_PX, PHONE_WIDTH_PX, PROSE_WIDTH


def _rgb(colour: str) -> str:
    """`#rrggbb` as a browser writes it back in a style attribute: `rgb(0, 108, 171)`."""
    return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))


def _formula_rules() -> str:
    """Formulas are coloured with the light theme's shades (`latex_colour(role)`); in the dark theme they follow it."""
    return "\n".join(
        f'.katex [style*="{_rgb(light.text)}"] {{ '
        f"color: light-dark({light.text}, {DARK.roles[role].text}) !important; }}"
        for role, light in LIGHT.roles.items()
        if role != "neutral"
    )


_CSS = f"""<style>
[data-testid="stMainBlockContainer"] {{ max-width: {PAGE_WIDTH_PX}px; padding: 2.6rem 2.75rem 3rem; }}
[data-testid="stHeader"] {{ background: transparent; height: 2.4rem; min-height: 2.4rem; }}
[data-testid="stMainBlockContainer"] h1 {{ letter-spacing: -0.2px; line-height: 1.2; text-wrap: balance;
  padding: 0.2rem 0 0.5rem; }}
[data-testid="stCode"] pre {{ border: 1px solid light-dark({LIGHT.line}, {DARK.line}); }}
[data-testid="stCaptionContainer"] {{ opacity: 1; }}
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] p {{
  color: light-dark({LIGHT.muted}, {DARK.muted}); }}
[data-testid="stBaseButton-primary"], [data-testid="stBaseButton-primary"] p {{
  color: light-dark({LIGHT.on_accent}, {DARK.on_accent}); }}
[class*="st-key-prose"] p, [class*="st-key-prose"] li {{ max-width: {PROSE_WIDTH}; }}
[class*="st-key-formula"] .katex {{ font-size: 1rem; }}
[class*="st-key-formula"] [data-testid="stMarkdown"], [class*="st-key-formula"] [data-testid="stMarkdown"] > div,
[class*="st-key-formula"] [data-testid="stMarkdownContainer"] {{ width: 100%; }}
[class*="st-key-formula"] .katex-display {{ margin: 0; padding: 0.3em 0 0.7em; overflow: auto hidden; }}
[class*="st-key-formula"] .katex-display, [class*="st-key-formula"] .katex-display > .katex {{ text-align: left; }}
[data-testid="stSlider"] [data-testid="stMarkdownContainer"] p {{ text-wrap: nowrap; }}
[class*="st-key-figure_head"] {{ gap: 0.6rem; min-height: 0; }}
[class*="st-key-figure_head"] p {{ font-size: 0.9rem; }}
.st-key-walk_buttons button {{ padding: 0.5rem 1.3rem; }}
.st-key-tools button {{ min-height: 0; padding: 0.15rem 0.6rem; }}
.st-key-tools p {{ font-size: 0.85rem; }}
[class*="st-key-figure_head"] button {{ min-height: 0; padding: 0.1rem 0.5rem; }}
[class*="st-key-predict"] {{ border-left: 3px solid light-dark({LIGHT.accent}, {DARK.accent}); padding-left: 1rem; }}
{_formula_rules()}
@media (max-width: {PHONE_WIDTH_PX}px) {{
  [data-testid="stMainBlockContainer"] {{ padding-left: 1rem; padding-right: 1rem; }}
  [data-testid="stMainBlockContainer"] h1 {{ font-size: 1.45rem; }}
  [class*="st-key-formula"] .katex {{ font-size: 0.86rem; }}
}}
</style>"""


def apply() -> None:
    """Adds the page style; call it once a run, from the front door. A container keyed `prose...` has short lines."""
    st.html(_CSS)


def is_dark() -> bool:
    """Whether the browser shows the dark theme, for figures drawn in Python (our components see it themselves)."""
    return st.context.theme.type == "dark"
