"""`reads=` and `writes=` of jobs that call functions: as those of commands."""

import hashlib
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    Answer,
    First,
    Job,
    JobState,
    Journal,
    ProcessJob,
    Scheduler,
    SshJob,
    ThreadJob,
    current_job,
    job,
)
from ..places import PATIENCE, patiently
from ..pythons import python

TOTAL = "total"


@pytest.fixture(autouse=True)
def place(tmp_path: Path) -> Iterator[Path]:
    before = os.getcwd()
    os.chdir(tmp_path)
    Path("in").write_text("1 2")
    yield tmp_path
    os.chdir(before)


def add(target: str = TOTAL) -> int:
    """Add the numbers in a file, and write their sum into another one."""
    result = sum(map(int, Path("in").read_text().split()))
    Path(target).write_text(f"{result}")
    return result


async def add_async(target: str = TOTAL) -> int:
    return add(target)


def fail(target: str = TOTAL) -> None:
    Path(target).write_text("half")
    raise OSError("full")


class Own(trioflow.AbstractJob[int]):
    async def co_run(self) -> int:
        return add()


KINDS: dict[str, Any] = {
    "job": lambda **options: Job(add_async, **options),
    "thread": lambda **options: ThreadJob(add, **options),
    "process": lambda **options: ProcessJob(add, **options),
    "decorator": lambda **options: job(add_async).options(**options)(),
    "own": Own,
    "command": lambda **options: trioflow.CommandJob(
        ["sh", "-c", f"cat in > {TOTAL}"], **options
    ),
    "ssh": lambda **options: SshJob(
        trioflow.LocalNode(), f"cat in > {os.path.abspath(TOTAL)}", **options
    ),
}


def why(make: Any, backend: str, **options: Any) -> str:
    one = make(reads=["in"], writes=[TOTAL], label="total", **options)
    scheduler = Scheduler(one)
    assert scheduler.run(backend=backend, journal="run.db")
    return "" if one.restored else scheduler.explain(one).partition("restored: ")[2]


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_runs_a_job_again_whatever_its_kind(
    backend: str, kind: str
) -> None:
    """A step in Python could not name its files: with a changed one it was restored, and the run was a success."""
    make = KINDS[kind]
    assert why(make, backend) == "it has no result in the journal"
    assert why(make, backend) == ""
    Path("in").write_text("1 2 3")
    assert why(make, backend) == "file 'in' has changed"
    Path(TOTAL).write_text("other")
    assert why(make, backend) == f"its output '{TOTAL}' has changed"
    Path(TOTAL).unlink()
    assert why(make, backend) == f"its output '{TOTAL}' is missing"
    Path("in").write_text("4")
    assert why(make, backend, key="the same") != ""
    Path("in").write_text("5")
    assert why(make, backend, key="the same") == ""


@pytest.mark.parametrize("make", [ThreadJob, ProcessJob])
def test_what_a_function_has_begun_to_write_is_set_aside_at_once(
    backend: str, make: Any
) -> None:
    """Half of an output keeps its name no longer, also after a timeout, and before a retry."""
    half = make(fail, writes=[TOTAL], retry=1, log=False)
    assert not Scheduler(half, log=False).run(backend=backend)
    assert sorted(os.listdir()) == ["in", f"{TOTAL}.partial"]


def test_an_output_that_a_function_has_not_written_is_its_failure(backend: str) -> None:
    """As for a command: a job that succeeds without writing what it names has failed."""
    lazy = ThreadJob(print, writes=["none"], label="lazy", log=False)
    assert not Scheduler(lazy, log=False).run(backend=backend)
    assert "'lazy' has ended, but it did not write 'none'" in str(
        lazy.raised_exception()
    )


def test_two_functions_that_write_one_file_need_an_order() -> None:
    with pytest.raises(ValueError, match="both write 'total'"):
        Scheduler(Job(add_async, writes=TOTAL), ThreadJob(add, writes=TOTAL)).run()


