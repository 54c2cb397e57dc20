"""Colour, spacing and type of the whole lab, in one file: page theme, components and figures take them from here.

One meaning has one colour everywhere (formula, heat map, token, arrow): query blue, key orange, value green, weights
and scores violet, masked grey, loss vermilion. The hues start from Okabe and Ito's colour-blind-safe set; each role
has a *fill* for shapes and a *text* shade that reaches WCAG 2 AA (4.5 : 1) on every surface of its theme. Plain
constants: this module imports nothing of ours and no third-party package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Role = Literal["q", "k", "v", "weights", "masked", "loss", "neutral"]
ROLES: Final[tuple[Role, ...]] = ("q", "k", "v", "weights", "masked", "loss", "neutral")

BODY_FONT: Final = "'Noto Sans', 'Noto Sans CJK SC', 'PingFang SC', 'Microsoft YaHei', system-ui, sans-serif"
CODE_FONT: Final = "'DejaVu Sans Mono', Menlo, Consolas, 'Noto Sans Mono CJK SC', monospace"
FORMULA_FONT: Final = "'Noto Serif', Georgia, 'Noto Serif CJK SC', 'Songti SC', SimSun, serif"

BODY_SIZE_PX: Final = 16
SMALL_SIZE_PX: Final = 13
CODE_SIZE_PX: Final = 14
HEADING_SIZES_REM: Final = ("1.8rem", "1.4rem", "1.15rem", "1rem", "0.95rem", "0.9rem")
SPACE_PX: Final = (0, 4, 8, 12, 20, 32, 48)  # the steps of the spacing scale
RADIUS_PX: Final = 7
PROSE_WIDTH: Final = "62ch"  # a line of prose that the eye can follow back
PAGE_WIDTH_PX: Final = 1240
PHONE_WIDTH_PX: Final = 640


@dataclass(frozen=True)
class RoleColour:
    """The shades of one role in one theme: `text` on a surface, `fill` of a bar or line, the ends of its colour map.

    `map_end` is the strongest shade of a cell that still carries a number in ink; `map_negative` stands at the other
    end of a diverging map. Both ends are told apart with any of the common colour-vision deficiencies (tested).
    """

    text: str
    fill: str
    map_end: str
    map_negative: str


@dataclass(frozen=True)
class Palette:
    """Surfaces, ink and roles of one theme. Every colour is `#rrggbb`."""

    background: str
    sidebar: str
    card: str
    ink: str
    muted: str
    line: str
    accent: str
    on_accent: str
    map_floor: str  # the shade of a cell whose value is the least (or zero, in a diverging map)
    roles: dict[Role, RoleColour]

    def surfaces(self) -> tuple[str, str, str]:
        """The three colours that text stands on."""
        return self.background, self.sidebar, self.card


LIGHT: Final = Palette(
    background="#fbfaf8",
    sidebar="#f3f1ec",
    card="#ffffff",
    ink="#1d2026",
    muted="#666b74",
    line="#e4e1db",
    accent="#7b4fa3",
    on_accent="#ffffff",
    map_floor="#f9f7fb",
    roles={
        "q": RoleColour("#006cab", "#0072b2", "#6fb2dc", "#c9b698"),
        "k": RoleColour("#946000", "#e69f00", "#f0b84a", "#a9b7d1"),
        "v": RoleColour("#00775a", "#009e73", "#5fc3a3", "#c39ac0"),
        "weights": RoleColour("#7b4fa3", "#7b4fa3", "#ab87d3", "#c9bb94"),
        "masked": RoleColour("#666b74", "#999999", "#bdbdbd", "#d8d2c8"),
        "loss": RoleColour("#b04b00", "#d55e00", "#ee9a5c", "#a9b7d1"),
        "neutral": RoleColour("#1d2026", "#666b74", "#a4a9b3", "#cdbd9f"),
    },
)

DARK: Final = Palette(
    background="#14161a",
    sidebar="#191c21",
    card="#181b20",
    ink="#e8e6e1",
    muted="#979ba4",
    line="#2b2f37",
    accent="#bb94e0",
    on_accent="#14161a",
    map_floor="#1c1b22",
    roles={
        "q": RoleColour("#5ab4f0", "#5ab4f0", "#1f6c9e", "#6b5a3c"),
        "k": RoleColour("#f0b54a", "#f0b54a", "#865f10", "#465a7a"),
        "v": RoleColour("#3fc79a", "#3fc79a", "#177355", "#6a4568"),
        "weights": RoleColour("#bb94e0", "#bb94e0", "#7a57a4", "#665c3a"),
        "masked": RoleColour("#979ba4", "#8a8a8a", "#5f6167", "#453f38"),
        "loss": RoleColour("#ff8a4c", "#ff8a4c", "#a2501c", "#465a7a"),
        "neutral": RoleColour("#e8e6e1", "#979ba4", "#62676f", "#5e4f33"),
    },
)


def palette(dark: bool) -> Palette:
    """The palette of the dark or the light theme."""
    return DARK if dark else LIGHT


def latex_colour(role: Role, dark: bool = False) -> str:
    """The text colour of a role, as KaTeX's `\\color{...}` and `\\textcolor{...}{...}` take it.

    Example:
        >>> r"\\textcolor{" + latex_colour("q") + "}{q}"
        '\\\\textcolor{#006cab}{q}'
    """
    return palette(dark).roles[role].text


def relative_luminance(colour: str) -> float:
    """WCAG 2 relative luminance of `#rrggbb`, 0 (black) to 1 (white).

    Example:
        >>> relative_luminance("#ffffff")
        1.0
    """
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return round(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2], 10)


def contrast_ratio(one: str, other: str) -> float:
    """WCAG 2 contrast ratio of two colours, 1 (none) to 21 (black on white).

    Example:
        >>> contrast_ratio("#000000", "#ffffff")
        21.0
    """
    darker, lighter = sorted((relative_luminance(one), relative_luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def css_variables(colours: Palette) -> str:
    """The palette as CSS declarations `--lab-ink: #...; --lab-q: ...; --lab-q-fill: ...`, for our components."""
    lines = [
        f"--lab-{name.replace('_', '-')}: {getattr(colours, name)};"
        for name in ("background", "card", "ink", "muted", "line", "accent", "on_accent", "map_floor")
    ]
    for role, shades in colours.roles.items():
        lines.append(f"--lab-{role}: {shades.text}; --lab-{role}-fill: {shades.fill};")
        lines.append(f"--lab-{role}-map: {shades.map_end}; --lab-{role}-negative: {shades.map_negative};")
    return "\n".join(lines)


def streamlit_options(dark: bool) -> dict[str, object]:
    """The options of `[theme.light]` or `[theme.dark]` in `.streamlit/config.toml` (a test holds the file to this)."""
    colours = palette(dark)
    role = colours.roles
    return {
        "primaryColor": colours.accent,
        "backgroundColor": colours.background,
        "secondaryBackgroundColor": colours.card,
        "textColor": colours.ink,
        "linkColor": colours.accent,
        "borderColor": colours.line,
        "codeBackgroundColor": colours.card,
        "codeTextColor": colours.ink,
        "blueColor": role["q"].fill,
        "blueTextColor": role["q"].text,
        "orangeColor": role["k"].fill,
        "orangeTextColor": role["k"].text,
        "greenColor": role["v"].fill,
        "greenTextColor": role["v"].text,
        "violetColor": role["weights"].fill,
        "violetTextColor": role["weights"].text,
        "grayColor": role["masked"].fill,
        "grayTextColor": role["masked"].text,
        "redColor": role["loss"].fill,
        "redTextColor": role["loss"].text,
        "chartCategoricalColors": [role[r].fill for r in ("q", "k", "v", "weights", "loss", "masked")],
    }


def streamlit_sidebar_options(dark: bool) -> dict[str, object]:
    """The options of `[theme.light.sidebar]` or `[theme.dark.sidebar]`."""
    colours = palette(dark)
    return {"backgroundColor": colours.sidebar, "secondaryBackgroundColor": colours.card, "borderColor": colours.line}


def streamlit_shared_options() -> dict[str, object]:
    """The options of `[theme]`: type, radius and spacing, the same in both themes."""
    return {
        "font": BODY_FONT,
        "headingFont": BODY_FONT,
        "codeFont": CODE_FONT,
        "baseFontSize": BODY_SIZE_PX,
        "codeFontSize": f"{CODE_SIZE_PX}px",
        "headingFontSizes": list(HEADING_SIZES_REM),
        "headingFontWeights": [700, 650, 600, 600, 600, 600],
        "baseRadius": f"{RADIUS_PX}px",
        "buttonRadius": f"{RADIUS_PX}px",
        "linkUnderline": False,
        "showSidebarBorder": True,
        "showWidgetBorder": True,
    }
