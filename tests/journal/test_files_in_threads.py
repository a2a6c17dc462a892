"""What reads users' files is called in a thread: no turn of the loop, and no clock of a job, waits for it."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from trioflow import Job, JobState, Journal, Scheduler, current_job
from ..places import PATIENCE, patiently


class SlowFiles:
    """Hashing a file and listing a directory end only when a job in the loop has ticked twice since they began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = str(folder)
        self.loop_thread = 0
        self.ticks = 0
        self.ticked = threading.Condition()
        self.has_ticked: Any = None
        self.in_loop: list[str] = []
        self.hashed: Counter[tuple[int, ...]] = Counter()
        digest, listdir = hashlib.file_digest, os.listdir

        def slow_digest(file: Any, name: Any) -> Any:
            status = os.fstat(file.fileno())
            self.hashed[status.st_ino, status.st_size, status.st_mtime_ns] += 1
            self.wait("hash")
            return digest(file, name)

        def slow_list(path: Any = ".") -> Any:
            if str(path).startswith(self.folder):
                self.wait(f"list {os.path.basename(path)}")
            return listdir(path)

        monkeypatch.setattr(hashlib, "file_digest", slow_digest)
        monkeypatch.setattr(os, "listdir", slow_list)

    def wait(self, what: str) -> None:
        if threading.get_ident() == self.loop_thread:
            self.in_loop.append(what)
        elif self.loop_thread:
            with self.ticked:
                until = self.ticks + 2
                assert self.ticked.wait_for(lambda: self.ticks >= until, PATIENCE), f"the loop stands still: {what}"

    async def tick(self) -> None:
        self.loop_thread = threading.get_ident()
        if self.has_ticked is not None:
            self.has_ticked.set()
        while True:
            with self.ticked:
                self.ticks += 1
                self.ticked.notify_all()
            await anyio.sleep(0.001)


@pytest.mark.both_backends
@pytest.mark.parametrize("by_contents", [False, True])
def test_the_loop_turns_while_files_are_hashed_and_listed(
    backend: Any, by_contents: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files were hashed in the loop, five times for two jobs, and directories in reads= were listed there."""
    files = tmp_path / "files"
    (files / "in").mkdir(parents=True)
    (files / "in" / "one").write_text("1")
    (files / "out").mkdir()
    (files / "given").write_text("given")
    slow = SlowFiles(monkeypatch, files)
    order: list[str] = []

    async def make() -> None:
        order.append(current_job().label)
        (files / "made").write_text("made" * 1000)
        (files / "out" / "two").write_text("2")

    async def use() -> None:
        order.append(current_job().label)

    def build() -> Scheduler:
        made = Job(make, reads=[files / "given", files / "in"], writes=[files / "made", files / "out"], label="make")
        others = [
            Job(use, label="b", required=made, reads=[files / "made", files / "out", files / "in" / "*"]),
            Job(use, label="c", required=made),
            Job(use, label="d", required=made, reads=[files / "in"]),
        ]
        return Scheduler(made, *others, Job(slow.tick, forever=True, label="ticks"))

    for ran in (["make", "b", "c", "d"], []):
        order.clear()
        slow.loop_thread = 0
        assert build().run(backend=backend, journal=Journal(tmp_path / "run.db", hash=by_contents))
        assert slow.in_loop == []
        # In the order in which they were added, though the files of one are read first.
        assert order == ran
        assert set(slow.hashed.values()) <= {1}, slow.hashed
        slow.hashed.clear()


@pytest.mark.both_backends
@pytest.mark.parametrize("by_contents", [False, True])
@patiently(0.05, 0.5, 2.0)
def test_no_timeout_runs_while_files_are_hashed_and_listed(
    backend: Any, by_contents: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: float
) -> None:
    """Each hash and each list takes longer than the timeout of the job, which itself takes no time."""
    digest, listdir = hashlib.file_digest, os.listdir
    files = tmp_path / "files"
    files.mkdir()
    (files / "given").write_text("given")

    def slow_list(path: Any = ".") -> Any:
        if str(path).startswith(str(files)):
            time.sleep(2 * unit)
        return listdir(path)

    def slow_digest(file: Any, name: Any) -> Any:
        time.sleep(2 * unit)
        return digest(file, name)

    async def work() -> None:
        (files / "made").write_text("made")

    job = Job(work, reads=[files / "given", files], writes=[files / "made", files], timeout=unit, label="work")
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", slow_digest)
        patch.setattr(os, "listdir", slow_list)
        Scheduler(job).run(backend=backend, journal=Journal(tmp_path / "run.db", hash=by_contents))
    assert job.state is JobState.SUCCEEDED, job.raised_exception()
    assert job.elapsed is not None
    assert job.took is not None
    assert job.elapsed - job.took > unit


@pytest.mark.both_backends
def test_files_of_added_jobs_are_read_in_threads(backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is added to an open scheduler is looked up when its files have been read; the next ones wait."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "given").write_text("given")
    slow = SlowFiles(monkeypatch, files)
    order: list[str] = []

    async def use() -> None:
        order.append(current_job().label)

    async def main() -> None:
        slow.has_ticked = anyio.Event()
        async with Scheduler(journal=Journal(tmp_path / "run.db", hash=True)) as scheduler:
            scheduler.add(Job(slow.tick, forever=True, label="ticks"))
            await slow.has_ticked.wait()
            for label in ("a", "b"):
                scheduler.add(Job(use, label=label, reads=[files, files / "given"]))
            scheduler.add(Job(use, label="c"))

    for ran in (["a", "b", "c"], []):
        order.clear()
        slow.loop_thread = 0
        anyio.run(main, backend=backend)
        assert slow.in_loop == []
        assert order == ran