def test_a_question_is_asked_again_when_a_file_has_changed(backend: str) -> None:
    for text, restored in (("a", False), ("a", True), ("longer", False)):
        if not restored:
            Path("draft").write_text(text)
        ask = Answer("publish?", reads="draft", label="ask", timeout=30)

        async def say(ask: Any = ask) -> None:
            await anyio.sleep(0.05)
            if not ask.is_settled():
                ask.answer("yes")

        assert Scheduler(ask, Job(say, save=None)).run(
            backend=backend, journal="run.db"
        )
        assert ask.restored is restored


@pytest.mark.parametrize(
    ("steps", "found"), [("A", "nothing"), ("Ab", "b"), ("AbAb", "b")]
)
def test_what_another_job_has_written_since_a_kill_is_its_own(
    backend: str, steps: str, found: str
) -> None:
    """After a kill (a capital letter), half a file is set aside, but not what another job has put in its place."""
    Path("program.py").write_text("""
import os, sys
from pathlib import Path
from trioflow import Job, Scheduler

async def write(name):
    out = Path("out")
    print(out.read_text() if out.exists() else "nothing", flush=True)
    out.write_text(name)
    if sys.argv[1].isupper():
        os.kill(os.getpid(), 9)

name = sys.argv[1].lower()
Scheduler(Job(write, name, writes="out", label=name)).run(journal="run.db", backend=sys.argv[2])
""")
    for step in steps:
        python("program.py", step, backend)
    assert python("program.py", "a", backend, text=True).stdout == f"{found}\n"
    assert Path("out.partial").exists() == (found == "nothing")


@pytest.mark.parametrize(
    "instant",
    [
        "before set_aside_partial_files",
        "after set_aside_partial_files",
        "after record_start",
    ],
)
def test_a_second_kill_while_a_killed_attempt_is_cleared_up_loses_nothing(
    backend: str, instant: str
) -> None:
    """Half a file is set aside, once, whatever had been done of that as the next program was killed, too."""
    Path("program.py").write_text("""
import os, sys
from pathlib import Path
from trioflow import Job, Scheduler
from trioflow.journal._file_stamps import FileStamper
from trioflow.journal._store import JournalStore

def kill(*args):
    if when == "after":
        method(*args)
    os.kill(os.getpid(), 9)

async def write():
    print(Path("out").exists(), flush=True)
    Path("out").write_text(sys.argv[2])
    if sys.argv[2] == "half":
        os.kill(os.getpid(), 9)

if len(sys.argv) > 3:
    when, name = sys.argv[3:]
    owner = JournalStore if "start" in name else FileStamper
    method = getattr(owner, name)
    setattr(owner, name, kill)
Scheduler(Job(write, writes="out", label="job")).run(journal="run.db", backend=sys.argv[1])
""")
    for text, words in (("half", ""), ("never", instant), ("whole", "")):
        done = python("program.py", backend, text, *words.split(), text=True)
        assert done.stdout == ("" if words else "False\n"), done.stderr
    assert {path.name: path.read_text() for path in Path().glob("out*")} == {
        "out": "whole",
        "out.partial": "half",
    }


