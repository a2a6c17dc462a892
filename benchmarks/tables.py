"""The tables of the report, on a terminal and in Markdown."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import rich.box
import rich.table

from .figures import Figure
from .measuring import METRICS, Measurement
from .plans import FIGURE_SHAPES, LOOPS

REACHED: Final = "✓"
SHORT: Final = "✗"
COLUMNS: Final = (*FIGURE_SHAPES, *LOOPS, "either")
IN_JSON_ONLY: Final = ("build wall", "run wall", "cancel wall", "delay p50", "import wall")


@dataclass(frozen=True, slots=True)
class Table:
    """Cells with a title; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def for_terminal(self) -> rich.table.Table:
        table = rich.table.Table(title=self.title, title_justify="left", box=rich.box.SIMPLE_HEAD, padding=0)
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(f"[red]{cell}[/]" if SHORT in cell else cell for cell in row))
        return table

    def as_markdown(self) -> str:
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return f"### {self.title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


SUMMARY: Final = (
    ("a job that does nothing", "running", "no-op, {}"),
    ("with a checkpoint", "running", "checkpoint, {}"),
    ("with a sleep of 10 ms", "running", "nap, {}"),
    ("with a checkpoint, 16 at once", "running", "window 16, checkpoint, {}"),
    ("all sleep 1 s at once", "others", "all sleep 1 s at once, CPU, collector off"),
    ("groups of five, with a checkpoint", "features", "groups of five, checkpoint"),
    ("with a timeout", "features", "timeout, nap"),
    ("HTTP requests, 16 at once", "features", "requests, 16 at once, httpx"),
    ("calls in threads", "features", "threads, no-op in a thread"),
    ("commands, beside xargs", "commands", "true, xargs"),
)
"""The rows of the first page: what they show, their group, and their row there, `{}` for the backend."""


def summary(figures: Iterable[Figure]) -> Table:
    """Show the most important ratios, the least to the largest of several shapes."""
    found = [figure for figure in figures if figure.value is not None]
    rows = []
    for title, group, row in SUMMARY:
        cells = []
        for backend in LOOPS:
            values = [
                figure.value
                for figure in found
                if figure.value is not None
                and figure.group == group
                and figure.row == row.format(backend)
                and (row != row.format(backend) or figure.column == backend)
            ]
            low, high = (number(value) for value in (min(values, default=0), max(values, default=0)))
            cells.append("–" if not values else low if low == high else f"{low} to {high}")
        rows.append([title, *cells])
    return Table("Cost beside the best that is written by hand: the ratio of both", ["", *LOOPS], rows)


def of_figures(figures: Iterable[Figure], *, with_verdicts: bool = True) -> Iterator[Table]:
    """Show the figures to reach: value, and with verdicts the limit, and a mark."""
    titles = {
        "running": "Ratio to the best rival on the same backend (CPU time): ours, its limit",
        "features": "What is written by hand: ours, its limit, as a ratio where there is no unit",
        "commands": "Commands, ratio to others (time): ours, its limit",
        "elsewhere": "Nodes and clusters, ratio to others (time): ours, its limit",
        "limits": "Servers with limits: ours, its limit, as a ratio where there is no unit",
        "others": "The other figures to reach: ours, its limit",
    }
    for group, members in itertools.groupby(figures, key=lambda figure: figure.group):
        found = list(members)
        cells = {(figure.row, figure.column): cell(figure, with_verdicts=with_verdicts) for figure in found}
        rows = list(dict.fromkeys(figure.row for figure in found))
        columns = sorted({figure.column for figure in found}, key=COLUMNS.index)
        yield Table(
            titles[group].removesuffix("" if with_verdicts else ", its limit"),
            ["", *columns],
            [[row, *(cells.get((row, column), "") for column in columns)] for row in rows],
        )


def cell(figure: Figure, *, with_verdicts: bool) -> str:
    if figure.value is None:
        return "–"
    unit = f" {figure.unit}" if figure.unit else ""
    if not with_verdicts:
        return f"{number(figure.value)}{unit}"
    return f"{number(figure.value)}/{number(figure.limit)}{unit} {REACHED if figure.is_reached else SHORT}"


def shortfalls(figures: Iterable[Figure]) -> Table:
    """Show the figures that are not reached, the farthest first."""
    short = sorted(
        (one for one in figures if one.value is not None and not one.is_reached), key=lambda one: -one.shortfall
    )
    rows = [
        [f"{one.row}, {one.column}", number(one.value), number(one.limit), f"+{one.shortfall:.0%}", one.against]
        for one in short
        if one.value is not None
    ]
    return Table("What falls short", ["", "is", "limit", "by", "against"], rows)


def number(value: float) -> str:
    """Show two or three digits: the spread of the samples makes further ones meaningless."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"


def of_measurements(measurements: Iterable[Measurement]) -> Iterator[Table]:
    """Show all rivals: a table for each case, metric, backend, body, window and size, a column for each shape."""
    Key = tuple[str, str, str, str, int, int, str]

    def key(one: Measurement) -> Key:
        setting = one.setting
        return (
            one.case, one.metric, setting.backend, setting.body, setting.size, setting.window or 0, setting.conditions,
        )  # fmt: skip

    tables: dict[Key, list[Measurement]] = {}
    for one in measurements:
        if one.metric not in IN_JSON_ONLY:
            tables.setdefault(key(one), []).append(one)
    for (case, metric, backend, body, size, window, conditions), found in tables.items():
        unit, meaning = METRICS[metric]
        jobs = f"{size:,} jobs" if size else ""
        slots = f"window of {window}" if window else ""
        where = ", ".join(filter(None, (body, jobs, slots, conditions, backend)))
        title = f"{case}: {meaning}, {unit} ({where}), best of {len(found[0].samples)}"
        yield Table(title, *by_shape(found))


def by_shape(found: Sequence[Measurement]) -> tuple[list[str], list[list[str]]]:
    """Return the best of each contestant and shape, and how far the median lies above it."""
    shapes = list(dict.fromkeys(one.setting.shape for one in found))
    cells = {(one.contestant, one.setting.shape): f"{number(one.best)} +{one.spread:.0%}" for one in found}
    names = dict.fromkeys(one.contestant for one in found)
    return ["", *shapes], [[name, *(cells.get((name, shape), "") for shape in shapes)] for name in names]
