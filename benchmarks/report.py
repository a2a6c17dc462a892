"""The report: tables on the terminal and in Markdown, all samples in JSON, plots beside them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from . import tables
from .figures import Figure, Results, figures
from .measuring import METRICS, Measurement
from .plans import Plan
from .rivals import all_rivals, of_commands


@dataclass(frozen=True)
class Report:
    """The outcome of one call of the suite."""

    plan: Plan
    measurements: Sequence[Measurement]
    began: str
    seconds: float
    loads: tuple[float, float]  # before and after

    @property
    def figures(self) -> list[Figure]:
        return figures(Results(self.measurements))

    @property
    def facts(self) -> dict[str, str]:
        """The machine, the versions, and how the figures were measured."""
        rounds = self.plan.rounds
        worth = "only to see that it works" if rounds == 1 else f"best of {rounds} unless stated otherwise"
        missing = sorted({rival.name for rival in (*all_rivals(), *of_commands.RIVALS) if not rival.is_installed})
        return {
            **machine(),
            "plan": f"{self.plan.name}, {worth}",
            "began": f"{self.began}, took {self.seconds:.0f} s",
            "load before and after": " and ".join(f"{load:.1f}" for load in self.loads),
            "not installed": ", ".join(missing) or "nothing",
        }

    def show(self, console: Console) -> None:
        """Print all tables, the figures to reach last."""
        for table in tables.of_measurements(self.measurements) if self.plan.name == "full" else ():
            console.print(table.for_terminal(), "")
        for name, fact in self.facts.items():
            console.print(f"{name:>22}: {fact}", highlight=False)
        console.print()
        for table in tables.of_figures(self.figures):
            console.print(table.for_terminal(), "")
        short = tables.shortfalls(self.figures)
        measured = sum(figure.value is not None for figure in self.figures)
        console.print(short.for_terminal() if short.rows else "", "")
        console.print(f"{measured - len(short.rows)} of {measured} figures are reached")

    def write(self, directory: Path, plots: Sequence[str]) -> None:
        """Write `report.json` and `report.md`, which shows the plots."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "report.json").write_text(as_text(self.as_json()))
        (directory / "report.md").write_text(self.as_markdown(plots))

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

    def as_markdown(self, plots: Sequence[str]) -> str:
        facts = tables.Table("How it was measured", ["", ""], [list(fact) for fact in self.facts.items()])
        parts = [
            "# What trioflow costs\n",
            "Written by `python -m benchmarks`. A cell in the first tables shows our figure, its limit, and a mark. A"
            " cell in the others shows the best of several rounds, and how far the median lies above it.\n",
            *(table.as_markdown() for table in tables.of_figures(self.figures)),
            tables.shortfalls(self.figures).as_markdown(),
            *(f"![{Path(plot).stem}]({plot})\n" for plot in plots),
            facts.as_markdown(),
            *(table.as_markdown() for table in tables.of_measurements(self.measurements)),
        ]
        return "\n".join(parts)


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
