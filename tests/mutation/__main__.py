"""Put small faults into the package, one at a time, and see whether the tests notice them.

    python -m tests.mutation                            # 200 of the whole package: an hour or two
    python -m tests.mutation --room admission --sample 50
    python -m tests.mutation --seed 7                   # the sample that a run with this seed has tried

First the tests of a room run once, with coverage, so that each mutant meets only the tests that reach its line, the
most promising ones first; if none does, those that start processes, in which coverage is not measured. A mutant is
killed if a test fails, or does not end in time. One that survives needs a test, unless it only costs time or memory;
or the code there may be simpler. Each run draws a fresh sample, and prints its seed.

Everything happens in copies of the tree and, for root, among processes of its own."""

import argparse
import collections
import concurrent.futures
import functools
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from .mutants import Mutant, mutants_of, write

ROOT: Final = Path(__file__).resolve().parents[2]
ENGINE: Final = (
    "tests/run",
    "tests/scheduler",
    "tests/job",
    "tests/laws",
    "tests/model",
    "tests/clock",
)
MONITOR: Final = ("tests/view/monitor/test_monitor.py",)
VIEWS: Final = ("tests/view/text", *MONITOR, "tests/simulation", "tests/testing")
KINDS: Final = (
    "tests/jobs/test_thread_job.py",
    "tests/jobs/command/test_callbacks.py",
)
PUBLIC: Final = ("tests/test_stability.py", "tests/docs/test_reference.py")
ROOMS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "backend": ("trioflow/_core/backend", ENGINE),
    "job": (
        "trioflow/_core/job",
        (*ENGINE, *VIEWS, *KINDS, *PUBLIC, "tests/journal/test_own_journals.py"),
    ),
    "scheduler": (
        "trioflow/_core/scheduler",
        (
            *ENGINE,
            *VIEWS,
            *PUBLIC,
            "tests/cli/test_check.py",
            "tests/jobs/test_answer.py",
        ),
    ),
    "parts": (
        "trioflow/_core/parts",
        (*ENGINE, *VIEWS, *KINDS, "tests/journal/test_first.py"),
    ),
    "words": ("trioflow/_core/words", (*ENGINE, *VIEWS)),
    "run": (
        "trioflow/_core/run",
        (
            *ENGINE,
            *VIEWS,
            *KINDS,
            *(
                f"tests/journal/test_{name}.py"
                for name in ("restoring", "budgets", "growing")
            ),
        ),
    ),
    "adaptive": ("trioflow/_adaptive.py", ("tests/run/test_adaptive.py", "tests/laws")),
    "admission": (
        "trioflow/_core/admission",
        (*ENGINE, *VIEWS, "tests/journal/test_budgets.py"),
    ),
    "base": ("trioflow/_core/base", (*ENGINE, *VIEWS, "tests/view/test_units.py")),
    "batch": ("trioflow/batch", ("tests/batch",)),
    "check": (
        "trioflow/_check.py",
        ("tests/cli/test_check.py", "tests/scheduler/test_file_conflicts.py"),
    ),
    "cli": (
        "trioflow/cli",
        ("tests/cli", "tests/batch", "tests/journal/test_answers.py"),
    ),
    "command options": (
        "trioflow/_command_options.py",
        ("tests/batch", "tests/cli", "tests/jobs/posix/test_cpus.py"),
    ),
    "clock": ("trioflow/clock", ("tests/clock",)),
    "compat": ("trioflow/compat", ("tests/compat",)),
    "dask": ("trioflow/dask.py", ("tests/test_dask.py",)),
    "jobs": ("trioflow/jobs", ("tests/jobs",)),
    "journal": ("trioflow/journal", ("tests/journal", "tests/cli/test_journal.py")),
    "otel": ("trioflow/otel.py", ("tests/test_otel.py",)),
    "loaded files": (
        "trioflow/_loaded_files.py",
        ("tests/view/look/test_reload.py", "tests/jobs/process"),
    ),
    "looking": (
        "trioflow/_scheduler.py",
        ("tests/scheduler", "tests/view/text", "tests/view/graph"),
    ),
    "simulation": ("trioflow/simulation", ("tests/simulation",)),
    "testing": ("trioflow/testing", ("tests/testing", "tests/model/test_explored.py")),
    "view": ("trioflow/view", ("tests/view", "tests/simulation")),
}
"""The folder or file of each room, and the tests that are to notice its faults."""
PYTEST: Final = (
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "-m",
    "not soak",
    "--no-header",
)
ALONE: Final = (
    "unshare",
    "--pid",
    "--fork",
    "--mount-proc",
    "--kill-child",
    "sh",
    "-c",
    '"$0" "$@"; exit $?',
)
"""A command that hides all other processes from the tests: a fault may end or stop any process that they see."""
LEFT_OUT: Final = (".git", ".venv", "venv", ".*_cache", "build", "dist", ".hypothesis")
FIRST_TESTS: Final = 150
"""How many tests run first for a mutant: a line of the engine is reached by thousands.

Half of them are the shortest, and half those that reach the most lines of the file, of each function one first: with
the shortest alone, many faults in lines that each run reaches met only tests that were about something else.
"""
STARTS_PROCESSES: Final = re.compile(r"\b(subprocess|python|child)\b")
"""Words in files of tests that start other processes."""
ISOLATION: Final = "TRIOFLOW_ISOLATION"
"""This variable chooses the isolation of the backends that is tested."""
KILLED, SURVIVED, UNREACHED = "killed", "survived", "no test reaches it"


