"""Draws of jobs that write, fail, are retried, time out, are killed and are resumed, in trees with files of others.

A law says that nothing of others is lost: what was there before, and what other jobs and programs have written
meanwhile, is there afterwards, byte for byte. `python -m tests.jobs.test_user_files --count 2000` has more draws."""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any
import pytest
from trioflow import (
    CommandJob,
    Journal,
    LocalNode,
    Pull,
    Push,
    Retry,
    Scheduler,
    SshJob,
)
from ..pythons import python

NAMES = [
    "out", "out.partial", "dir/a", "dir/sub/b", "dir/out", "dir.partial/a", "dir/sub", "new", "dir/new", "log", "z/y/x",
]  # fmt: skip
ENDS = [
    "exit 0",
    "exit 1",
    "kill -9 $$",
    "sleep 100",
    "rm -f dir/new-1; exit 1",
    "kill -9 $PPID; sleep 100",
]
OWN = (
    "echo {number} > dir/new-{number}; mkdir -p made; echo {number} > made/{number}; "
    "echo {number} > dir/sub-{number}; "
)


def write(path: Path, text: str, mode: str = "w") -> bool:
    """Write a file of others; return False if a file stands where a directory is needed, or the other way round."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode) as file:
            file.write(text)
    except OSError:
        return False
    return True


class Draw:
    """One draw: a tree, jobs, how they end, and what others write meanwhile."""

    def __init__(self, number: int, backend: str, place: Path) -> None:
        self.number = number
        self.backend = backend
        self.place = place
        dice = self.dice = random.Random(f"{number} {backend}")
        self.others: dict[str, str] = {}  # the files of others, and their contents
        self.lines: list[str] = []  # what others have added to the log
        for name in dice.sample(NAMES, dice.randrange(1, len(NAMES))):
            self.write(name)
        self.kind = dice.choice(["command", "command", "command", "pull", "push"])
        self.end = dice.choice(ENDS)
        self.journal = dice.choice([None, "run.db", "dir/run.db", "made/run.db"])
        self.hash = dice.random() < 0.3
        self.retry = dice.random() < 0.3
        self.writes = [
            name for name in ("out", "dir", "made", "dir/sub-1") if dice.random() < 0.5
        ]
        self.append = dice.random() < 0.7
        self.beside = dice.choice(
            [None, "dir/beside", "made/beside", "beside", "dir/sub/beside"]
        )
        self.beside_succeeded = False
        self.copied = dice.sample(NAMES, 4)
        self.source = dice.choice(["file", "tree"])
        self.to = dice.choice(
            ["dir", "new", "out", "dir/sub", "dir/", "nowhere/deep", "log"]
        )

    def write(self, name: str) -> None:
        text = f"others {len(self.others)} {self.dice.random()}"
        if write(self.place / name, text):
            self.others[name] = text

    def write_meanwhile(self) -> None:
        """Write as another program does: new files, and changes of those that are there, but for outputs of the job."""
        for name in ("cron", "dir/a", "elsewhere/cron", "z/y/x"):
            if self.dice.random() < 0.5 and (
                name in self.others or not name.startswith("dir/")
            ):
                self.write(name)
        if self.kind == "command" and self.append and self.dice.random() < 0.7:
            line = f"cron {len(self.lines)}\n"
            if write(self.place / "log", line, "a"):
                self.lines.append(line)

    def run(self) -> str:
        """Run the jobs, twice with a journal, and return how."""
        how = f"{self.kind} {self.end if self.kind == 'command' else f'{self.source} to {self.to}'}"
        for number in (1, 2) if self.journal else (1,):
            if self.kind == "command" and "PPID" in self.end:
                call = f"run_again({self.number}, {self.backend!r}, {str(self.place)!r}, {number})"
                python(
                    "-c",
                    f"from tests.jobs.test_user_files import run_again; {call}",
                    cwd=os.getcwd(),
                )
            else:
                self.run_once(number)
            self.write_meanwhile()
        return how

    def run_once(self, number: int) -> None:
        os.chdir(self.place)
        jobs = [self.command(number) if self.kind == "command" else self.copy()]
        if self.beside and self.kind == "command":
            code = f"{{ mkdir -p $(dirname {self.beside}) && echo beside > {self.beside}; }} 2>&-"
            jobs.append(
                CommandJob(
                    code, shell=True, writes=[self.beside], label="beside", log=False
                )
            )
        for job in jobs:
            job.critical = False
        journal = self.journal and Journal(self.journal, hash=self.hash)
        if self.journal:
            (self.place / self.journal).parent.mkdir(exist_ok=True)
        Scheduler(*jobs, log=False).run(backend=self.backend, journal=journal)
        self.beside_succeeded = len(jobs) == 2 and jobs[1].is_succeeded()

    def command(self, number: int) -> CommandJob:
        end = self.end if number == 1 else "exit 0"
        code = "echo line; echo mine > out; " * (
            "out" not in self.others or "out" in self.writes
        )
        limit: dict[str, Any] = {"timeout": 0.05} if end.startswith("sleep") else {}
        return CommandJob(
            f"{code}{OWN.format(number=number)}{end}", shell=True, label="job", log=False, terminate_grace=0.05,
            writes=[name for name in self.writes if number == 1 or name != "dir/sub-1"],
            stdout="log", stderr="log", append=self.append, retry=Retry(1, first=0) if self.retry else None, **limit,
        )  # fmt: skip

    def copy(self) -> SshJob:
        source = self.place.with_name("source")
        shutil.rmtree(source, ignore_errors=True)
        for name in ["file", *(f"tree/{name}" for name in self.copied)]:
            write(source / name, "new")
        step = Push if self.kind == "push" else Pull
        steps = [step(source / self.source, to=f"{self.place}/{self.to}")] * (
            1 + self.retry
        )
        return SshJob(LocalNode(), steps, label="job", log=False)

    def lost(self) -> list[str]:
        """Return the files of others that are not as they were, but for those that the job was told to write."""
        own = {"out"} if self.kind == "command" and "out" in self.writes else set[str]()
        if self.kind == "command":
            own |= {"log"}
            own |= {self.beside} if self.beside else set()
        else:
            target = self.to.rstrip("/")
            is_directory = any(
                name.startswith(f"{target}/") for name in self.others
            ) or self.to.endswith("/")
            names = [
                path.relative_to(self.place.with_name("source"))
                for path in self.place.with_name("source").rglob("*")
            ]
            copied = [name.as_posix() for name in names if name.parts[0] == self.source]
            places = [
                f"{target}/{name}" if is_directory else target
                for name in copied
                if "/" not in name
            ]
            own |= {
                *places,
                *(f"{target}/{name.removeprefix('tree/')}" for name in copied),
                target,
            }
            own |= {f"{target}/{name}" for name in copied}
        lost = [
            name
            for name, text in self.others.items()
            if name not in own and self.read(name) != text
        ]
        if self.kind == "command" and self.append and "log" not in self.writes:
            log = self.read("log") or ""
            lost += ["log"] * (not log.startswith(self.others.get("log", "")))
            lost += [line for line in self.lines if line not in log]
        if self.journal and not (self.place / self.journal).exists():
            lost.append(self.journal)
        if self.beside_succeeded and self.read(self.beside or "") != "beside\n":
            lost.append(f"{self.beside}, of another job")
        return lost

    def read(self, name: str) -> str | None:
        try:
            return (self.place / name).read_text()
        except OSError:
            return None


def run_again(number: int, backend: str, place: str, run: int) -> None:
    """Run the jobs of a draw in this process, which one of them kills."""
    draw = Draw.__new__(Draw)
    with tempfile.TemporaryDirectory() as elsewhere:
        Draw.__init__(draw, number, backend, Path(elsewhere, "place"))
    draw.place = Path(place)
    draw.run_once(run)


def compare_all(
    draws: range, backend: str, place: Path
) -> tuple[Counter[str], list[str]]:
    counts, lost, before = Counter[str](), list[str](), os.getcwd()
    for number in draws:
        folder = place / f"{number}"
        draw = Draw(number, backend, folder / "place")
        draw.place.mkdir(parents=True, exist_ok=True)
        try:
            counts[draw.run().partition(" ")[0]] += 1
        finally:
            os.chdir(before)
        if found := draw.lost():
            lost.append(f"draw {number} on {backend}, {vars(draw)}: {found}")
        else:
            shutil.rmtree(folder)
    return counts, lost


pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="the commands are those of a POSIX shell"
)
DRAWS = [range(2), pytest.param(range(2, 10), marks=pytest.mark.ci)]
"""The draws of the short test, a few of them outside of CI; the soak test takes two thousand."""


@pytest.mark.parametrize("draws", DRAWS, ids=["few", "more"])
def test_files_of_others_are_as_they_were(
    tmp_path: Path, backend: str, draws: range
) -> None:
    """What was there before, and what others write meanwhile, is there afterwards, byte for byte."""
    assert compare_all(draws, backend, tmp_path)[1] == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.both_backends
def test_files_of_others_are_as_they_were_in_two_thousand_draws(
    tmp_path: Path, backend: str
) -> None:
    assert compare_all(range(2000), backend, tmp_path)[1] == []


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    for backend in ("trio", "asyncio"):
        with tempfile.TemporaryDirectory() as place:
            counts, lost = compare_all(
                range(options.first, options.first + options.count),
                backend,
                Path(place),
            )
        print(backend, dict(counts), "lost:", len(lost), *lost[:5], sep="\n")