# --- What reads users' files is called in a thread: no turn of the loop, and no clock of a job, waits for it
class SlowFiles:
    """Hashing a file and listing a directory end only when a job in the loop has ticked twice since they began."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = str(folder)
        self.loop_thread = threading.get_ident()
        self.is_ticking = False
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
        elif self.is_ticking:
            with self.ticked:
                until = self.ticks + 2
                assert self.ticked.wait_for(lambda: self.ticks >= until, PATIENCE), (
                    f"the loop stands still: {what}"
                )

    async def tick(self) -> None:
        self.is_ticking = True
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
    """Files were hashed in the loop, five times for two jobs, and directories in reads= were listed there.

    Those of the jobs of a First were listed there longest, of a job that writes what another has written, and of a job
    whose arguments are compared once it has ended.
    """
    files = tmp_path / "files"
    for name in ("in", "out", "changed", "theirs", "first"):
        (files / name).mkdir(parents=True)
        (files / name / "one").write_text("1")
    (files / "given").write_text("given")
    slow = SlowFiles(monkeypatch, files)
    order: list[str] = []

    async def make() -> None:
        order.append(current_job().label)
        (files / "made").write_text("made" * 1000)
        (files / "out" / "two").write_text("2")
        (files / "changed" / "one").write_text("made")

    async def change() -> None:
        order.append(current_job().label)
        (files / "changed" / "one").write_text("changed")

    async def use(*_: object) -> None:
        order.append(current_job().label)

    def build() -> Scheduler:
        writes = [files / "made", files / "out", files / "changed"]
        made = Job(
            make, reads=[files / "given", files / "in"], writes=writes, label="make"
        )
        others = [
            Job(
                use,
                label="b",
                required=made,
                reads=[files / "made", files / "out", files / "in" / "*"],
            ),
            Job(use, label="c", required=made),
            Job(use, ["mutable"], label="d", required=made, reads=[files / "in"]),
            Job(
                change,
                label="e",
                required=made,
                reads=[files / "theirs"],
                writes=[files / "changed"],
            ),
            First(
                Job(use, label="f", reads=[files / "first"], writes=[files / "first"]),
                required=made,
            ),
        ]
        return Scheduler(made, *others, Job(slow.tick, forever=True, label="ticks"))

    for ran in (["make", "b", "c", "d", "e", "f"], []):
        order.clear()
        slow.is_ticking = False
        assert build().run(
            backend=backend, journal=Journal(tmp_path / "run.db", hash=by_contents)
        )
        assert slow.in_loop == []
        # In the order in which they were added, though the files of one are read first.
        assert order == ran
        assert set(slow.hashed.values()) <= {1}, slow.hashed
        slow.hashed.clear()


@pytest.mark.both_backends
@pytest.mark.parametrize("by_contents", [False, True])
@patiently(0.05, 0.5, 2.0)
def test_no_timeout_runs_while_files_are_hashed_and_listed(
    backend: Any,
    by_contents: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    unit: float,
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

    job = Job(
        work,
        reads=[files / "given", files],
        writes=[files / "made", files],
        timeout=unit,
        label="work",
    )
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", slow_digest)
        patch.setattr(os, "listdir", slow_list)
        Scheduler(job).run(
            backend=backend, journal=Journal(tmp_path / "run.db", hash=by_contents)
        )
    assert job.state is JobState.SUCCEEDED, job.raised_exception()
    assert job.elapsed is not None
    assert job.took is not None
    assert job.elapsed - job.took > unit


@pytest.mark.both_backends
def test_files_of_added_jobs_are_read_in_threads(
    backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        async with Scheduler(
            journal=Journal(tmp_path / "run.db", hash=True)
        ) as scheduler:
            scheduler.add(Job(slow.tick, forever=True, label="ticks"))
            await slow.has_ticked.wait()
            for label in ("a", "b"):
                scheduler.add(Job(use, label=label, reads=[files, files / "given"]))
            scheduler.add(Job(use, label="c"))

    for ran in (["a", "b", "c"], []):
        order.clear()
        slow.is_ticking = False
        anyio.run(main, backend=backend)
        assert slow.in_loop == []
        assert order == ran


@pytest.mark.both_backends
@pytest.mark.parametrize("has_failed", [False, True])
def test_outputs_are_where_the_directory_was_as_the_attempt_began(
    tmp_path: Path, backend: Any, has_failed: bool
) -> None:
    """Another job changed the directory: the output was missed, and renamed to out.partial."""
    here = tmp_path / "here"
    there = tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()

    async def write() -> None:
        (here / "out").write_text("whole")
        os.chdir(there)
        if has_failed:
            raise OSError("full")

    for restored in (False, not has_failed):
        os.chdir(here)
        writer = Job(write, label="write", writes="out")
        assert (
            Scheduler(writer).run(backend=backend, journal=tmp_path / "run.db")
            is not has_failed
        )
        assert writer.restored is restored
        assert [*there.iterdir()] == []
        assert (here / "out").exists() is not has_failed
        assert (here / "out.partial").exists() is has_failed