def main(arguments: Sequence[str] | None = None) -> int:
    """Try the mutants that the command line asks for; return 0 if each is killed."""
    options = parse(arguments)
    os.environ.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # each mutant would compile pytest's plugins again, for a second
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)
    chosen = sample(options.room or ROOMS, options.sample, seed, options.file)
    print(
        f"{sum(map(len, chosen.values()))} mutants, drawn by --seed {seed}", flush=True
    )
    counts = collections.Counter[str]()
    for room, mutants in chosen.items():
        with tempfile.TemporaryDirectory() as directory:
            counts += try_room(room, mutants, Path(directory), options.workers)
    print(
        ", ".join(f"{count} {word}" for word, count in counts.most_common()), flush=True
    )
    return 1 if counts[SURVIVED] + counts[UNREACHED] else 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m tests.mutation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--room", action="append", choices=ROOMS, help="default: the whole package"
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=200,
        help="mutants of all rooms together; default: 200",
    )
    parser.add_argument(
        "--seed", type=int, help="of the sample; default: a new one each time"
    )
    parser.add_argument(
        "--file", default="", help="only files whose path has this in it"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=os.cpu_count() or 1,
        help="how many at once; default: each core",
    )
    return parser.parse_args(arguments)


def sample(
    rooms: Iterable[str], size: int, seed: int, file: str = ""
) -> dict[str, list[Mutant]]:
    """Draw the given number of mutants of all these rooms; return them by room, without the rooms that have none."""
    every = [
        (room, mutant)
        for room in rooms
        for mutant in mutants_in(room)
        if file in mutant.path
    ]
    found: dict[str, list[Mutant]] = {}
    for room, mutant in random.Random(seed).sample(every, min(size, len(every))):
        found.setdefault(room, []).append(mutant)
    return found


def try_room(
    room: str, chosen: Sequence[Mutant], directory: Path, workers: int
) -> collections.Counter[str]:
    """Try these mutants of one room, and return their fates."""
    folder, tests = ROOMS[room]
    print(f"{room}: {len(chosen)} mutants", flush=True)
    copies = queue.SimpleQueue[Path]()
    for number in range(workers):
        copies.put(copied(directory / f"copy{number}"))
    start = time.monotonic()
    whole = copied(directory / "whole")
    reaches = {
        way: reached(whole, folder, tests, workers, {ISOLATION: way})
        for way in sorted({way for mutant in chosen for way in ways_to(mutant)})
    }
    print(
        f"  the tests without a fault took {time.monotonic() - start:.0f} s", flush=True
    )
    counts = collections.Counter[str]()

    def attempt(mutant: Mutant) -> str:
        copy = copies.get()
        try:
            return fate(mutant, copy, *(reaches[way] for way in ways_to(mutant)))
        finally:
            copies.put(copy)

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        for mutant, verdict in zip(chosen, pool.map(attempt, chosen), strict=True):
            counts[verdict] += 1
            if verdict != KILLED:
                print(f"  {verdict}: line {mutant.line} of {mutant.name}", flush=True)
    return counts


def mutants_in(room: str) -> list[Mutant]:
    return [mutant for file in files_in(room) for mutant in mutants_of(ROOT, file)]


def files_in(room: str) -> list[Path]:
    place = ROOT / ROOMS[room][0]
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


def ways_to(mutant: Mutant) -> tuple[str, ...]:
    """Return the isolations to try: the engine uses some files with one of them only."""
    if Path(mutant.path).name.startswith("_direct"):
        return ("direct",)
    return ("fast", "direct") if "backend" in mutant.path else ("fast",)


def fate(mutant: Mutant, copy: Path, *reaches: "Reach") -> str:
    """Put the mutant into a copy of the tree, run the tests that reach it with each isolation, and return its fate."""
    reaching = [reach.tests(mutant) for reach in reaches]
    is_reached = any(reaching)
    text = mutant.put_into(copy)
    try:
        for reach, found in zip(reaches, reaching, strict=True):
            tests = found if is_reached else reach.starting_processes
            for some in (tests[:FIRST_TESTS], tests[FIRST_TESTS:]):
                if some and noticed(
                    copy, some, 30 + 5 * reach.seconds(some), reach.environment
                ):
                    return KILLED
    finally:
        write(copy / mutant.path, text)
    return SURVIVED if is_reached else UNREACHED


