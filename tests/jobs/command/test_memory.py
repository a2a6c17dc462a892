"""The memory of running commands, as views show it."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from trioflow import CommandJob
from trioflow.jobs.posix import _process_scans
from trioflow.jobs.posix._process_scans import GroupMemory
from trioflow.view import listing

from ...bodies import run
from ...places import PATIENCE

EATER = "import os; eaten = b'.' * (24 << 20); print('full', flush=True); os.read(0, 1)"
"""Takes 24 MiB, and then waits."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scan the memory anew at each call."""
    monkeypatch.setattr(_process_scans, "MIN_MEMORY_SCAN_INTERVAL", 0.0)
    monkeypatch.setattr(_process_scans, "MEMORY_SCAN_PAUSE_FACTOR", 0)
    monkeypatch.setattr(_process_scans.group_memory, "_next_scan_at", -1.0)


def test_status_text_shows_the_memory_of_the_process_group(backend: str) -> None:
    """`status_text()` shows the memory of a running command and its children, and nothing after the end."""
    read_end, write_end = os.pipe()
    said: list[str] = []
    listed: list[str] = []

    def look(job: CommandJob, line: str) -> None:
        said.append(job.status_text())
        if len(said) == 2:  # both are full
            assert job.scheduler is not None
            listed.append(listing(job.scheduler, details=True))
            os.close(write_end)

    eater = f'{sys.executable} -S -E -c "{EATER}"'
    job = CommandJob(
        f"exec 3<&0; {eater} <&3 & {eater}; wait", shell=True, stdin=read_end, on_line=look, label="eaters"
    )
    assert job.status_text() == ""
    assert run(backend, job)
    os.close(read_end)
    assert job.status_text() == ""
    size, unit = said[-1].split()
    assert unit == "MiB"
    assert 48 <= int(size) < 100
    assert listed[0].partition("<CommandJob eaters>  ")[2].endswith(" MiB")


def test_memory_of_all_groups_is_read_at_most_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """For all process groups together, memory is read at most once a second, and for at most 1 % of the time."""
    now, looks = 100.0, 0

    def look() -> dict[int, int]:
        nonlocal now, looks
        looks += 1
        now += took
        return {7: looks}

    monkeypatch.setattr(_process_scans, "MIN_MEMORY_SCAN_INTERVAL", 1.0)
    monkeypatch.setattr(_process_scans, "MEMORY_SCAN_PAUSE_FACTOR", 100)
    monkeypatch.setattr(_process_scans, "_memory_by_group", look)
    monkeypatch.setattr(_process_scans.time, "monotonic", lambda: now)
    took, memory = 0.001, GroupMemory()
    found: list[int | None] = []
    for _ in range(40):
        found.append(memory.get_group_bytes(7))
        assert memory.get_group_bytes(8) is None
        now += 0.1
    assert found == [1] * 10 + [2] * 10 + [3] * 10 + [4] * 10
    took = 0.05
    assert [memory.get_group_bytes(7), looks] == [5, 5]
    now += 4.9
    assert [memory.get_group_bytes(7), looks] == [5, 5]
    now += 0.2
    assert [memory.get_group_bytes(7), looks] == [6, 6]


def test_status_text_works_in_any_thread_while_the_command_ends(backend: str) -> None:
    """`status_text()` may be called in another thread, as by the monitor, even while the command ends."""
    read_end, write_end = os.pipe()
    ended, answered = threading.Event(), False

    def ask() -> None:
        nonlocal answered
        while not ended.is_set():
            if job.status_text().endswith(" MiB") and not answered:
                answered = True
                os.close(write_end)

    job = CommandJob(
        ["cat"], stdin=read_end, on_start=lambda _: thread.start(), on_settled=lambda _: ended.set(), timeout=PATIENCE
    )
    thread = threading.Thread(target=ask)
    run(backend, job)
    thread.join()
    os.close(read_end)
    assert answered
    assert job.is_succeeded()
