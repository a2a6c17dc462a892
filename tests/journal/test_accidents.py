"""Accidents of the journal file: what other programs, and jobs of the run itself, do to a journal during a run.

SQLite's locks belong to a process and a file: they vanish when the process closes any descriptor of the file. So a job
that copied its directory once let another program remove the journal's log under the running program."""

import ctypes
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
from trioflow import CommandJob, Job, Journal, JournalError, Scheduler, StopReason
from trioflow.abc import incidents_of
from trioflow.journal._store import JournalStore, read_with_retry
from ..pythons import Python, make_program, python
from .fuzz import Samples, read_mutated
from .stage import record, refused

KILLED = """
import os, shutil, signal, subprocess, sys
import anyio
from pathlib import Path
from trioflow import CommandJob, Job, Journal, JournalError, Scheduler

journal, accident, backend = Path(sys.argv[1]), sys.argv[2], sys.argv[3]

async def work(number):
    await anyio.sleep(0)
    return number

def look():
    return subprocess.run([sys.argv[4], "journal", journal], check=True, capture_output=True, text=True).stdout

async def happen():
    if accident == "copied":
        shutil.copytree(journal.parent, journal.parent.with_name("copy"))
        code = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute('SELECT * FROM jobs'); db.close()"
        subprocess.run([sys.executable, "-c", code, journal], check=True)  # any other program that reads it
    if accident == "fingerprint":
        inner = CommandJob(["true"], reads=[journal.parent], label="reader")
        await Scheduler(inner).co_run(journal=Journal(journal.parent.with_name("other.db"), hash=True))
    if accident == "rejected":
        try:
            await Scheduler(Job(work, 1)).co_run(journal=journal)
        except JournalError as error:
            assert "another run in this process" in str(error)
        else:
            raise AssertionError("it was let in")
    assert "is running" in look()

async def die():
    await anyio.sleep(0.01)  # what has succeeded before is committed within a turn
    look()
    os.kill(os.getpid(), signal.SIGKILL)

def chain(first, last):
    return [Job(work, number, label=str(number), version=1) for number in range(first, last)]

from trioflow import Sequence
jobs = [*chain(0, 5), Job(happen, label="happen", save=None), *chain(5, 10), Job(die, label="die", save=None)]
scheduler = Scheduler(Sequence(*jobs))
scheduler.run(journal=journal, backend=backend)
"""
"""A run with an accident in its middle, whose journal another process reads, and which is killed."""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a path for a journal, in an empty directory."""
    (directory := tmp_path / "place").mkdir()
    return directory / "run.db"


def found(path: Path) -> set[str]:
    return read_with_retry(path, lambda store: {one.path for one in store.job_records()})


@pytest.mark.parametrize(
    ("accident", "backend"), [("copied", "asyncio"), ("fingerprint", "trio"), ("rejected", "asyncio")]
)
def test_copying_or_reading_the_journal_here_keeps_its_locks(place: Path, accident: str, backend: str) -> None:
    """If its own process copies or reads a journal in use, the locks stay, and later commits survive a kill."""
    make_program(program := place.with_name("trioflow"), "-m", "trioflow")
    done = python("-c", KILLED, place, accident, backend, program)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert found(place) == {str(number) for number in range(10)}


HOLD = """
import os, pathlib, shutil, sys
from trioflow.journal._store import JournalStore
file = pathlib.Path(sys.argv[1])
store = JournalStore(file, writes=True)
shutil.copytree(file.parent, file.parent.with_name("copy"))
print(flush=True)
input()
"""


def opened(path: Path) -> str:
    code = (
        "import pathlib, sys; from trioflow.journal._store import JournalStore; "
        "JournalStore(pathlib.Path(sys.argv[1]), writes=True)"
    )
    stderr: str = python("-c", code, path, text=True).stderr
    return stderr


def test_a_second_holder_is_rejected_until_the_first_has_ended(place: Path) -> None:
    JournalStore(place, writes=True).close()
    (other := place.parent.with_name("other.db")).symlink_to(place)
    with Python(["-c", HOLD, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        for name in (place, other):
            assert re.search(rf"another run is using it: process {holder.pid} on ", opened(name))
        (place.parent / "run.db-lock").unlink()
        for name in (place, other):
            assert "another run is using it" in opened(name)
        holder.kill()
    assert opened(other) == ""


def test_a_second_holder_in_the_same_process_is_rejected_by_any_path(place: Path) -> None:
    store = JournalStore(place, writes=True)
    other = place.parent.with_name("other.db")
    other.symlink_to(place)
    refused(other, "another run in this process")
    store.close()


def test_opening_waits_for_the_locks_of_a_child_of_a_killed_process(place: Path) -> None:
    """Opening waits for a child of a killed process, which keeps the locks until it ends or calls `exec`."""
    code = (
        "import os, pathlib, sys, time, ctypes; from trioflow.journal._store import JournalStore\n"
        "store = JournalStore(pathlib.Path(sys.argv[1]), writes=True)\n"
        "if not ctypes.CDLL(None).fork(): os.close(1); time.sleep(0.5); os._exit(0)\n"  # no hook of Python's is called
        "os._exit(0)"
    )
    python("-c", code, place).check_returncode()
    JournalStore(place, writes=True).close()


@pytest.mark.parametrize("fork", [os.fork, ctypes.CDLL(None).fork], ids=["forked", "without hooks"])
def test_a_forked_child_does_not_hold_the_journal(place: Path, fork: Callable[[], int]) -> None:
    store = JournalStore(place, writes=True)
    read_end, write_end = os.pipe()
    child = fork()
    if not child:
        os.close(write_end)
        os.read(read_end, 1)
        os._exit(0)
    store.close()
    found = opened(place)
    os.close(write_end)
    os.close(read_end)
    os.waitpid(child, 0)
    assert found == ""


def remove(path: Path) -> None:
    path.unlink()


def rename(path: Path) -> None:
    path.rename(path.with_name("other.db"))


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("other.db"))
    path.with_name("other.db").rename(path)


def remove_log(path: Path) -> None:
    path.with_name("run.db-wal").unlink()


def move_directory(path: Path) -> None:
    path.parent.rename(path.parent.with_name("elsewhere"))


@pytest.mark.parametrize(
    ("accident", "said"),
    [
        (remove, "removed or renamed"),
        (replace, "replaced by another file"),
        (remove_log, "'run.db-wal'.*removed or renamed"),
        (move_directory, "removed or renamed"),
    ],
)
def test_removing_or_replacing_the_journal_during_a_run_ends_the_run(
    place: Path, backend: Any, accident: Callable[[Path], None], said: str
) -> None:
    """If the journal is removed or replaced, the run ends at the next commit, and the error has the reason."""

    async def work(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        if number == 5:
            accident(place)
        return number

    scheduler, last = Scheduler(), None
    for number in range(10):
        last = scheduler.add(Job(work, number, label=str(number), required=last))
    assert not scheduler.run(journal=place, backend=backend)
    assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.CRITICAL, None)
    (incident,) = incidents_of(scheduler)
    assert "journal '" in incident.message
    assert re.search(said, incident.message), incident.message


WRITES: list[Callable[[JournalStore], object]] = [
    lambda store: store.add_records([record("b")], [], []), lambda store: store.add_records([], [(1, "a")], []),
    lambda store: store.add_records([], [], [("a",)]), lambda store: store.add_run("next"),
    lambda store: store.end_run(1, "COMPLETED", 1.0), lambda store: store.record_start("a", "{}"),
    lambda store: store.forget(["a"]),
]  # fmt: skip


def test_a_journal_renamed_during_a_run_keeps_all_commits(place: Path) -> None:
    """Each write to a renamed journal raises, and its log is merged into the renamed file when it is closed."""
    for write in WRITES:
        store = JournalStore(place, writes=True)
        store.add_records([record("a")], [], [])
        rename(place)
        with pytest.raises(JournalError, match="removed or renamed"):
            write(store)
        store.close()
        assert found(place.with_name("other.db")) == {"a"}
        for file in place.parent.iterdir():
            file.unlink()


def test_new_timestamps_of_the_journal_file_do_not_end_the_run(place: Path) -> None:
    store = JournalStore(place, writes=True)
    os.utime(place, (1, 1))
    store.add_records([record("a")], [], [])
    store.close()
    assert found(place) == {"a"}


@pytest.mark.parametrize("name", ["{}", "here", ".", "../here", "link", "./*"])
def test_journal_files_in_a_directory_that_a_command_reads_are_ignored(
    place: Path, backend: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that reads the directory of the journal is restored, although the journal changes with each run."""
    (place.parent / "data").write_text("data")
    for link in ("here", "link"):
        (tmp_path / link).symlink_to(place.parent)
    monkeypatch.chdir(place.parent if name[0] == "." else tmp_path)
    if name == "../here":
        name = f"../{place.parent.name}"
    for restored in (False, True, True):
        job: Any = CommandJob(["true"], reads=[name.format(place.parent)], label="reader")
        Scheduler(job).run(journal=Journal(place, hash=True), backend=backend)
        assert job.restored is restored


@pytest.mark.parametrize("writes", [True, False])
def test_a_journal_with_several_hard_links_is_rejected(place: Path, writes: bool) -> None:
    """A journal with several hard links is rejected: the log of a killed run belongs to only one of its names."""
    JournalStore(place, writes=True).close()
    other = place.parent.with_name("other.db")
    other.hardlink_to(place)
    for name in (place, other):
        refused(name, r"it is a file with 2 hard links; .* one name", writes)
    other.unlink()
    JournalStore(place, writes=writes).close()


# --- mutated journals, as somebody may send them: to list and show them does no harm
JOURNALS = 12
"""How many journals the short test mutates; the soak test takes ten thousand."""


def test_reading_a_mutated_journal_does_no_harm(tmp_path: Path) -> None:
    """A mutated journal is read in bounded time, without a traceback, a write outside of it, or running anything."""
    assert read_mutated(Samples(tmp_path / "samples"), range(JOURNALS), tmp_path / "place") == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_reading_ten_thousand_mutated_journals_does_no_harm(tmp_path: Path) -> None:
    assert read_mutated(Samples(tmp_path / "samples"), range(10_000), tmp_path / "place") == []
