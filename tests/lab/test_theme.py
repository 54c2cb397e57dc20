"""The theme: readable in both themes, told apart with any colour vision, and the same in config.toml."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path

import numpy as np
import pytest

from lab import theme
from lab.ui import page_style

ROOT = Path(__file__).resolve().parents[2]
PALETTES = [pytest.param(theme.LIGHT, id="light"), pytest.param(theme.DARK, id="dark")]

# Machado, Oliveira and Fernandes 2009, severity 1: linear RGB -> what the eye without that cone sees.
DEFICIENCIES = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    "none": np.eye(3).tolist(),
}


def lab_seen(colour: str, deficiency: str) -> np.ndarray:
    """CIE L*a*b* (D65) of `colour` as seen with a colour-vision deficiency."""
    srgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(DEFICIENCIES[deficiency]) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    f = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 1e-6))
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("palette", PALETTES)
def test_text_reaches_aa_on_every_surface(palette: theme.Palette) -> None:
    texts = {"ink": palette.ink, "muted": palette.muted, "accent": palette.accent}
    texts |= {role: shades.text for role, shades in palette.roles.items()}
    low = {
        (name, surface): round(theme.contrast_ratio(text, surface), 2)
        for (name, text), surface in itertools.product(texts.items(), palette.surfaces())
        if theme.contrast_ratio(text, surface) < 4.5
    }
    assert low == {}
    assert theme.contrast_ratio(palette.on_accent, palette.accent) >= 4.5


@pytest.mark.parametrize("palette", PALETTES)
def test_a_number_in_a_cell_is_readable_on_every_shade(palette: theme.Palette) -> None:
    shades = [palette.map_floor]
    shades += [end for shade in palette.roles.values() for end in (shade.map_end, shade.map_negative)]
    assert [c for c in shades if theme.contrast_ratio(palette.ink, c) < 4.5] == []


@pytest.mark.parametrize("palette", PALETTES)
@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_the_ends_of_a_diverging_map_differ_for_every_eye(palette: theme.Palette, deficiency: str) -> None:
    near = {}
    for role, shades in palette.roles.items():
        if role in ("masked", "neutral"):
            continue
        apart = np.linalg.norm(lab_seen(shades.map_end, deficiency) - lab_seen(shades.map_negative, deficiency))
        if apart < 12:
            near[role] = round(float(apart), 1)
    assert near == {}


def test_contrast_ratio_knows_the_values_of_the_standard() -> None:
    assert theme.contrast_ratio("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)
    assert theme.contrast_ratio("#ffffff", "#777777") == theme.contrast_ratio("#777777", "#ffffff")


def test_config_toml_says_what_the_theme_says() -> None:
    look = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"]
    for name, dark in (("light", False), ("dark", True)):
        table = look.pop(name)
        assert table.pop("sidebar") == theme.streamlit_sidebar_options(dark)
        assert table == theme.streamlit_options(dark)
    assert look == theme.streamlit_shared_options()


def test_css_variables_carry_every_role() -> None:
    css = theme.css_variables(theme.DARK)
    for role in theme.ROLES:
        assert f"--lab-{role}: {theme.DARK.roles[role].text};" in css
        assert f"--lab-{role}-map: {theme.DARK.roles[role].map_end};" in css


def test_formulas_follow_the_dark_theme() -> None:
    """Each light shade that `latex_colour` gives is mapped to its dark one, in the form the browser writes it."""
    light, dark = theme.latex_colour("q"), theme.latex_colour("q", dark=True)
    assert (light, page_style._rgb(light)) == ("#006cab", "rgb(0, 108, 171)")
    assert f'.katex [style*="rgb(0, 108, 171)"] {{ color: light-dark({light}, {dark})' in page_style._CSS


def test_components_fetch_nothing_and_write_no_markup() -> None:
    files = [ROOT / ".streamlit" / "config.toml", *(ROOT / "assets" / "components").iterdir()]
    assert len(files) > 10
    forbidden = ("http:", "https:", "@import", "url(", "innerHTML", "insertAdjacentHTML", "fetch(", "eval(")
    found = {}
    for file in files:
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")  # a name, never fetched
        found[file.name] = [word for word in forbidden if word in text]
    assert {name: words for name, words in found.items() if words} == {}
