"""The values of a figure or matrix as CSV (RFC 4180), safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def _cell(value: object) -> str:
    """A number as Python writes it, in full; text that a spreadsheet would compute gets a leading apostrophe."""
    if isinstance(value, str):
        return "'" + value if value.startswith(_FORMULA_STARTS) else value
    return repr(float(value)) if isinstance(value, (float, np.floating)) else str(value)


def _written(rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerows([_cell(value) for value in row] for row in rows)
    return out.getvalue()


def to_csv(figure: go.Figure) -> str:
    """The values that `figure` (made by this package) shows, one row a point, as CSV text.

    Example:
        >>> from lab.figures import bars
        >>> print(to_csv(bars(["a", "=b"], [0.75, 0.25], alt="two bars")).replace("\\r", ""), end="")
        label,value
        a,0.75
        '=b,0.25
    """
    rows: list[Sequence[object]] = [list(figure.layout.meta["columns"])]
    for trace in figure.data:
        for point in trace.customdata:
            rows.append(list(point))
    return _written(rows)


def rows_csv(rows: Iterable[Sequence[object]]) -> str:
    """Rows of a table, the names of its columns first, as CSV text.

    Example:
        >>> rows_csv([("text", "p"), ("=x", 0.5)])
        "text,p\\r\\n'=x,0.5\\r\\n"
    """
    return _written(rows)


def matrix_csv(values: ArrayLike, rows: Sequence[str], cols: Sequence[str]) -> str:
    """A matrix [m, n] with its m row and n column names as CSV text; minus infinity is written `-inf`.

    Raises:
        ValueError: the names do not fit the shape.

    Example:
        >>> print(matrix_csv([[0.5, 2.0]], ["q"], ["a", "-b"]).replace("\\r", ""), end="")
        ,a,'-b
        q,0.5,2.0
    """
    array = np.asarray(values)
    if array.shape != (len(rows), len(cols)):
        raise ValueError(f"values of shape {array.shape} do not fit {len(rows)} rows and {len(cols)} columns")
    if array.dtype.kind == "f":
        array = array.astype(np.float64)
    return _written([["", *cols], *([name, *line] for name, line in zip(rows, array.tolist(), strict=True))])


def table_csv(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows of any values under the `names` of their columns, as CSV text.

    Example:
        >>> print(table_csv(["who", "n"], [["=a", 2]]).replace("\\r", ""), end="")
        who,n
        '=a,2
    """
    return _written([list(names), *rows])
