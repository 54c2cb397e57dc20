"""Arrays and labels in, Plotly figures out: bars, lines and histograms in the lab's colours.

Knows no torch, no Streamlit and no model. What must answer a hover or a click at once is a component (`lab.ui`); what a
chart says well is here. Every figure has an alternative text (`alt_of`), fixed axes on demand, and a CSV (`to_csv`).
Show one with `st.plotly_chart(figure, config={"displayModeBar": False}, theme=None)`: the figure brings its own theme.
"""

from lab.figures.charts import bars, histogram, line
from lab.figures.finetune_after import attention_map, change_bars, confusion_map, next_token_bars, overlaid_curves
from lab.figures.frame import alt_of, literal
from lab.figures.heat_map import heat_map
from lab.figures.paired import paired_bars
from lab.figures.pieces import pieces
from lab.figures.scatter import scatter
from lab.figures.table import matrix_csv, rows_csv, table_csv, to_csv

__all__ = [
    "alt_of",
    "attention_map",
    "bars",
    "change_bars",
    "confusion_map",
    "heat_map",
    "histogram",
    "line",
    "literal",
    "matrix_csv",
    "next_token_bars",
    "overlaid_curves",
    "paired_bars",
    "pieces",
    "rows_csv",
    "scatter",
    "table_csv",
    "to_csv",
]  # fmt: skip
