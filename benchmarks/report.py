"""The report: how it was measured, elapsed time beside gather, the figures, all tables; and all samples in JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from . import tables
from .elapsed.report import Report as Elapsed
from .elapsed.ways import installed
from .figures import LIMITS, Figure, Results, figures, medians
from .measuring import METRICS, Measurement
from .plans import ELAPSED, Plan
from .rivals import all_rivals, of_commands

TINY: Final = "TINY: this shows that the suite works. Its figures mean nothing."


class Report:
    """The outcome of one call of the suite; it can be written at any time."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self._plan: Final = plan
        self._directory: Final = directory
        self._began: Final = time.strftime("%Y-%m-%d %H:%M")
        self._load_before: Final = load()
        self.start: Final = time.perf_counter()
        self.elapsed: Final = Elapsed(
            directory,
            is_tiny=self._is_tiny,
            ways=[way.label for way in installed() if ELAPSED in plan.cases],
        )
        self.measurements: Final[list[Measurement]] = []
        self.failed: Final[
            list[str]
        ] = []  # the contests that could not be held to their end

    @property
    def _is_tiny(self) -> bool:
        return self._plan.name == "tiny"

    @property
    def figures(self) -> list[Figure]:
        measured = self.measurements
        if self._plan.name == "check":
            measured = medians(measured)
        return figures(Results(measured))

    @property
    def facts(self) -> dict[str, str]:
        """The machine, the versions, and how the figures were measured."""
        rounds = self._plan.rounds
        worth = {
            "tiny": "only to see that it works",
            "check": f"medians of {rounds} and more",
        }.get(self._plan.name, f"best of {rounds} unless stated otherwise")
        missing = sorted(
            {
                rival.name
                for rival in (*all_rivals(), *of_commands.RIVALS)
                if not rival.is_installed
            }
        )
        return {
            **machine(),
            "plan": f"{self._plan.name}, {worth}",
            "began": f"{self._began}, took {time.perf_counter() - self.start:.0f} s",
            "load before and after": f"{self._load_before:.1f} and {load():.1f}",
            "cannot be measured": "; ".join(self.failed) or "nothing",
            "not installed": ", ".join(missing) or "nothing",
        }

    def missed(self) -> list[Figure]:
        """Return the figures that are beyond CI's limits, or that CI checks and that were not measured."""
        checked = [figure for figure in self.figures if figure.limit is not None]
        assert len(checked) == len(LIMITS)
        return [figure for figure in checked if not figure.is_reached]

    def missed_cases(self) -> tuple[str, ...]:
        """Return the cases that decide these figures."""
        cases = {LIMITS[figure.row, figure.column].case for figure in self.missed()}
        return tuple(sorted(cases))

    def _tables(self) -> Iterator[tables.Table]:
        yield tables.Table(
            "How it was measured", ["", ""], [list(fact) for fact in self.facts.items()]
        )
        yield from tables.of_figures(self.figures)

    def show(self, console: Console) -> None:
        """Print the figures; with the full plan all tables before."""
        for table in (
            tables.of_measurements(self.measurements)
            if self._plan.name == "full"
            else ()
        ):
            console.print(table.for_terminal(), "")
        if ELAPSED in self._plan.cases:
            self.elapsed.show(console)
        for table in self._tables():
            console.print(table.for_terminal(), "")
        if self._is_tiny:
            console.print(TINY, highlight=False)

    def write(self) -> None:
        """Write `report.json` and `report.md`."""
        self._directory.mkdir(parents=True, exist_ok=True)
        if ELAPSED in self._plan.cases:
            self.elapsed.write()
        (self._directory / "report.json").write_text(
            as_text(self.as_json()), encoding="utf-8"
        )
        (self._directory / "report.md").write_text(self.as_markdown(), encoding="utf-8")

    def as_json(self) -> dict[str, Any]:
        return {
            "facts": self.facts,
            "metrics": {
                metric: {"unit": unit, "meaning": meaning}
                for metric, (unit, meaning) in METRICS.items()
            },
            "figures": [
                {**asdict(one), "limit": one.limit, "is_reached": one.is_reached}
                for one in self.figures
            ],
            "measurements": [
                {
                    **asdict(one),
                    "best": one.best,
                    "median": one.median,
                    "spread": one.spread,
                }
                for one in self.measurements
            ],
        }

    def as_markdown(self) -> str:
        """Return the report: the figures, then all tables, folded."""
        return "\n".join(
            [
                "# What trioflow costs\n",
                f"{TINY}\n" if self._is_tiny else "",
                self.elapsed.as_markdown() if ELAPSED in self._plan.cases else "",
                *(table.as_markdown() for table in self._tables()),
                "<details><summary>All rivals</summary>\n",
                "A cell shows the best of several rounds, and how far the median lies above it.\n",
                *(
                    table.as_markdown()
                    for table in tables.of_measurements(self.measurements)
                ),
                "</details>\n",
            ]
        )


def as_text(content: dict[str, Any]) -> str:
    """Write JSON with a line for each figure and measurement, so that two reports can be compared line by line."""

    def one(value: object) -> str:
        if isinstance(value, list):
            return (
                "[\n"
                + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value)
                + "\n]"
            )
        return json.dumps(value, ensure_ascii=False, indent=1)

    return (
        "{\n"
        + ",\n".join(f'"{name}": {one(value)}' for name, value in content.items())
        + "\n}\n"
    )


# ---- on what machine, with what versions

LIBRARIES = ("trioflow", "trio", "anyio", "asynciojobs", "aiodag", "dask", "sdax")


def machine() -> dict[str, str]:
    """Return the facts about the machine that a reader needs to judge the numbers."""
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
    """Return the processor's name, if it can be found."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [
        line.partition(":")[2].strip()
        for line in lines
        if line.startswith("model name")
    ]
    return names[0] if names else platform.machine()


def version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "this tree" if library == "trioflow" else "not installed"
