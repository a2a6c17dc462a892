"""All accidents at once: a full disk, a job that packs the directory, readers and copies, kills.

After each of these, earlier commits are still there, and do not run again.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from trioflow import Job, JournalError, Scheduler
from trioflow.journal._store import JournalStore, read_with_retry

from .stage import Stage, adopt_orphans

JOBS: Final = 40
SIZE: Final = 4 << 20
"""Bytes of the file system that fills up."""
LEFT: Final = 150_000
"""Bytes that are left on it, or may be in a file, when it is to fill up."""


def packing(stage: Stage) -> Scheduler:
    """Return jobs with results of two kilobytes; each tenth copies the directory of the journal."""

    async def work(number: int) -> str:
        await anyio.sleep(random.choice((0, 0.001, 0.003)))
        stage.note(str(number))
        if number % 10 == 5:
            copy = stage.files / "copies" / f"{os.getpid()} {number}"
            shutil.copytree(stage.journal.parent, copy, ignore=shutil.ignore_patterns("ballast"))
        return f"{number} " * 700

    jobs = [Job(work, number, label=str(number)) for number in range(JOBS)]
    for before, job in zip(jobs, jobs[4:], strict=False):
        job.requires(before)
    return Scheduler(jobs, jobs_window=2)


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path, backend: str) -> Iterator[Stage]:
    """Return a stage whose journal is on a small disk, or limited in size."""
    (disk := tmp_path / "disk").mkdir()
    if request.param == "disk":
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(disk)]
        if os.getuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("only root may mount a file system, and not everywhere")
    stage = Stage(tmp_path, packing, backend)
    stage.journal = disk / "run.db"
    adopt_orphans(True)
    yield stage
    adopt_orphans(False)
    if request.param == "disk":
        subprocess.run(["umount", "--lazy", disk], check=True)


def watch(stage: Stage) -> int:
    """Read the journal repeatedly in another process, by trioflow, by SQLite, and as a copy."""
    child = os.fork()
    if child:
        return child
    try:
        for number in range(1_000_000):
            look(stage, number)
            time.sleep(0.003)
    except BaseException:
        (stage.files / "faults").write_text(traceback.format_exc())
    finally:
        os._exit(1)


def look(stage: Stage, number: int) -> None:
    """Look at the journal once."""
    try:
        read_with_retry(stage.journal, lambda store: (store.run_records(), store.job_records()))
        if number % 5 == 1:
            copy = stage.files / "copies" / f"backup {number}"
            read_with_retry(stage.journal, lambda store: store.copy_to(copy))
            assert read_with_retry(copy, JournalStore.find_damage) == []
    except JournalError as error:
        if "is empty" not in str(error) and "there is no file" not in str(error):
            raise
    if number % 7 == 3 and stage.journal.exists():
        other = sqlite3.connect(f"{stage.journal.as_uri()}?mode=rw", uri=True)
        with contextlib.closing(other), contextlib.suppress(sqlite3.OperationalError):  # no table is there yet
            other.execute("SELECT count(*) FROM jobs").fetchall()


def fill_up(stage: Stage) -> Any:
    """Leave little room, and return what the process of the run has to do first."""
    if os.path.ismount(stage.journal.parent):
        free = os.statvfs(stage.journal.parent)
        ballast = max(0, free.f_bavail * free.f_frsize - LEFT)
        (stage.journal.parent / "ballast").write_bytes(b"x" * ballast)
        return lambda: None

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (LEFT, resource.RLIM_INFINITY))

    return limit


DISKS = pytest.mark.parametrize("stage", ["limit", "disk"], indirect=True)


def stressed(stage: Stage, kills: int) -> tuple[int, int]:
    """Return how many jobs were lost and how many doubled, over this many kills, and a disk that is full twice."""
    (stage.files / "copies").mkdir()
    lost = doubled = 0
    committed: set[str] = set()
    reader = watch(stage)
    stage.others.add(reader)
    for number in range(kills + 2):
        stage.log.unlink(missing_ok=True)
        is_full = number in (1, kills)
        child = stage.run(fill_up(stage) if is_full else lambda: None)
        if is_full:
            os.waitpid(child, 0)
        else:
            time.sleep(random.uniform(0.01, 0.08))
            stage.kill(child)
        (stage.journal.parent / "ballast").unlink(missing_ok=True)
        ran = set(stage.log.read_text().split()) if stage.log.exists() else set()
        doubled += len(ran & committed)
        now = stage.committed()
        lost += len(committed - now)
        committed = now
    os.kill(reader, signal.SIGKILL)
    os.waitpid(reader, 0)
    assert not (stage.files / "faults").exists(), (stage.files / "faults").read_text()
    results, ran_at_last = stage.complete()
    assert results == repr([(str(number), f"{number} " * 700) for number in range(JOBS)])
    return lost, doubled + len(committed & set(ran_at_last))


@DISKS
def test_no_job_is_lost_or_run_twice_under_kills_a_full_disk_and_readers(stage: Stage) -> None:
    """Kills, a full disk and readers of the journal let no committed job be lost or run twice."""
    assert stressed(stage, 3) == (0, 0)


@DISKS
@pytest.mark.both_backends
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_job_is_lost_or_run_twice_in_twenty_rounds_of_ten_kills(stage: Stage) -> None:
    """Twenty rounds of ten kills, with a full disk and readers, let no committed job be lost or run twice."""
    for _ in range(20):
        assert stressed(stage, 10) == (0, 0)
        for file in [*stage.journal.parent.iterdir(), stage.files / "copies"]:
            shutil.rmtree(file) if file.is_dir() else file.unlink()
