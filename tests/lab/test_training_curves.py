"""The figures of a run: fixed axes, every number in the CSV, bad values refused."""

from __future__ import annotations

import math

import plotly.graph_objects as go
import pytest

from lab.figures import to_csv
from lab.figures.training_curves import compared, curves, next_token_bars, sides

TRAINING, VALIDATION = [(1, 4.0), (2, 3.5)], [(0, 4.2), (2, 3.9)]


def _draw(n: int = 2, **more: object) -> go.Figure:
    options = {"n_steps": 10, "y_range": (1.0, 5.0), "names": ("training", "validation"), "alt": "loss"} | more
    return curves(TRAINING[:n], VALIDATION[:n], **options)  # type: ignore[arg-type]


def test_the_axes_do_not_move_when_points_arrive() -> None:
    empty, one, two = (_draw(n).layout for n in (0, 1, 2))
    assert empty.xaxis.range == one.xaxis.range == two.xaxis.range
    assert empty.yaxis.range == two.yaxis.range == (1.0, 5.0)
    assert two.xaxis.range[0] < 0 and two.xaxis.range[1] > 10
    assert two.uirevision == one.uirevision is not None


def test_the_csv_holds_every_point_once_and_the_best_is_ringed() -> None:
    figure = _draw(best=2)
    rows = to_csv(figure).split("\r\n")[1:-1]
    assert rows == ["training,1,4.0", "training,2,3.5", "validation,0,4.2", "validation,2,3.9"]
    assert (figure.data[2].x, figure.data[2].y) == ((2,), (3.9,))
    assert len(_draw(best=7).data) == 2


def test_a_loss_that_is_no_number_leaves_a_gap_and_no_row() -> None:
    figure = curves([(1, math.nan), (2, math.inf), (3, 2.0)], [], n_steps=3, y_range=(0, 3), names=("t", "v"), alt="x")
    assert figure.data[0].x == (3,)
    assert "nan" not in to_csv(figure)


def test_the_logarithmic_axis_has_ticks_inside_and_refuses_zero() -> None:
    figure = _draw(log=True, y_range=(0.2, 6.0))
    assert figure.layout.yaxis.range == pytest.approx((math.log10(0.2), math.log10(6.0)))
    assert figure.layout.yaxis.tickvals == (0.2, 0.5, 1.0, 2.0, 5.0)
    with pytest.raises(ValueError, match="cannot begin at 0"):
        _draw(log=True, y_range=(0.0, 6.0))


def test_two_runs_are_told_apart_by_their_dashes() -> None:
    runs = {"a": (TRAINING, VALIDATION), "b<i>": (TRAINING, VALIDATION)}
    figure = compared(runs, n_steps=10, y_range=(1, 5), names=("t", "v"), alt="two")
    assert [trace.line.dash for trace in figure.data] == ["solid", "solid", "dash", "dash"]
    assert "<i>" not in figure.data[2].hovertext[0]
    with pytest.raises(ValueError, match="empty"):
        compared({}, n_steps=1, y_range=(0, 1), names=("t", "v"), alt="x")


def test_next_tokens_stand_on_an_axis_that_never_changes() -> None:
    figure = next_token_bars(["a", "<b>"], [0.25, 0.0], [0.04, 1.0], alt="next")
    assert figure.data[0].x == pytest.approx((0.2, 1.0)) and figure.data[1].x == pytest.approx((0.5, 0.0))
    assert [note.text for note in figure.layout.annotations] == ["25 → 4 %", "0 → 100 %"]
    assert figure.layout.yaxis.ticktext[1] == "&lt;b&gt;"
    assert to_csv(figure).split("\r\n")[1:3] == ["a,0.25,0.04", "<b>,0.0,1.0"]
    with pytest.raises(ValueError, match=r"not within 0\.\.1"):
        next_token_bars(["a"], [0.5], [1.5], alt="next")
    with pytest.raises(ValueError, match="1 labels"):
        next_token_bars(["a"], [0.5], [], alt="next")


def test_sentences_on_the_wrong_side_are_hollow() -> None:
    long = "word " * 40 + "x" * 90
    figure = sides(["a<b>", long], [0.5, 0.5], [0.9, 0.1], [True, False], threshold=0.5, x_title="p", alt="s")
    points = figure.data[2]
    assert points.marker.symbol == ("circle", "circle-open") and points.x == (0.9, 0.1)
    assert points.hovertext[0].startswith("a&lt;b&gt;<br>") and max(map(len, points.hovertext[1].split("<br>"))) <= 61
    assert len(to_csv(figure).split("\r\n")) == 4
    with pytest.raises(ValueError, match="1 texts"):
        sides(["a"], [], [], [], threshold=None, x_title="", alt="s")
