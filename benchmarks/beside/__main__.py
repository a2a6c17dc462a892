"""`python -m benchmarks.beside`: install each library, measure its program, and print one table."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from . import __doc__ as about

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[1]
RESULTS: Final = HERE.parent / "results" / "beside"
HOPELESS, FLAKY = "37 121", "5 26 58 77 99 150"
DONE: Final = 158 + 38
"""How many jobs can be done while two of the fetches fail."""
PATIENCE: Final = 300


@dataclass(frozen=True)
class Way:
    """One library, and the program that is written for it."""

    label: str
    file: str
    packages: tuple[str, ...] = ()
    module: str = ""
    command: tuple[str, ...] = ()  # in place of Python with the file
    resume: tuple[tuple[str, ...], ...] = ()  # in place of the same command again


SNAKEMAKE: Final = (
    "snakemake",
    "-s",
    str(HERE / "Snakefile"),
    "--cores",
    "16",
    "--keep-going",
)
WAYS: Final = (
    Way("trioflow", "trioflow_jobs.py", (f"{ROOT}[journal]",), "trioflow"),
    Way("TaskGroup", "task_group.py", (), "asyncio"),
    Way("asynciojobs", "asynciojobs_jobs.py", ("asynciojobs",), "asynciojobs"),
    Way("sdax", "sdax_tasks.py", ("sdax",), "sdax"),
    Way("Dask", "dask_futures.py", ("dask[distributed]",), "dask.distributed"),
    # With the FastAPI of today (0.165), the server of Prefect 3.8.8 does not start; pip then takes 3.7.2.
    Way("Prefect", "prefect_flow.py", ("prefect>=3", "fastapi<0.125"), "prefect"),
    Way(
        "Snakemake",
        "Snakefile",
        ("snakemake",),
        "snakemake.cli",
        command=SNAKEMAKE,
        resume=((*SNAKEMAKE, "--unlock"), (*SNAKEMAKE, "--rerun-incomplete")),
    ),
)
COLUMNS: Final = {
    "lines": "lines of code",
    "install": "to install, s",
    "size": "MB",
    "import": "to import, s",
    "elapsed": "elapsed, s",
    "overhead": "overhead of a job, ms",
    "memory": "peak memory, MiB",
    "done": f"done, of {DONE}",
    "printed": "lines printed",
    "named": "of them name a fetch that failed",
    "twice": "done twice after the kill",
    "again": "begun again",
    "missing": "missing at the end",
    "left": "processes left",
}


class Program:
    """A run of one way's program in a folder, and all processes that it starts."""

    def __init__(
        self,
        way: Way,
        python: Path,
        folder: Path,
        words: Sequence[str] = (),
        **settings: str,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.mark = f"BESIDE={os.getpid()}-{time.monotonic_ns()}"
        words = words or way.command or (str(python), str(HERE / way.file))
        if way.command:
            words = (str(python.parent / words[0]), *words[1:])
        name, _, value = self.mark.partition("=")
        storage = str(
            folder / "storage"
        )  # without it, Prefect keeps results where other runs find them
        homes = {
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_LOCAL_STORAGE_PATH": storage,
            "HOME": str(folder),
        }
        prefect = {
            "ANALYTICS_ENABLED": "false",
            "EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        }
        quiet = {f"PREFECT_SERVER_{name}": value for name, value in prefect.items()} | {
            "DO_NOT_TRACK": "1"
        }
        self.output = (folder / "printed").open("ab")
        self.process = subprocess.Popen(
            words,
            cwd=folder,
            env={**os.environ, **homes, **quiet, **settings, name: value},
            stdout=self.output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def is_running(self) -> bool:
        return self.process.poll() is None

    def processes(self) -> Iterator[int]:
        """Yield each process that has inherited the mark."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    yield int(folder.name)
            except OSError:  # it has ended, or is another user's
                pass

    def memory(self) -> float:
        """Return the MiB of memory of all its processes, shared pages counted once."""
        total = 0
        for pid in self.processes():
            try:
                found = re.search(
                    r"^Pss: +(\d+)",
                    Path(f"/proc/{pid}/smaps_rollup").read_text(),
                    re.MULTILINE,
                )
            except OSError:
                continue
            total += int(found[1]) if found else 0
        return total / 1024

    def events(self) -> list[tuple[str, str, float]]:
        """Return what its jobs recorded: a start or an end, which job, and when."""
        log = self.folder / "log"
        rows = (
            [line.split() for line in log.read_text().splitlines()]
            if log.exists()
            else []
        )
        return [(event, job, float(when)) for event, job, when in rows]

    def ended(self) -> Counter[str]:
        return Counter(job for event, job, _ in self.events() if event == "end")

    def wait(self) -> None:
        self.process.wait(PATIENCE)
        self.clean_up()

    def kill(self) -> int:
        """Kill its first process alone, and return how many others are alive two seconds later."""
        self.process.kill()
        self.process.wait()
        time.sleep(2)
        return self.clean_up()

    def clean_up(self) -> int:
        """Kill its remaining processes, and return their number."""
        left = list(self.processes())
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.output.close()
        return len(left)


def measure(way: Way, folder: Path) -> dict[str, float]:
    """Measure one way in an empty folder."""
    found: dict[str, float] = {"lines": lines_of(HERE / way.file)}
    python = install(way, folder, found)
    found["import"] = import_time(way, python)

    program = Program(way, python, folder / "fast", NAP="0")
    program.wait()
    times = [when for _, _, when in program.events()]
    if not times:
        raise ValueError(f"no job ran; see {program.folder / 'printed'}")
    found["overhead"] = (max(times) - min(times)) / 200 * 1e3

    start, peak = time.perf_counter(), 0.0
    program = Program(way, python, folder / "failing", HOPELESS=HOPELESS, FLAKY=FLAKY)
    while program.is_running():
        peak = max(peak, program.memory())
        time.sleep(0.05)
    found |= {
        "elapsed": time.perf_counter() - start,
        "memory": peak,
        "done": len(program.ended()),
    }
    program.wait()
    printed = (program.folder / "printed").read_text().splitlines()
    found["printed"] = len(printed)
    failed = [
        rf"fetch\D{{0,3}}{number}\b|server of {number}\b" for number in HOPELESS.split()
    ]
    found["named"] = sum(
        any(re.search(one, line) for one in failed) for line in printed
    )
    return found | killed(way, python, folder / "killed")


def killed(way: Way, python: Path, folder: Path) -> dict[str, float]:
    """Kill a program when half of its jobs are done, start it again, and compare the two runs."""
    program = Program(way, python, folder, FLAKY=FLAKY, NAP="0.1")
    deadline = time.monotonic() + PATIENCE
    while (
        program.ended().total() < 100
        and program.is_running()
        and time.monotonic() < deadline
    ):
        time.sleep(0.01)
    left = program.kill()
    before, seen = program.ended(), len(program.events())
    open_ones = {job for event, job, _ in program.events() if event == "start"} - set(
        before
    )
    for words in way.resume or ((),):
        program = Program(way, python, folder, words, FLAKY=FLAKY, NAP="0.1")
        program.wait()
    after = {job for event, job, _ in program.events()[seen:] if event == "end"}
    return {
        "twice": len(after & set(before)),
        "again": len(after & open_ones),
        "missing": 200 - len(program.ended()),
        "left": left,
    }


def install(way: Way, folder: Path, found: dict[str, float]) -> Path:
    """Create an environment with the library alone, record its size, and return its Python."""
    home = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    python, before = home / "bin" / "python", size_of(home)
    start = time.perf_counter()
    if way.packages:
        subprocess.run(
            [python, "-m", "pip", "install", "-q", *way.packages], check=True
        )
    found |= {"install": time.perf_counter() - start, "size": size_of(home) - before}
    return python


def import_time(way: Way, python: Path) -> float:
    """Return the seconds to import the library, the best of five, without the start of Python."""

    def best_of(code: str) -> float:
        times: list[float] = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([python, "-c", code], check=True)
            times.append(time.perf_counter() - start)
        return min(times)

    return best_of(f"import {way.module}") - best_of("pass")


def lines_of(file: Path) -> int:
    """Count the lines that are neither empty nor a comment."""
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#")
        for line in file.read_text().splitlines()
    )


def size_of(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6


def table(results: dict[str, dict[str, float]]) -> str:
    """Return the figures in Markdown, a column for each way."""
    rows = [["", *results], ["---", *["---:"] * len(results)]]
    rows += [
        [text, *[figure(values, key) for values in results.values()]]
        for key, text in COLUMNS.items()
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def figure(values: dict[str, float], key: str) -> str:
    if key not in values:
        return "–"
    digits = {"import": 2, "overhead": 2, "elapsed": 1, "install": 1}
    return f"{values[key]:,.{digits.get(key, 0)}f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return 0; 1 if a library could not be installed or measured."""
    parser = argparse.ArgumentParser("python -m benchmarks.beside", description=about)
    parser.add_argument(
        "--ways",
        nargs="+",
        choices=[way.label for way in WAYS],
        metavar="WAY",
        help="default: all",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=RESULTS,
        metavar="DIR",
        help="default: benchmarks/results/beside",
    )
    options = parser.parse_args(arguments)
    results: dict[str, dict[str, float]] = {}
    failed = False
    for way in WAYS:
        if options.ways and way.label not in options.ways:
            continue
        folder = options.output / way.label
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        start = time.perf_counter()
        try:
            results[way.label] = measure(way, folder)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            print(f"{way.label} cannot be measured: {error}", file=sys.stderr)
            failed = True
        print(f"{time.perf_counter() - start:6.0f} s  {way.label}", file=sys.stderr)
    print(table(results))
    (options.output / "table.md").write_text(table(results) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
