"""The figures on the pages: a file keeps them, each with its commit, and the tables of the pages are written from it.

`python -m benchmarks --write` measures them, and writes the file and the tables; `python -m benchmarks.published` only
writes the tables.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import trioflow

from .cases.nodes import MANY, ONE
from .cases.small import GRAPHS
from .elapsed.report import COLUMNS as ELAPSED_COLUMNS
from .elapsed.ways import WAYS
from .figures import Figure
from .plans import FIGURE_SHAPES, LOOPS
from .report import as_text
from .tables import number

ROOT: Final = Path(__file__).resolve().parents[1]
FILE: Final = Path(__file__).with_name("published.json")
PAGES: Final = (ROOT / "docs" / "benchmarks.md",)
TABLE: Final = re.compile(
    r"(?<=<!-- figures: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL
)
"""A table on a page, between two comments."""

Key = tuple[str, str, str]
"""Group, row and column of a figure."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: the figure, or the least and the greatest of several."""

    keys: Sequence[Key]
    form: Callable[[float], str] = number

    def show(self, values: Mapping[Key, float]) -> str:
        found = [values[key] for key in self.keys if key in values]
        if not found:
            return "–" if self.keys else ""
        return " to ".join(
            dict.fromkeys((self.form(min(found)), self.form(max(found))))
        )


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a page."""

    columns: Sequence[str]
    rows: Mapping[str, Sequence[Cell]]

    @property
    def keys(self) -> Iterator[Key]:
        return (
            key for cells in self.rows.values() for cell in cells for key in cell.keys
        )

    def as_markdown(self, values: Mapping[Key, float]) -> str:
        return markdown(
            self.columns,
            [
                [row, *(cell.show(values) for cell in cells)]
                for row, cells in self.rows.items()
            ],
        )


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head, *rest = (f"| {' | '.join(line)} |\n" for line in (columns, *rows))
    return head + "|---|" + "---:|" * (len(columns) - 1) + "\n" + "".join(rest)


# ---- the tables


def on_loops(rows: Mapping[str, tuple[str, str]]) -> dict[str, list[Cell]]:
    """Return cells for each loop, from the group and the row of a figure."""
    return {
        name: [Cell([(*figure, loop)]) for loop in LOOPS]
        for name, figure in rows.items()
    }


SMALL: Final = [
    (shape, body)
    for shape in GRAPHS
    if "watched" not in shape
    for body in ("no-op", "checkpoint")
]
RUNNING: Final = [
    f"{body}, {loop}" for body in ("no-op", "checkpoint", "nap") for loop in LOOPS
]
IN_A_WINDOW: Final = [f"window 16, no-op, {loop}" for loop in LOOPS]
PER_WAY: Final = {
    metric: ELAPSED_COLUMNS[metric][2]
    for metric in ("simulated 4", "simulated 16", "simulated 64", "worst", "CPU")
}
"""The metrics of elapsed time that do not depend on what else runs on the machine."""


TABLES: Final = {
    "small": Table(
        (
            "",
            "again, trio",
            "built, trio",
            "again, asyncio",
            "built, asyncio",
            "turns, asyncio",
        ),
        {
            f"{shape}, {body}": [
                *(
                    Cell([("small", f"{shape}, {body}, {how}", loop)])
                    for loop in LOOPS
                    for how in ("again", "built")
                ),
                Cell([("small", f"{shape}, {body}, turns", "asyncio")]),
            ]
            for shape, body in SMALL
        },
    ),
    "elapsed": Table(
        ("", *(ELAPSED_COLUMNS[metric][0] for metric in PER_WAY)),
        {
            way.label: [
                Cell([("elapsed", way.label, metric)], form.format if form else number)
                for metric, form in PER_WAY.items()
            ]
            for way in WAYS
            if not way.name.startswith(("anyio", "aiometer", "Dask"))
        },
    ),
    "running": Table(
        ("", *FIGURE_SHAPES),
        {
            row: [
                Cell([("running", row, shape)] if shape in shapes else [])
                for shape in FIGURE_SHAPES
            ]
            for rows, shapes in (
                (RUNNING[:4], FIGURE_SHAPES),
                (RUNNING[4:], ("wide", "tree")),
                (IN_A_WINDOW, ("wide", "layered")),
                (
                    [
                        "no-op, asynciojobs",
                        *(f"no-op, {loop}, in µs" for loop in LOOPS),
                    ],
                    FIGURE_SHAPES,
                ),
            )
            for row in rows
        },
    ),
    "sleepers": Table(
        ("", *LOOPS),
        on_loops(
            {
                "10,000 jobs that sleep": ("others", "all sleep 1 s at once"),
                "the same, without the garbage collector": (
                    "others",
                    "all sleep 1 s at once, collector off",
                ),
                "bytes of a waiting job": ("others", "memory of a waiting job"),
            }
        ),
    ),
    "limits": Table(
        ("", *LOOPS),
        on_loops(
            {
                "10,000 different needs, beside a queue by hand": (
                    "others",
                    "different needs",
                ),
                "a job of 10,000 different needs, beside one of 250": (
                    "others",
                    "different needs: a job of many beside one of few",
                ),
                "chains in a window of 8, beside a semaphore by hand": (
                    "others",
                    "chains in a window, checkpoint",
                ),
                "requests under a `Rate`: time, beside the least that the server allows": (
                    "limits",
                    "requests per minute, time",
                ),
                "the same: rejected": ("limits", "requests per minute, refused"),
                "tokens under a `Rate`: time, beside the least that the server allows": (
                    "limits",
                    "tokens per minute, time",
                ),
                "the same: rejected requests": ("limits", "tokens per minute, refused"),
                "time with `Adaptive`, beside the best fixed window": (
                    "limits",
                    "a server whose capacity changes",
                ),
            }
        ),
    ),
    "commands": Table(
        ("", *LOOPS, "`trioflow batch`"),
        {
            name: [Cell([("commands", row, column)]) for column in (*LOOPS, "batch")]
            for name, row in (
                ("`true`, beside `xargs -P2`", "true, xargs"),
                ("`true`, beside GNU parallel", "true, GNU parallel"),
                ("1 KiB of output, beside `xargs -P2`", "1 KiB captured, xargs"),
            )
        },
    ),
    "nodes": Table(
        ("", *LOOPS),
        on_loops(
            {
                "one open connection, beside xargs over ControlMaster": (
                    "nodes",
                    f"{ONE}, xargs over ControlMaster",
                ),
                "a connection for each command, beside xargs over ssh": (
                    "nodes",
                    f"{MANY}, xargs over ssh",
                ),
            }
        ),
    ),
}


# ---- the file

FACTS: Final = {
    "measured": "began",
    "Python": "Python",
    "cores": "cores",
    "load": "load before and after",
}
"""The facts of a report that the file keeps of each run, by the column of the table of runs."""


@dataclass(frozen=True, slots=True)
class Results:
    """What the file has: the facts of each run by its commit, and each figure with the commit of its run."""

    runs: dict[str, dict[str, str]]
    figures: dict[Key, tuple[float, str]]

    @classmethod
    def load(cls) -> Results:
        content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
        figures = {
            tuple(key): (value, commit) for *key, value, commit in content["figures"]
        }
        return cls(content["runs"], figures)

    def add(
        self, measured: Iterable[Figure], commit: str, facts: dict[str, str]
    ) -> None:
        """Replace the figures of the tables that were measured, and forget the runs of which none is left."""
        wanted = {key for table in TABLES.values() for key in table.keys}
        for figure in measured:
            key = (figure.group, figure.row, figure.column)
            if key in wanted and figure.value is not None:
                self.figures[key] = (float(f"{figure.value:.4g}"), commit)
        for key in self.figures.keys() - wanted:
            del self.figures[key]
        self.runs[commit] = {"version": trioflow.__version__, **facts}
        for unused in self.runs.keys() - {
            commit for _, commit in self.figures.values()
        }:
            del self.runs[unused]

    def save(self) -> None:
        rows = [[*key, *found] for key, found in sorted(self.figures.items())]
        FILE.write_text(as_text({"runs": self.runs, "figures": rows}), encoding="utf-8")

    def fill(self, page: str) -> str:
        """Return a page with its tables as the figures are.

        A table names the commits of its figures, unless all are those of the first run in the page's table of runs.
        """
        has_runs = any(name == "runs" for name, _ in TABLE.findall(page))
        usual = next(iter(self.runs), None) if has_runs else None
        return TABLE.sub(
            lambda found: f"{found[1]}{found[2]}{self.table(found[1], usual)}", page
        )

    def table(self, name: str, usual: str | None = None) -> str:
        """Return a table, and a line with the commits of its figures unless it is `usual`; for "runs", these."""
        if name == "runs":
            rows = [
                [f"`{commit}`", *facts.values()] for commit, facts in self.runs.items()
            ]
            return markdown(["commit", *next(iter(self.runs.values()))], rows)
        table = TABLES[name]
        shown = table.as_markdown(
            {key: value for key, (value, _) in self.figures.items()}
        )
        commits = list(
            dict.fromkeys(
                self.figures[key][1] for key in table.keys if key in self.figures
            )
        )
        if commits == [usual]:
            return shown
        return f"{shown}\nMeasured at {' and '.join(f'`{commit}`' for commit in commits)}.\n"


def commit() -> str:
    """Return the last commit that changed the package, which is measured.

    Raises:
        SystemExit: the package differs from it, or a library is missing that may be the best rival.

    """

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    if missing := [
        library
        for library in ("asynciojobs", "dask", "sdax")
        if importlib.util.find_spec(library) is None
    ]:
        raise SystemExit(
            f"Figures are beside {', '.join(missing)}, too: pip install -e . --group bench"
        )
    if git("status", "--porcelain", "--", "trioflow"):
        raise SystemExit(
            "Commit the package first: each figure is kept with the commit that it was measured at."
        )
    return git("log", "-1", "--format=%h", "--abbrev=8", "--", "trioflow")


def publish(measured: Iterable[Figure], commit: str, facts: Mapping[str, str]) -> None:
    """Keep what was measured in the file, and write the tables of the pages."""
    results = Results.load()
    results.add(
        measured,
        commit,
        {name: facts[fact].partition(",")[0] for name, fact in FACTS.items()},
    )
    results.save()
    write_pages(results)


def write_pages(results: Results) -> None:
    for page in PAGES:
        page.write_text(
            results.fill(page.read_text(encoding="utf-8")), encoding="utf-8"
        )


if __name__ == "__main__":
    write_pages(Results.load())
