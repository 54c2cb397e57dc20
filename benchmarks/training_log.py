"""From the logs of one or more runs in a row to what a model card shows: a short table (CSV) and a picture (SVG).

    python -m benchmarks.training_log runs/shiren --recipe assets/models/shiren/recipe.toml --out assets/models/shiren

A run that goes on from another follows it, each with its own `--recipe`. Every run's folder holds `log.jsonl`, one
record a step; steps, tokens and seconds count on from run to run. The CSV has the mean of every `--every` steps; the
picture draws these means and the losses on the selection split.
"""

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

from lab.theme import LIGHT
from lm_core.recipe import read_recipe

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 340, 56, 16, 30, 44


@dataclass(frozen=True)
class Row:
    """The mean over some steps that end at `step`; `selection` only where it was measured."""

    run: str
    step: int
    tokens: int
    seconds: float
    loss: float
    grad_norm: float
    lr_share: float
    selection: float | None


def read_rows(folders: list[Path], tokens_per_step: list[int], every: int) -> list[Row]:
    """All runs as one: a row for every `every` steps of each."""
    rows: list[Row] = []
    step = tokens = 0
    seconds = 0.0
    for folder, per_step in zip(folders, tokens_per_step, strict=True):
        records = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        for at in range(0, len(records), every):
            part = records[at : at + every]
            selection = [r["validation_loss"] for r in part if "validation_loss" in r]
            mean = {name: sum(r[name] for r in part) / len(part) for name in ("loss", "grad_norm", "lr_share")}
            rows.append(
                Row(
                    folder.name, step + part[-1]["step"], tokens + part[-1]["step"] * per_step,
                    seconds + part[-1]["seconds"], **mean, selection=selection[-1] if selection else None,
                )
            )  # fmt: skip
        step, tokens, seconds = rows[-1].step, rows[-1].tokens, rows[-1].seconds
    return rows


def write_csv(rows: list[Row], path: Path) -> None:
    """One line a row; the selection loss empty where it was not measured."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "step", "tokens", "minutes", "loss_nats", "grad_norm", "lr_share", "selection_nats"])
        for r in rows:
            selection = "" if r.selection is None else f"{r.selection:.4f}"
            numbers = (f"{r.seconds / 60:.1f}", f"{r.loss:.4f}", f"{r.grad_norm:.3f}", f"{r.lr_share:.3f}")
            writer.writerow([r.run, r.step, r.tokens, *numbers, selection])


def _ticks(low: float, high: float, step: float) -> list[float]:
    first = -(-low // step)
    return [n * step for n in range(int(first), int(high / step) + 1)]


def write_svg(rows: list[Row], path: Path, title: str) -> None:
    """Loss in nats over millions of tokens; the vertical axis leaves out the first steep fall."""
    last = rows[-1].tokens / 1e6
    low = min(min(r.loss, r.selection or r.loss) for r in rows) - 0.1
    high = sorted(r.loss for r in rows)[int(0.97 * (len(rows) - 1))] + 0.2

    def x(tokens: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * tokens / 1e6 / last

    def y(loss: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - min(loss, high)) / (high - low)

    ink, grid, dot = LIGHT.ink, LIGHT.line, LIGHT.roles["loss"].fill
    step_x = next(s for s in (0.2, 0.5, 1, 2, 5, 10, 20, 50) if last / s <= 9)
    step_y = next(s for s in (0.1, 0.2, 0.5, 1, 2) if (high - low) / s <= 7)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="{ink}"><rect width="{WIDTH}" height="{HEIGHT}" fill="{LIGHT.background}"/>',
        f'<text x="{LEFT}" y="18" font-weight="600">{escape(title)}</text>',
    ]
    for value in _ticks(low, high, step_y):
        parts.append(f'<path d="M{LEFT} {y(value):.1f}H{WIDTH - RIGHT}" stroke="{grid}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.1f}</text>')
    for value in _ticks(0, last, step_x):
        parts.append(f'<text x="{x(value * 1e6):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g}</text>')
    points = " ".join(f"{x(r.tokens):.1f},{y(r.loss):.1f}" for r in rows)
    parts.append(f'<polyline points="{points}" fill="none" stroke="{LIGHT.roles["masked"].fill}" stroke-width="1.2"/>')
    for r in rows:
        if r.selection is not None:
            parts.append(f'<circle cx="{x(r.tokens):.1f}" cy="{y(r.selection):.1f}" r="3.2" fill="{dot}"/>')
    parts.append(
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">million tokens read · grey: training loss, '
        f"mean of neighbouring steps · dots: selection split · nats a token</text></svg>"
    )
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--recipe", type=Path, action="append", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--every", type=int, default=10)
    options = parser.parse_args()
    plans = [read_recipe(path).train for path in options.recipe]
    rows = read_rows(options.runs, [plan.batch_size * plan.n_tokens for plan in plans], options.every)
    write_csv(rows, options.out / "training_log.csv")
    write_svg(rows, options.out / "training_curve.svg", options.out.name)


if __name__ == "__main__":
    main()
