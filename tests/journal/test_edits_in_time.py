"""Random edits of a program at random instants of its run: what a result came from, and what a line says, agree.

    python -m tests.journal.test_edits_in_time 400 5400

A draw writes functions, each of which returns its version or raises it, and runs jobs of each kind that call them. At
random instants, a function gets another version, with a reload or without. The laws: a traceback quotes the version
that was raised; and the next run, which loads the file as it is by then, names exactly the restored jobs whose results
have another version than the file."""

import contextlib
import importlib
import itertools
import logging
import os
import random
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trioflow.look
from trioflow import First, Job, ProcessJob, Retry, Scheduler, ThreadJob, _loaded_files

FUNCTIONS = 4
HEAD = "import random\nfrom tests.journal.test_edits_in_time import between\n"
FUNCTION = """
async def later_{name}():
    if {version} % 5 == 0: raise ValueError({version})
    await between()
    return {version}

def now_{name}():
    if {version} % 5 == 0: raise ValueError({version})
    return {version}
"""
CHANGED = re.compile(r"the code of (\d+) restored jobs? has changed since")
OTHER_TEXT = "has changed since this program loaded it"
times = itertools.count(2)
current: list["Draw"] = []


async def between() -> None:
    """Let time pass in the body of a job, in which the program may be edited."""
    for _ in range(2):
        current[-1].may_edit()
        await anyio.lowlevel.checkpoint()


class Draw(logging.Handler):
    def __init__(self, seed: str, backend: Any, folder: Path) -> None:
        super().__init__()
        self.seed, self.backend, self.file = seed, backend, folder / "edited_steps.py"
        self.dice = random.Random(seed)
        self.name = self.file.stem
        self.versions = [self.dice.randrange(1, 5) for _ in range(FUNCTIONS)]
        self.reloads = self.dice.random() < 0.6
        self.edits, self.lines, self.found = (
            self.dice.randrange(4),
            list[str](),
            list[str](),
        )
        self.write()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())

    def write(self) -> None:
        lines = "".join(
            FUNCTION.format(name=name, version=version)
            for name, version in enumerate(self.versions)
        )
        # Lines that come and go move all functions.
        self.file.write_text(HEAD + "#\n" * self.dice.randrange(4) + lines)
        moment = next(times)
        os.utime(self.file, (moment, moment))

    def may_edit(self) -> None:
        if self.edits and self.dice.random() < 0.3:
            self.edits -= 1
            self.versions[self.dice.randrange(FUNCTIONS)] = self.dice.randrange(1, 40)
            self.write()
            if self.reloads and self.dice.random() < 0.8:
                with contextlib.suppress(RuntimeError):
                    trioflow.look.reload()

    def retries(self, error: Exception) -> bool:
        self.may_edit()
        return True

    def settled(self, job: Any) -> None:
        if (error := job.raised_exception()) is not None and not isinstance(
            job, ProcessJob
        ):
            line = traceback.extract_tb(error.__traceback__)[-1].line or ""
            if f"raise ValueError({error})" not in line:
                self.found.append(
                    f"{job.label} raised {error}, and its traceback quotes {line!r}"
                )
        self.may_edit()

    def run(self, has_processes: bool) -> list[Any]:
        """Load the program as it is by now, run it, and return its jobs."""
        _loaded_files.loaded.pop(str(self.file), None)
        sys.modules.pop(self.name, None)
        importlib.invalidate_caches()
        steps: Any = importlib.import_module(self.name)
        kinds: list[Any] = [Job, Job, ThreadJob] + [ProcessJob] * has_processes
        dice, jobs, members = (
            random.Random(f"jobs of {self.seed}"),
            list[Any](),
            list[Any](),
        )
        for number in range(6):
            kind = dice.choice(kinds)
            group = dice.choice([None, None, First, Scheduler])
            required = [member for member in members if dice.random() < 0.3]
            options: dict[str, Any] = (
                {"required": required, "run_if": "settled"} if required else {}
            )
            made = list[Any]()
            for place in range(1 if group is None else 2):
                function = getattr(
                    steps,
                    f"{'later' if kind is Job else 'now'}_{dice.randrange(FUNCTIONS)}",
                )
                retry = Retry(2, first=0, on=self.retries)
                own_options = options if group is None else {}
                made.append(
                    kind(
                        function,
                        label=f"job {number}.{place}",
                        retry=retry,
                        **own_options,
                    )
                )
            jobs += made
            members.append(
                made[0]
                if group is None
                else group(*made, label=f"group {number}", **options)
            )
        journal = self.file.with_name("run.db")
        scheduler = Scheduler(
            *members,
            on_job_settled=self.settled,
            log=False,
            jobs_window=dice.choice([1, 2, None]),
        )
        scheduler.run(backend=self.backend, journal=journal)
        return jobs

    def problems(self, has_processes: bool) -> Iterator[str]:
        logger = logging.getLogger("trioflow")
        current.append(self)
        sys.path.insert(0, str(self.file.parent))
        logger.addHandler(self)
        was_propagating, logger.propagate = logger.propagate, False
        try:
            self.run(has_processes)
            is_named = any(OTHER_TEXT in line for line in self.lines)
            self.edits, now = 0, [*self.versions]
            self.lines.clear()
            jobs = self.run(has_processes)
        finally:
            logger.removeHandler(self)
            logger.propagate = was_propagating
            sys.path.remove(str(self.file.parent))
            current.remove(self)
            _loaded_files.loaded.pop(str(self.file), None)
        yield from self.found
        changed = [
            job
            for job in jobs
            if job.restored and job.result() != now[int(job.function.__name__[-1])]
        ]
        told = [int(found[1]) for line in self.lines if (found := CHANGED.search(line))]
        # It may not be known which code a thread has called, before a reload or after it.
        certain = len(changed) - self.reloads * sum(
            isinstance(job, ThreadJob) for job in changed
        )
        # A worker that has another text than the program was named.
        if not (certain <= sum(told) <= len(changed) or is_named):
            yield f"{[job.label for job in changed]} have other code, and {told} are named: {self.lines}"


def problems_of(
    seed: str, backend: Any, folder: Path, has_processes: bool = False
) -> list[str]:
    return [*Draw(seed, backend, folder).problems(has_processes)]


@pytest.mark.parametrize(
    "first", [2, *(pytest.param(first, marks=pytest.mark.ci) for first in (0, 4, 6))]
)
def test_what_a_result_came_from_and_what_a_line_says_agree(
    tmp_path: Path, backend: Any, first: int
) -> None:
    for number in range(first, first + 2):
        (folder := tmp_path / f"{number}").mkdir()
        assert not problems_of(
            f"{number} {backend}", backend, folder, has_processes=number == 3
        )


if __name__ == "__main__":
    from tests.journal import test_edits_in_time

    for number in range(*map(int, sys.argv[1:])):
        for backend in ("trio", "asyncio"):
            with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
                has_processes = number % 50 == 0
                for problem in test_edits_in_time.problems_of(
                    f"{number} {backend}", backend, Path(name), has_processes
                ):
                    print(number, backend, problem[:1000], flush=True)
