"""The figures of a run that learns: loss curves, the tokens that may come next, and sentences that change sides."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from lab.figures.frame import Range, checked_range, framed, literal
from lab.theme import Palette, palette

Points = Sequence[tuple[int, float]]
_DASHES = ("solid", "dash")
SAME = "same"  # Plotly keeps what the reader has zoomed or hovered while this does not change


def curves(
    training: Points,
    validation: Points,
    *,
    n_steps: int,
    y_range: Range,
    names: tuple[str, str],
    alt: str,
    best: int | None = None,
    log: bool = False,
    dark: bool = False,
) -> go.Figure:
    """Training loss (thin, violet) and validation loss (thick, vermilion) over the steps; `best` is ringed.

    training, validation: (step, loss in nats), losses that are no finite number are left out. The axes are the
    caller's, so that nothing moves while points arrive.

    Raises:
        ValueError: no range is one, or begins at 0 or below on a logarithmic axis.
    """
    colours = palette(dark)
    figure = go.Figure()
    for points, name, role, width in (
        (training, names[0], "weights", 1.4),
        (validation, names[1], "loss", 2.6),
    ):
        shade = colours.roles[role].fill  # type: ignore[index]  # the two are roles
        _curve(figure, points, name, shade, width, mode="lines+markers" if points is validation else "lines")
    at_best = [(step, value) for step, value in validation if step == best]
    if at_best:
        figure.add_scatter(
            x=[at_best[-1][0]], y=[at_best[-1][1]], mode="markers", hoverinfo="skip", customdata=[],
            marker={"size": 13, "color": "rgba(0,0,0,0)", "line": {"color": colours.ink, "width": 1.5}},
        )  # fmt: skip
    return _loss_axes(figure, n_steps, y_range, alt, log, dark)


def compared(
    runs: Mapping[str, tuple[Points, Points]],
    *,
    n_steps: int,
    y_range: Range,
    names: tuple[str, str],
    alt: str,
    log: bool = False,
    dark: bool = False,
) -> go.Figure:
    """Curves of several runs: (training, validation) of each; the first run's lines are whole, the second's dashed.

    Raises:
        ValueError: no runs, or no range is one.
    """
    if not runs:
        raise ValueError("runs is empty")
    colours = palette(dark)
    figure = go.Figure()
    for k, (run, (training, validation)) in enumerate(runs.items()):
        dash = _DASHES[k % len(_DASHES)]
        _curve(figure, training, f"{run}, {names[0]}", colours.roles["weights"].fill, 1.4, dash)
        _curve(figure, validation, f"{run}, {names[1]}", colours.roles["loss"].fill, 2.6, dash)
    return _loss_axes(figure, n_steps, y_range, alt, log, dark)


def _curve(
    figure: go.Figure, points: Points, name: str, colour: str, width: float, dash: str = "solid", mode: str = "lines"
) -> None:
    shown = [(step, value) for step, value in points if value is not None and math.isfinite(value)]
    figure.add_scatter(
        x=[step for step, _ in shown],
        y=[value for _, value in shown],
        mode=mode,
        marker={"size": 5},
        line={"color": colour, "width": width, "dash": dash},
        customdata=[[name, step, value] for step, value in shown],
        hovertext=[f"{literal(name)} {value:.4f}" for _, value in shown],
        hoverinfo="text",
        cliponaxis=False,
    )


def _loss_axes(figure: go.Figure, n_steps: int, y_range: Range, alt: str, log: bool, dark: bool) -> go.Figure:
    span = checked_range("y_range", y_range)
    assert span is not None
    if log and span[0] <= 0:
        raise ValueError(f"a logarithmic axis cannot begin at {span[0]}")
    framed(figure, alt=alt, dark=dark, height=280, columns=("series", "step", "loss"))
    figure.update_layout(hovermode="x", uirevision=SAME)
    edge = 0.012 * max(1, n_steps)  # a point at either end is whole
    figure.update_xaxes(range=[-edge, max(1, n_steps) + edge], showgrid=False, zeroline=False, nticks=6)
    figure.update_yaxes(zeroline=False, nticks=6)
    if log:
        figure.update_yaxes(type="log", range=[math.log10(span[0]), math.log10(span[1])], tickvals=_log_ticks(*span))
    else:
        figure.update_yaxes(range=span)
    return figure


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of every decade within a range.

    >>> _log_ticks(0.3, 6.0)
    [0.5, 1.0, 2.0, 5.0]
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{m}e{d}") for d in decades for m in (1, 2, 5)]
    return [tick for tick in ticks if low <= tick <= high]


def next_token_bars(
    labels: Sequence[str], before: Sequence[float], now: Sequence[float], *, alt: str, dark: bool = False
) -> go.Figure:
    """The probability of each token now as a bar, that before the run as an upright tick; both in per cent at right.

    labels: n texts, shown as they are. before, now: [n] within 0..1. The axis is always 0 to 1, in roots, so that one
    per cent is still seen.

    Raises:
        ValueError: lengths differ, or a value is not within 0..1.
    """
    if not len(labels) == len(before) == len(now):
        raise ValueError(f"{len(labels)} labels for {len(before)} and {len(now)} values")
    if not all(0 <= p <= 1 for p in (*before, *now)):
        raise ValueError("a probability is not within 0..1")
    colours, rows = palette(dark), list(range(len(labels)))
    shown = [literal(label) for label in labels]
    hover = [f"{name} {b:.4f} → {a:.4f}" for name, b, a in zip(shown, before, now, strict=True)]
    figure = go.Figure(
        go.Bar(
            x=[math.sqrt(p) for p in now], y=rows, orientation="h", width=0.55, hovertext=hover, hoverinfo="text",
            marker={"color": colours.roles["weights"].fill, "cornerradius": 2},
            customdata=[[label, b, a] for label, b, a in zip(labels, before, now, strict=True)],
        )
    )  # fmt: skip
    figure.add_scatter(
        x=[math.sqrt(p) for p in before], y=rows, mode="markers", hovertext=hover, hoverinfo="text", customdata=[],
        marker={"symbol": "line-ns", "size": 16, "line": {"color": colours.ink, "width": 2.5}},
    )  # fmt: skip
    framed(figure, alt=alt, dark=dark, height=16 + 30 * max(1, len(rows)), columns=("token", "before", "now"))
    for row, (b, a) in enumerate(zip(before, now, strict=True)):
        figure.add_annotation(
            x=1.26, y=row, text=f"{percent(b)} → {percent(a)} %", showarrow=False, xanchor="right",
            font={"color": colours.muted},
        )  # fmt: skip
    figure.update_layout(uirevision=SAME)
    figure.update_xaxes(range=[0, 1.27], visible=False)
    figure.update_yaxes(
        tickvals=rows, ticktext=shown, range=[len(rows) - 0.5, -0.5], showgrid=False, zeroline=False,
        tickfont={"color": colours.ink}, ticklabelstandoff=6,
    )  # fmt: skip
    return figure


def percent(p: float) -> str:
    """A probability in per cent: whole numbers, below one with what is needed to see it.

    >>> percent(0.174), percent(0.004), percent(0.00001), percent(0)
    ('17', '0.4', '<0.1', '0')
    """
    if p >= 0.00995 or p == 0:
        return f"{100 * p:.0f}"
    return f"{100 * p:.1f}" if p >= 0.0005 else "<0.1"


def sides(
    texts: Sequence[str],
    before: Sequence[float],
    now: Sequence[float],
    right: Sequence[bool],
    *,
    threshold: float | None,
    x_title: str,
    alt: str,
    dark: bool = False,
) -> go.Figure:
    """A line a sentence: the probability of its true label before (a grey dot) and now (violet: right, hollow: wrong).

    texts: n sentences, told on hovering. before, now: [n] within 0..1. right: whether the model's answer is the true
    one. `threshold` is where the answer changes (two labels: 0.5).

    Raises:
        ValueError: lengths differ.
    """
    if not len(texts) == len(before) == len(now) == len(right):
        raise ValueError(f"{len(texts)} texts for {len(before)}, {len(now)} and {len(right)} values")
    colours, rows = palette(dark), list(range(len(texts)))
    figure = go.Figure()
    figure.add_scatter(
        x=[x for b, a in zip(before, now, strict=True) for x in (b, a, None)],
        y=[y for row in rows for y in (row, row, None)],
        mode="lines", line={"color": colours.line, "width": 2}, hoverinfo="skip", customdata=[],
    )  # fmt: skip
    figure.add_scatter(
        x=list(before), y=rows, mode="markers", hoverinfo="skip", customdata=[],
        marker={"size": 4, "color": colours.roles["masked"].fill},
    )  # fmt: skip
    shown = [_folded(literal(text)) for text in texts]
    figure.add_scatter(
        x=list(now), y=rows, mode="markers",
        marker={
            "size": 9,
            "color": [colours.roles["weights" if good else "loss"].fill for good in right],
            "symbol": ["circle" if good else "circle-open" for good in right],
            "line": {"width": 2},
        },
        customdata=[[text, b, a, good] for text, b, a, good in zip(texts, before, now, right, strict=True)],
        hovertext=[f"{text}<br>{b:.2f} → {a:.2f}" for text, b, a in zip(shown, before, now, strict=True)],
        hoverinfo="text",
    )  # fmt: skip
    framed(figure, alt=alt, dark=dark, height=60 + 7 * len(rows), columns=("text", "before", "now", "right"))
    if threshold is not None:
        _threshold(figure, threshold, colours)
    figure.update_layout(uirevision=SAME)
    figure.update_xaxes(range=[-0.02, 1.02], showgrid=False, zeroline=False, title_text=literal(x_title))
    figure.update_yaxes(range=[len(rows) - 0.5, -0.5], visible=False)
    return figure


def _threshold(figure: go.Figure, at: float, colours: Palette) -> None:
    figure.add_vline(x=at, line={"color": colours.roles["masked"].fill, "width": 1, "dash": "dot"})


def _folded(text: str, width: int = 60) -> str:
    """A long text in lines for a hover label, cut at spaces where there are any."""
    lines, line = [], ""
    for word in text.split(" "):
        while len(word) > width:
            lines.extend([line] if line else [])
            lines.append(word[:width])
            line, word = "", word[width:]
        if len(line) + len(word) > width:
            lines.append(line)
            line = ""
        line += word + " "
    return "<br>".join([*lines, line.strip()])
