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

SHORT: Final = "✗"
COLUMNS: Final = (*FIGURE_SHAPES, *LOOPS, "batch")
IN_JSON_ONLY: Final = ("build wall", "run wall", "cancel wall")
TITLES: Final = {
    "small": "Small graphs, beside the best that is written by hand (or sdax)",
    "running": "CPU time of a job, beside the best that is written by hand (or asynciojobs)",
    "others": "Other figures, a ratio where there is no unit",
    "commands": "Commands, beside others (time)",
    "nodes": "Commands on nodes, beside others (time)",
    "limits": "Servers with limits, a ratio where there is no unit",
}


@dataclass(frozen=True, slots=True)
class Table:
    """Cells with a title; the first column names the row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def for_terminal(self) -> rich.table.Table:
        table = rich.table.Table(
            title=self.title, title_justify="left", box=rich.box.SIMPLE_HEAD, padding=0
        )
        for number, column in enumerate(self.columns):
            table.add_column(
                column, justify="right" if number else "left", overflow="fold"
            )
        for row in self.rows:
            table.add_row(
                *(f"[red]{cell}[/]" if SHORT in cell else cell for cell in row)
            )
        return table

    def as_markdown(self) -> str:
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        return (
            f"### {self.title}\n\n"
            + "\n".join("| " + " | ".join(line) + " |" for line in lines)
            + "\n"
        )


def of_figures(figures: Iterable[Figure]) -> Iterator[Table]:
    """Show the figures that were measured; those that CI checks with their limits."""
    measured = (figure for figure in figures if figure.value is not None)
    for group, members in itertools.groupby(measured, key=lambda figure: figure.group):
        found = list(members)
        cells = {(figure.row, figure.column): cell(figure) for figure in found}
        rows = list(dict.fromkeys(figure.row for figure in found))
        columns = sorted({figure.column for figure in found}, key=COLUMNS.index)
        lines = [
            [row, *(cells.get((row, column), "") for column in columns)] for row in rows
        ]
        yield Table(TITLES[group], ["", *columns], lines)


def cell(figure: Figure) -> str:
    assert figure.value is not None
    text = f"{number(figure.value)} {figure.unit}".rstrip()
    if figure.limit is None:
        return text
    return f"{text} (at most {number(figure.limit)}){'' if figure.is_reached else f' {SHORT}'}"


def number(value: float) -> str:
    """Show two or three digits: the spread of the samples makes further ones meaningless."""
    return (
        f"{value:,.0f}"
        if value >= 100
        else f"{value:.3g}"
        if value >= 1
        else f"{value:.2g}"
    )


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
    for (
        case,
        metric,
        backend,
        body,
        size,
        window,
        conditions,
    ), found in tables.items():
        unit, meaning = METRICS[metric]
        jobs = f"{size:,} jobs" if size else ""
        slots = f"window of {window}" if window else ""
        where = ", ".join(filter(None, (body, jobs, slots, conditions, backend)))
        title = f"{case}: {meaning}, {unit} ({where}), best of {len(found[0].samples)}"
        yield Table(title, *by_shape(found))


def by_shape(found: Sequence[Measurement]) -> tuple[list[str], list[list[str]]]:
    """Return the best of each contestant and shape, and how far the median lies above it."""
    shapes = list(dict.fromkeys(one.setting.shape for one in found))
    cells = {
        (one.contestant, one.setting.shape): f"{number(one.best)} +{one.spread:.0%}"
        for one in found
    }
    names = dict.fromkeys(one.contestant for one in found)
    return ["", *shapes], [
        [name, *(cells.get((name, shape), "") for shape in shapes)] for name in names
    ]
