"""Many commands in a row: nothing of this program grows."""

import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
import pytest
from trioflow import CommandJob, JobState, Scheduler
from trioflow.testing import run_virtual
from ..posix.process_trees import Watched
from ..posix.process_trees import watched as watched
from .commands import PIPE


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def zombies() -> int:
    """Return the number of unreaped children of this program."""
    return sum(1 for line in _children() if line[0] == "Z")


def _children() -> Iterator[list[str]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            yield fields


class Series:
    """Commands that each start the next one, two at a time; the program's resources are recorded now and then."""

    def __init__(self, number: int, every: int) -> None:
        self.left = number
        self.every = every
        self.done = 0
        self.dead_before = zombies()  # of earlier tests
        self.notes: list[tuple[int, int, int, int]] = []
        self.scheduler = Scheduler(*(self.next() for _ in range(2)))

    def next(self) -> CommandJob:
        self.left -= 1
        captured = PIPE if self.left % 2 else None
        return CommandJob(
            ["echo", "x"] if captured else ["true"],
            stdout=captured,
            on_succeeded=self.note,
        )

    def note(self, job: CommandJob) -> None:
        self.done += 1
        if not self.done % self.every:
            descriptors = len(os.listdir("/proc/self/fd"))
            self.notes.append(
                (descriptors, threading.active_count(), zombies(), resident())
            )
        if self.left > 0:
            self.scheduler.add(self.next())


@pytest.mark.parametrize(
    ("number", "each"),
    [
        (100, 20),
        pytest.param(10_000, 1_000, marks=[pytest.mark.soak, pytest.mark.timeout(300)]),
    ],
)
def test_descriptors_and_memory_do_not_grow_with_the_number_of_commands(
    backend: str, number: int, each: int
) -> None:
    series = Series(number, each)
    assert series.scheduler.run(backend=backend)
    assert {job.state for job in series.scheduler} == {JobState.SUCCEEDED}
    descriptors, threads, dead, memory = zip(*series.notes, strict=True)
    assert (
        max(descriptors) - min(descriptors) <= 4
    )  # those of the other command, at whatever point it is
    assert max(threads) == threads[0]  # one of an earlier test may be about to end
    assert (
        max(dead) <= series.dead_before + 2
    )  # about to be reaped: the one that tells is not yet
    assert (
        max(memory) <= memory[0] * 1.05 + 3000 * series.done
    )  # the jobs are all kept, with their results


def test_commands_run_under_a_virtual_clock_and_their_timeouts_end_at_once(
    backend: str, watched: Watched
) -> None:
    real = CommandJob("sleep 0.05; echo real", shell=True, stdout=PIPE)
    limited = CommandJob(["sleep", 1000], timeout=3600, required=real)
    assert not run_virtual(Scheduler(real, limited).co_run, backend=backend)
    assert real.result().stdout == b"real\n"
    assert limited.timed_out
    assert watched.alive() == []