def noticed(
    copy: Path, tests: Sequence[str], limit: float, environment: Mapping[str, str]
) -> bool:
    """Run these tests; return whether one failed, ended the process, or exceeded the given number of seconds."""
    (copy / "chosen.txt").write_text("\n".join(tests), encoding="utf-8")
    (ended := copy / "ended.xml").unlink(
        missing_ok=True
    )  # the process may end with 0 in the middle
    command = [
        *alone(),
        *PYTEST,
        "-x",
        "-n",
        "0",
        "--timeout",
        "30",
        f"--junitxml={ended}",
        "@chosen.txt",
    ]
    with subprocess.Popen(
        command, cwd=copy, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            return process.wait(limit) != 0 or not ended.exists()
        except subprocess.TimeoutExpired:
            return True
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)


@functools.cache
def alone() -> tuple[str, ...]:
    """Return the beginning of the command that runs tests without other processes; nothing if only root may do that."""
    if not shutil.which(ALONE[0]):
        return ()
    return (
        ALONE
        if subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode
        == 0
        else ()
    )


def copied(place: Path) -> Path:
    shutil.copytree(ROOT, place, ignore=shutil.ignore_patterns(*LEFT_OUT))
    return place


@dataclass(frozen=True)
class Reach:
    """Which tests reach which line, and how long each takes."""

    by_line: dict[tuple[str, int], list[str]]
    durations: dict[str, float]
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables that are added to the environment of the tests."""

    def tests(self, mutant: Mutant) -> list[str]:
        """Return the tests that reach a mutant's line, or its file if the line runs at imports too; see FIRST_TESTS."""
        line = mutant.line - (
            mutant.old == "continue"
        )  # Python jumps there from the condition, which is before it
        found = self.by_line.get((mutant.path, line), [])
        if "" in found:  # the line also ran outside of any test
            found = [
                *({*found, *(self.lines.get(mutant.path) or self.durations)} - {""})
            ]
        shortest = self.shortest_first(found)
        if len(found) <= FIRST_TESTS:
            return shortest
        lines = self.lines[mutant.path]
        reaching_most = one_of_each_first(sorted(found, key=lambda test: -lines[test]))
        chosen = {*shortest[: FIRST_TESTS // 2], *reaching_most[: FIRST_TESTS // 2]}
        return sorted(shortest, key=lambda test: test not in chosen)

    @functools.cached_property
    def starting_processes(self) -> list[str]:
        """The tests in files that start processes, the shortest first."""

        @functools.cache
        def starts_processes(file: str) -> bool:
            return (
                STARTS_PROCESSES.search((ROOT / file).read_text(encoding="utf-8"))
                is not None
            )

        return self.shortest_first(
            [
                test
                for test in self.durations
                if starts_processes(test.partition("::")[0])
            ]
        )

    def shortest_first(self, tests: Sequence[str]) -> list[str]:
        return sorted(tests, key=lambda test: self.durations.get(test, 1.0))

    @functools.cached_property
    def lines(self) -> dict[str, collections.Counter[str]]:
        """Return how many lines of each file each test reaches."""
        found = collections.defaultdict[str, collections.Counter[str]](
            collections.Counter
        )
        for (path, _), tests in self.by_line.items():
            found[path].update(test for test in tests if test)
        return found

    def seconds(self, tests: Sequence[str]) -> float:
        return sum(self.durations.get(test, 1.0) for test in tests)


def one_of_each_first(tests: Sequence[str]) -> list[str]:
    turns = collections.Counter[str]()

    def turn(test: str) -> int:
        function = test.partition("[")[0]
        turns[function] += 1
        return turns[function]

    return sorted(tests, key=turn)


def reached(
    copy: Path,
    folder: str,
    tests: Sequence[str],
    workers: int,
    environment: Mapping[str, str],
) -> Reach:
    """Run the tests of a room without a fault, with this added to the environment.

    Raises:
        SystemExit: they do not pass.

    """
    source = folder if (ROOT / folder).is_dir() else "trioflow"
    noting = (
        f"--cov={source}",
        "--cov-context=test",
        "--cov-report=",
        "--cov-fail-under=0",
        "--junitxml=times.xml",
    )
    done = subprocess.run(
        [*PYTEST, "-n", str(workers), *noting, *tests],
        cwd=copy, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(
            f"The tests do not pass without a fault:\n{done.stdout[-4000:]}"
        )
    import coverage  # not when the tests of this are collected

    data = coverage.CoverageData(str(copy / ".coverage"))
    data.read()
    by_line = dict[tuple[str, int], list[str]]()
    for file in data.measured_files():
        path = Path(file).relative_to(copy).as_posix()
        for line, contexts in data.contexts_by_lineno(file).items():
            by_line[path, line] = list(
                {context.partition("|")[0] for context in contexts}
            )
    return Reach(by_line, dict(durations(copy / "times.xml")), environment)


def durations(file: Path) -> Iterator[tuple[str, float]]:
    """Yield the names of all tests, as pytest takes them, and how long each took."""
    for case in ElementTree.parse(file).iter("testcase"):
        module = case.attrib["classname"].replace(".", "/")
        yield f"{module}.py::{case.attrib['name']}", float(case.attrib["time"])


if __name__ == "__main__":
    sys.exit(main())
