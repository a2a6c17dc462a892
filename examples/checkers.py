"""Run several checkers over many git repositories, and show what they found as a table.

    python examples/checkers.py REPOSITORY ...
    python examples/checkers.py                            # makes eight repositories of the standard library

Each repository is cloned. Then the checkers that are installed run in the clone: compileall, tabnanny, ruff and mypy.

    clone asyncio ──► compileall, tabnanny, ruff, mypy on asyncio      one at a time: they write their caches there
    clone email   ──► ...                                              beside the others, as many as there are cores

A checker that finds something has done its work; one that takes too long, or crashes, has failed. A repository that
cannot be cloned blocks its own checkers, and no others.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from pathlib import Path

from trioflow import CommandJob, JobState, Monitor, PerKey, Pool, Scheduler, Trace
from trioflow.view import save

PACKAGES = [
    "asyncio",
    "concurrent",
    "email",
    "http",
    "json",
    "logging",
    "unittest",
    "urllib",
]
CHECKERS = {
    "compileall": ["compileall", "-q", "."],
    "tabnanny": ["tabnanny", "-q", "."],
    "ruff": [
        "ruff",
        "check",
        "--quiet",
        "--isolated",
        "--output-format=concise",
        "--select=B,F",
        ".",
    ],
    "mypy": [
        "mypy",
        "--no-error-summary",
        "--follow-imports=skip",
        "--explicit-package-bases",
        ".",
    ],
}


def scenario(repositories: Iterable[Path], work: Path) -> Scheduler:
    """Return the checks of all repositories, whose clones are made in the directory `work`."""
    checks = Scheduler(
        pool=Pool(clone=PerKey(1)), jobs_window=os.cpu_count(), label="checks"
    )
    for repository in repositories:
        name = repository.name
        clone = CommandJob(
            ["git", "clone", "-q", repository, work / name],
            label=f"clone {name}",
            timeout=600,
        )
        checks.add(clone)
        for checker, arguments in CHECKERS.items():
            if importlib.util.find_spec(arguments[0]):
                check = CommandJob(
                    [sys.executable, "-m", *arguments],
                    cwd=work / name,
                    label=f"{checker} {name}",
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    check={0, 1},
                    needs={"clone": name},
                    timeout=300,
                )
                check.requires(clone)
                checks.add(check)
    return checks


def found(job: CommandJob) -> str:
    """Return what to show of a checker: how many lines it has printed, or why there are none."""
    if job.state is not JobState.SUCCEEDED:
        return job.state.name.lower()
    lines = len((job.result().stdout or b"").splitlines())
    return str(lines) if lines else "·"


def table(checks: Scheduler) -> str:
    """Return a row for each repository, with a column for each checker."""
    cells: dict[str, dict[str, str]] = {}
    for job in checks:
        checker, _, name = job.label.partition(" ")
        if isinstance(job, CommandJob) and checker in CHECKERS:
            cells.setdefault(name, {})[checker] = found(job)
    columns = list(next(iter(cells.values()), {}))
    width = max(map(len, ["repository", *cells]))
    rows = [f"{'repository':{width}}" + "".join(f"{column:>12}" for column in columns)]
    rows += [
        f"{name:{width}}" + "".join(f"{row[column]:>12}" for column in columns)
        for name, row in cells.items()
    ]
    return "\n".join(rows)


def make_repositories(parent: Path) -> list[Path]:
    """Make git repositories of packages of the standard library."""
    identity = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    for name in PACKAGES:
        library = Path(sysconfig.get_path("stdlib")) / name
        shutil.copytree(
            library,
            parent / name / name,
            ignore=shutil.ignore_patterns("__pycache__", "test*"),
        )
        for command in (
            ["init", "-q"],
            ["add", "."],
            [*identity, "commit", "-q", "-m", f"{name} of the library"],
        ):
            subprocess.run(["git", *command], cwd=parent / name, check=True)
    return [parent / name for name in PACKAGES]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "repositories",
        nargs="*",
        type=Path,
        metavar="REPOSITORY",
        help="a git repository",
    )
    parser.add_argument(
        "--monitor", action="store_true", help="show the run while it goes on"
    )
    parser.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE",
        help="write the timeline of the run, as SVG",
    )
    options = parser.parse_args()
    trace = Trace()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        repositories = [
            path.resolve() for path in options.repositories
        ] or make_repositories(work / "made")
        checks = scenario(repositories, work / "clones")
        checks.run(instruments=[trace, Monitor()] if options.monitor else [trace])
    print(table(checks))
    if options.timeline is not None:
        save(trace, options.timeline)
    return 1 if checks.failures() else 0


if __name__ == "__main__":
    sys.exit(main())
