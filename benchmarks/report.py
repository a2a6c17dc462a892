"""The report: a page that fits a screen, then all tables; the same on the terminal; all samples in JSON; plots."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from . import tables
from .elapsed.report import Report as Elapsed
from .elapsed.ways import installed
from .figures import Figure, Results, figures
from .measuring import METRICS, Measurement
from .plans import ELAPSED, Plan
from .rivals import all_rivals, of_commands

TINY: Final = "TINY: this shows that the suite works. Its figures mean nothing."


class Report:
    """The outcome of one call of the suite; it can be written at any time.

    It begins with a page: elapsed time beside gather, the figures in short, and what falls short. All else is folded.
    """

    def __init__(self, plan: Plan, directory: Path) -> None:
        self._plan: Final = plan
        self._directory: Final = directory
        self._began: Final = time.strftime("%Y-%m-%d %H:%M")
        self._load_before: Final = load()
        self.start: Final = time.perf_counter()
        self.elapsed: Final = Elapsed(
            directory, is_tiny=self._is_tiny, ways=[way.label for way in installed() if ELAPSED in plan.cases]
        )
        self.measurements: Final[list[Measurement]] = []
        self.failed: Final[list[str]] = []  # the contests that could not be held to their end
        self.plots: Sequence[str] = ()

    @property
    def _is_tiny(self) -> bool:
        return self._plan.name == "tiny"

    @property
    def figures(self) -> list[Figure]:
        return figures(Results(self.measurements))

    @property
    def facts(self) -> dict[str, str]:
        """The machine, the versions, and how the figures were measured."""
        rounds = self._plan.rounds
        worth = "only to see that it works" if self._is_tiny else f"best of {rounds} unless stated otherwise"
        missing = sorted({rival.name for rival in (*all_rivals(), *of_commands.RIVALS) if not rival.is_installed})
        return {
            **machine(),
            "plan": f"{self._plan.name}, {worth}",
            "began": f"{self._began}, took {time.perf_counter() - self.start:.0f} s",
            "load before and after": f"{self._load_before:.1f} and {load():.1f}",
            "cannot be measured": "; ".join(self.failed) or "nothing",
            "not installed": ", ".join(missing) or "nothing",
        }

    def show(self, console: Console) -> None:
        """Print all tables, what falls short last."""
        for table in tables.of_measurements(self.measurements) if self._plan.name == "full" else ():
            console.print(table.for_terminal(), "")
        for name, fact in self.facts.items():
            console.print(f"{name:>22}: {fact}", highlight=False)
        console.print()
        if ELAPSED in self._plan.cases:
            self.elapsed.show(console)
        for table in tables.of_figures(self.figures, with_verdicts=not self._is_tiny):
            console.print(table.for_terminal(), "")
        if not self._is_tiny:
            short = tables.shortfalls(self.figures)
            console.print(short.for_terminal() if short.rows else "", "")
        console.print(self.verdict, highlight=False)

    @property
    def verdict(self) -> str:
        """One sentence on how many figures are reached."""
        if self._is_tiny:
            return TINY
        measured = [figure for figure in self.figures if figure.value is not None]
        return f"{sum(bool(figure.is_reached) for figure in measured)} of {len(measured)} figures are reached."

    def write(self) -> None:
        """Write `report.json`, and `report.md`, which shows the plots that there are."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if ELAPSED in self._plan.cases:
            self.elapsed.write(with_plot=bool(self.plots))
        (self._directory / "report.json").write_text(as_text(self.as_json()), encoding="utf-8")
        (self._directory / "report.md").write_text(self.as_markdown(), encoding="utf-8")

    def as_json(self) -> dict[str, Any]:
        return {
            "facts": self.facts,
            "metrics": {metric: {"unit": unit, "meaning": meaning} for metric, (unit, meaning) in METRICS.items()},
            "figures": [{**asdict(figure), "is_reached": figure.is_reached} for figure in self.figures],
            "measurements": [
                {**asdict(one), "best": one.best, "median": one.median, "spread": one.spread}
                for one in self.measurements
            ],
        }

    def as_markdown(self) -> str:
        """Return the report: a page to read, then all tables, folded."""
        found = self.figures
        facts = tables.Table("How it was measured", ["", ""], [list(fact) for fact in self.facts.items()])
        short = tables.shortfalls(found)
        first = [tables.summary(found)] if any(figure.value is not None for figure in found) else []
        page = [
            "# What trioflow costs\n",
            f"{self.verdict} Written by `python -m benchmarks`; what is folded has all that was measured.\n",
            self.elapsed.as_markdown() if ELAPSED in self._plan.cases else "",
            *(table.as_markdown() for table in first),
        ]
        figure_tables = [table.as_markdown() for table in tables.of_figures(found, with_verdicts=not self._is_tiny)]
        rest = {
            "How it was measured": [facts.as_markdown().split("\n", 2)[2]],
            "All figures to reach, and their limits": figure_tables,
            f"What falls short: {len(short.rows)}": [short.as_markdown()] if not self._is_tiny else [],
            "Plots": [f"![{Path(plot).stem}]({plot})\n" for plot in self.plots],
            **of_cases(self.measurements),
        }
        return "\n".join([*page, *(folded(title, parts) for title, parts in rest.items() if parts)])


def of_cases(measurements: Sequence[Measurement]) -> dict[str, list[str]]:
    """Return all tables of each case, by a title for them."""
    cases: dict[str, list[Measurement]] = {}
    for one in measurements:
        cases.setdefault(one.case, []).append(one)
    return {
        f"All rivals: {case}": [
            "A cell shows the best of several rounds, and how far the median lies above it.\n",
            *(
                table.as_markdown()
                for table in tables.of_measurements([one for one in measurements if one.case == case])
            ),
        ]
        for case in cases
    }


def folded(title: str, parts: Sequence[str]) -> str:
    """Return Markdown that shows only its title until somebody opens it."""
    return "\n".join([f"<details><summary>{title}</summary>\n", *parts, "</details>\n"])


def as_text(content: dict[str, Any]) -> str:
    """Write JSON with a line for each figure and measurement, so that two reports can be compared line by line."""

    def one(value: object) -> str:
        if isinstance(value, list):
            return "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]"
        return json.dumps(value, ensure_ascii=False, indent=1)

    return "{\n" + ",\n".join(f'"{name}": {one(value)}' for name, value in content.items()) + "\n}\n"


# ---- on what machine, with what versions

LIBRARIES = ("trioflow", "trio", "anyio", "asynciojobs", "aiodag", "dask")


def machine() -> dict[str, str]:
    """Return what a reader must know to judge the numbers."""
    return {
        "processor": processor(),
        "cores": f"{os.cpu_count()} (of them usable here: {len(os.sched_getaffinity(0))})"
        if hasattr(os, "sched_getaffinity")
        else str(os.cpu_count()),
        "system": platform.platform(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}",
        **{library: version(library) for library in LIBRARIES},
    }


def load() -> float:
    """Return how many processes wanted a core in the last minute; above the number of cores, figures mean nothing."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def processor() -> str:
    """Return the processor's name, where it can be found."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "this tree" if library == "trioflow" else "not installed"
