"""`reads=` and `writes=` of jobs that call functions: as those of commands."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from trioflow import AbstractJob, Answer, CommandJob, Job, LocalNode, ProcessJob, Scheduler, SshJob, ThreadJob, job
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


class Own(AbstractJob[int]):
    async def co_run(self) -> int:
        return add()


KINDS: dict[str, Any] = {
    "job": lambda **options: Job(add_async, **options),
    "thread": lambda **options: ThreadJob(add, **options),
    "process": lambda **options: ProcessJob(add, **options),
    "decorator": lambda **options: job(add_async).options(**options)(),
    "own": Own,
    "command": lambda **options: CommandJob(["sh", "-c", f"cat in > {TOTAL}"], **options),
    "ssh": lambda **options: SshJob(LocalNode(), f"cat in > {os.path.abspath(TOTAL)}", **options),
}


def why(make: Any, backend: str, **options: Any) -> str:
    one = make(reads=["in"], writes=[TOTAL], label="total", **options)
    scheduler = Scheduler(one)
    assert scheduler.run(backend=backend, journal="run.db")
    return "" if one.restored else scheduler.explain(one).partition("restored: ")[2]


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_runs_a_job_again_whatever_its_kind(backend: str, kind: str) -> None:
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
def test_what_a_function_has_begun_to_write_is_set_aside_at_once(backend: str, make: Any) -> None:
    """Half of an output keeps its name no longer, also after a timeout, and before a retry."""
    half = make(fail, writes=[TOTAL], retry=1, log=False)
    assert not Scheduler(half, log=False).run(backend=backend)
    assert sorted(os.listdir()) == ["in", f"{TOTAL}.partial"]


def test_an_output_that_a_function_has_not_written_is_its_failure(backend: str) -> None:
    """As for a command: a job that succeeds without writing what it names has failed."""
    lazy = ThreadJob(print, writes=["none"], label="lazy", log=False)
    assert not Scheduler(lazy, log=False).run(backend=backend)
    assert "'lazy' has ended, but it did not write 'none'" in str(lazy.raised_exception())


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

        assert Scheduler(ask, Job(say, save=None)).run(backend=backend, journal="run.db")
        assert ask.restored is restored


@pytest.mark.parametrize(("steps", "found"), [("A", "nothing"), ("Ab", "b"), ("AbAb", "b")])
def test_what_another_job_has_written_since_a_kill_is_its_own(backend: str, steps: str, found: str) -> None:
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
