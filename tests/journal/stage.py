"""Runs in their own processes, which can be killed, and the files that they leave; rows of a journal."""

import contextlib
import ctypes
import os
import signal
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
import pytest
from trioflow import AbstractJob, JournalError, Scheduler
from trioflow.journal._store import JournalStore, StoredJob, read_with_retry

PR_SET_CHILD_SUBREAPER = 36


class Fault:
    """Kills the process before or after the n-th write to the journal."""

    def __init__(self, at: int, after: bool) -> None:
        self.at, self.after, self.count = at, after, 0

    def install(self) -> None:
        for name in ("_write", "commit"):
            setattr(JournalStore, name, self.wrapped(getattr(JournalStore, name)))

    def wrapped(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any) -> Any:
            hit, self.count = self.count == self.at, self.count + 1
            if hit and not self.after:
                os.kill(os.getpid(), signal.SIGKILL)
            value = method(*args)
            if hit:
                os.kill(os.getpid(), signal.SIGKILL)
            return value

        return write


class Stage:
    """A directory with a journal, a log of what has run, and the files of commands."""

    def __init__(
        self, directory: Path, build: Callable[["Stage"], Scheduler], backend: str
    ) -> None:
        self.journal = directory / "run.db"
        self.log = directory / "log"
        self.files = directory
        self.outcome = directory / "outcome"
        self.build = build
        self.backend = backend
        self.others = children()
        """Other tests of this process may have started processes that go on: a server, say."""

    def note(self, name: str) -> None:
        """Record that a job has run; a short write to the end of a file is never torn."""
        file = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{name}\n".encode())
        os.close(file)

    def run(
        self, prepare: Callable[[], object] = lambda: None, journal: bool = True
    ) -> int:
        """Start a run in its own process, and return its id."""
        if child := fork():
            return child
        code = 1
        try:
            prepare()
            self.outcome.write_text(self.perform(self.journal if journal else None))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def perform(self, journal: Path | None) -> str:
        scheduler = self.build(self)
        assert scheduler.run(backend=self.backend, journal=journal)  # type: ignore[arg-type]
        return repr([(job.path, job.result()) for job in leaves(scheduler)])

    def kill(self, child: int) -> None:
        """Kill a run, and wait until all of its processes are gone: the guard ends its commands, a moment later."""
        os.kill(child, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        """Wait for all processes that a killed run left, which are children of this process now."""
        while left := children() - self.others:
            for child in left:
                os.waitpid(child, 0)

    def complete(self, journal: bool = True) -> tuple[str, list[str]]:
        self.log.unlink(missing_ok=True)
        child = self.run(journal=journal)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        return (
            self.outcome.read_text(),
            self.log.read_text().split() if self.log.exists() else [],
        )

    def committed(self) -> set[str]:
        if not self.journal.exists():
            return set()
        try:
            return {
                one.path
                for one in read_with_retry(
                    self.journal, lambda store: list(store.job_records())
                )
            }
        except JournalError as error:
            if "is empty" in str(error):  # killed before there was anything in it
                return set()
            raise

    def check(self, expected: str) -> int:
        """Continue after the killed run, and return how many jobs were restored."""
        committed = self.committed()
        results, ran = self.complete()
        assert results == expected
        again = committed & set(ran)
        assert not again, f"committed, and run again: {again}"
        assert len(ran) == len(set(ran))
        return len(committed)


def fork() -> int:
    """Fork this process, which may have idle threads: Python warns of that since 3.12."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def children() -> set[int]:
    found: set[int] = set()
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.update(map(int, (thread / "children").read_text().split()))
    return found


def leaves(scheduler: Scheduler) -> list[AbstractJob[Any]]:
    return [
        job
        for job in scheduler.iterate_jobs()
        if not isinstance(job, Scheduler) and job.label != "grow"
    ]


def adopt_orphans(adopts: bool) -> None:
    """Make this process the parent of orphans (Linux)."""
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(adopts), 0, 0, 0) == 0


def record(path: str, result: str = "1") -> StoredJob:
    return StoredJob(path, "{}", "json", result, None, None, 1, None, 0.0, 0.0, None)


def made(path: Path, *jobs: str) -> None:
    with contextlib.closing(JournalStore(path, writes=True)) as store:
        store.add_run("test")
        store.add_records([record(job) for job in jobs], [], [])


def refused(file: Path, said: str, *writes: bool) -> None:
    """Check that a journal is not opened to be written, or in the ways that are given, and is left as it is."""
    for each in writes or (True,):
        before = _contents(file)
        with pytest.raises(JournalError, match=said):
            JournalStore(file, writes=each)
        assert _contents(file) == before


def _contents(file: Path) -> list[bytes | None]:
    """Return what is in a journal and in its log."""
    return [
        Path(each).read_bytes() if os.path.isfile(each) else None
        for each in (file, f"{file}-wal")
    ]


def found(path: Path) -> list[str]:
    return read_with_retry(
        path, lambda store: [one.path for one in store.job_records()]
    )
