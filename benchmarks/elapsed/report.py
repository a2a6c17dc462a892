"""The report: one table, which a sceptic reads in a minute, and all measurements as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from ..figures import Figure
from ..tables import Table, number

COLUMNS: Final[dict[str, tuple[str, Callable[[Sequence[float]], float], str]]] = {
    "simulated 4": ("W=4", statistics.geometric_mean, "{:.3f}"),
    "simulated 16": ("W=16", statistics.geometric_mean, "{:.3f}"),
    "simulated 64": ("W=64", statistics.geometric_mean, "{:.3f}"),
    "worst": ("worst", max, "{:.2f}"),
    "slept": ("real, W=16", statistics.geometric_mean, "{:.3f}"),
    "requested": ("HTTP, W=16", statistics.geometric_mean, "{:.3f}"),
    "latency": ("latency, µs", statistics.median, ""),
    "cancel": ("cancel, ms", min, ""),
    "memory": ("bytes a task", statistics.median, ""),
    "CPU": ("CPU, µs a task", statistics.median, ""),
}
"""For each metric: the head of its column, how the workflows' values are put together, and how that is written."""

TITLE: Final = "Elapsed time, beside gather"
EXPLAINED: Final = (
    "A makespan is divided by the lower bound: the longest path, or the work shared by the slots, whichever is more."
    " With W slots, simulated on a virtual clock: the geometric mean of {count} workflows, and the worst of all. Then"
    " with real sleeps and HTTP requests; CPU is that with the sleeps. Latency: from the end of the last requirement of"
    " a task to its start, median, without a window. Cancel: from a cancellation while tasks sleep to the end of the"
    " run. Memory: at the peak of a run. Dask's threads have no virtual clock, and cannot be cancelled. Levels wait for"
    " the slowest task of the level before."
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one way for one workflow."""

    way: str
    workflow: str
    metric: str
    value: float | None  # None: it cannot be measured there
    is_last: bool = False  # it stands for the end of its step, and for nothing else


class Report:
    """All outcomes; it can be written at any time."""

    def __init__(self, directory: Path, *, is_tiny: bool, ways: Sequence[str]) -> None:
        self._directory: Final = directory
        self._is_tiny: Final = is_tiny
        self._ways: Final = ways
        self._outcomes: Final[list[Outcome]] = []

    def add(self, outcome: Outcome) -> None:
        if outcome.value is not None:
            self._outcomes.append(outcome)

    def values(self, way: str, metric: str) -> list[float]:
        """Return the values of one metric, one for each workflow; "worst" has all simulated ones."""
        return [
            one.value
            for one in self._outcomes
            if one.way == way
            and (
                one.metric.startswith("simulated")
                if metric == "worst"
                else one.metric == metric
            )
            and one.value is not None
        ]

    def figures(self) -> Iterator[Figure]:
        """Yield a figure for each way and metric that has values."""
        for way in self._ways:
            for metric, (_, together, _) in COLUMNS.items():
                values = self.values(way, metric)
                yield Figure(
                    "elapsed", way, metric, together(values) if values else None
                )

    def table(self, title: str, metrics: Sequence[str]) -> Table:
        """Return a table with a row for each way and a column for each of these metrics."""
        tiny = "TINY, its figures mean nothing. " if self._is_tiny else ""
        return Table(
            tiny + title,
            ["", *(COLUMNS[metric][0] for metric in metrics)],
            list(self._rows(metrics)),
        )

    def _rows(self, metrics: Sequence[str]) -> Iterator[list[str]]:
        for way in self._ways:
            cells = []
            for metric in metrics:
                _, together, form = COLUMNS[metric]
                values = self.values(way, metric)
                if not values:
                    cells.append("–")
                else:
                    cells.append(
                        form.format(together(values))
                        if form
                        else number(together(values))
                    )
            yield [way, *cells]

    def write(self) -> None:
        """Write the results so far: `elapsed.json` and `elapsed.md`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        lines = ",\n".join(
            json.dumps(asdict(one), ensure_ascii=False) for one in self._outcomes
        )
        (self._directory / "elapsed.json").write_text(
            f"[\n{lines}\n]\n", encoding="utf-8"
        )
        (self._directory / "elapsed.md").write_text(
            self.as_markdown(), encoding="utf-8"
        )

    def as_markdown(self) -> str:
        """Return the table, and its explanation."""
        workflows = {
            one.workflow for one in self._outcomes if one.metric.startswith("simulated")
        }
        columns = [
            metric for metric in COLUMNS if metric == "worst" or self._has(metric)
        ]
        return f"{self.table(TITLE, columns).as_markdown()}\n{EXPLAINED.format(count=len(workflows))}\n"

    def _has(self, metric: str) -> bool:
        return any(one.metric == metric for one in self._outcomes)

    def show(self, console: Console) -> None:
        """Print the table in two parts, because terminals have 80 columns."""
        metrics = list(COLUMNS)
        console.print(self.table(TITLE, metrics[:6]).for_terminal())
        console.print(self.table("What else it takes", metrics[6:]).for_terminal())
