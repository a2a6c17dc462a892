"""Commands that share the window's slots by GNU make's jobserver."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from trioflow import Adaptive, CommandJob, Job, Scheduler, ref
from trioflow._core.run import _run
from trioflow.jobs.command import _jobserver

COMPILER = r'''
"""Compile for some milliseconds, with a place of its own among the SLOTS; if there is none left, say so in "over"."""
import fcntl, os, sys, time
def take():
    for number in range(int(os.environ["SLOTS"])):
        file = open(os.path.join(os.environ["PLACES"], str(number)), "w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        except OSError:
            file.close()
    open(os.path.join(os.environ["PLACES"], "over"), "a").write("over\n")
if __name__ == "__main__":
    place = take()
    time.sleep(0.02)
    open(os.path.join(os.environ["PLACES"], "done"), "a").write("done\n")
'''

CLIENT = r'''
"""A client of a jobserver: one compiler for the command itself, and one for each token; ends as it is told.

It is killed, or hangs, with a token, for which it tries as long as it takes.
"""
import itertools, os, random, signal, sys, time
from compiler import take
how, seed = sys.argv[1], int(sys.argv[2])
dice = random.Random(seed)
auth = [word for word in os.environ["MAKEFLAGS"].split() if word.startswith("--jobserver-auth=")][0].partition("=")[2]
if auth.startswith("fifo:"):
    read = write = os.open(auth[5:], os.O_RDWR | os.O_NONBLOCK)
else:
    read, write = map(int, auth.split(","))
    read = os.open(f"/proc/self/fd/{read}", os.O_RDONLY | os.O_NONBLOCK)
own, tokens = take(), []
for _ in itertools.count() if how in ("killed", "hangs") else range(20):
    try:
        tokens.append((os.read(read, 1), take()))
    except BlockingIOError:
        pass
    time.sleep(dice.random() * 0.004)
    if tokens and how != "hangs" and dice.random() < 0.5:
        token, place = tokens.pop()
        if place:
            place.close()
        os.write(write, token)
    if how == "killed" and tokens:
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "hangs" and tokens:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
for token, place in tokens if how != "keeps" else ():
    if place:
        place.close()
    os.write(write, token)
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a directory with a compiler and a client, where it is noted if too many run at once."""
    (tmp_path / "compiler.py").write_text(COMPILER)
    (tmp_path / "client.py").write_text(CLIENT)
    monkeypatch.setenv("PLACES", str(tmp_path))
    monkeypatch.delenv("MAKEFLAGS", raising=False)
    yield tmp_path
    assert not (tmp_path / "over").exists(), "more ran at once than there are slots"


def compiling(place: Path, **options: Any) -> CommandJob:
    return CommandJob([sys.executable, "-IS", place / "compiler.py"], **options)


def client(place: Path, how: str, seed: int = 0, **options: Any) -> CommandJob:
    return CommandJob([sys.executable, "-ES", place / "client.py", how, seed], terminate_grace=0, **options)


@pytest.fixture
def lending(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list to which each run that lends slots adds these."""
    found: list[Any] = []
    make = _run.make_spare_slots

    def made(run: Any, style: Any) -> Any:
        found.append(make(run, style))
        return found[-1]

    monkeypatch.setattr(_run, "make_spare_slots", made)
    return found


def all_is_back(slots: Any) -> bool:
    """Return whether no slot is lent any more, and none is lost."""
    return slots.lent_count == 0 and slots.borrower is None and not slots._queue.holders


@pytest.mark.parametrize(("program", "style", "backend"), [("make", "pipe", "trio"), ("ninja", "fifo", "asyncio")])
def test_builds_never_run_more_compilers_than_slots(
    place: Path, backend: Any, program: str, style: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a jobserver, two builds and other jobs together never run more compilers than the window has slots."""
    if program == "ninja":  # from PyPI; the system's may be older
        program = os.path.join(pytest.importorskip("ninja").BIN_DIR, program)
    monkeypatch.setenv("SLOTS", "3")
    targets = [f"target{number}" for number in range(6)]
    call = f"{sys.executable} -IS {place}/compiler.py"
    for build in ("one", "two"):
        (place / build).mkdir()
        (place / build / "Makefile").write_text(f"all: {' '.join(targets)}\n%:\n\t@{call}\n.PHONY: all\nMakefile: ;\n")
        lines = ["rule cc", f"  command = {call}", *(f"build {target}: cc" for target in targets)]
        (place / build / "build.ninja").write_text("\n".join(lines) + "\n")
    builds = [CommandJob([program], cwd=place / build, stdout=subprocess.DEVNULL) for build in ("one", "two")]
    others = [compiling(place) for _ in range(4)]
    assert Scheduler(builds, others, jobs_window=3, jobserver=style).run(backend=backend, check=True)
    assert len((place / "done").read_text().splitlines()) == 2 * len(targets) + len(others)


@pytest.mark.parametrize(("backend", "style"), [("trio", "fifo"), ("asyncio", "pipe")])
@pytest.mark.parametrize("how", ["killed", "hangs", "keeps"])
def test_no_job_holds_tokens_after_its_end(
    place: Path, backend: Any, how: str, style: Any, lending: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Later jobs get all tokens of a build that was killed, timed out, or did not return them."""
    monkeypatch.setenv("SLOTS", "3")
    bad = client(place, how, timeout=1 if how == "hangs" else None, retry=1)
    after = [compiling(place, required=bad) for _ in range(3)]
    Scheduler(bad, after, jobs_window=3, jobserver=style).run(backend=backend)
    assert all(job.is_succeeded() for job in after)
    assert bad.is_succeeded() is (how == "keeps")
    assert all_is_back(lending[0])


@pytest.mark.parametrize(
    ("backend", "window"), [("trio", "number"), ("trio", "limiter"), ("asyncio", "limiter"), ("asyncio", "adaptive")]
)
def test_no_slot_or_token_is_lost_when_clients_are_killed(
    place: Path, backend: Any, window: str, lending: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No slot or token is lost, however clients end, even if two schedulers share a limiter."""
    monkeypatch.setenv("SLOTS", "4")
    dice = random.Random(1)

    async def main() -> None:
        given: Any = {"number": 4, "adaptive": Adaptive(2, 4), "limiter": anyio.CapacityLimiter(4)}[window]
        schedulers = []
        for _ in range(2 if window == "limiter" else 1):
            hows = [dice.choice(["killed", "hangs", "keeps", "fine"]) for _ in range(6)]
            jobs = [client(place, how, dice.randrange(1000), timeout=dice.uniform(0.1, 0.4)) for how in hows]
            group = Scheduler(compiling(place), client(place, "killed"), jobs_window=1)
            cancelled = client(place, "hangs")
            cancels = Job(cancel_later, ref(cancelled), dice.uniform(0.1, 0.4), forever=True)
            schedulers.append(Scheduler(jobs, group, cancelled, cancels, jobs_window=given, jobserver=True))
        async with anyio.create_task_group() as tasks:
            for one in schedulers:
                tasks.start_soon(one.co_run)
        for one in schedulers:
            assert all(job.is_settled() for job in one.iterate_jobs())
        if window == "limiter":
            assert given.borrowed_tokens == 0

    anyio.run(main, backend=backend)
    assert len(lending) in (1, 2)
    assert all(all_is_back(one) for one in lending)


async def cancel_later(job: Any, seconds: float) -> None:
    await anyio.sleep(seconds)
    job.cancel()


def test_a_nested_scheduler_lends_the_slots_of_the_enclosing_one(place: Path, backend: Any, lending: Any) -> None:
    """A nested scheduler lends the slots of the enclosing one, unless it has its own jobserver."""
    flags = "echo $MAKEFLAGS; env | grep -c '^MAKEFLAGS=' || true"

    def command(**options: Any) -> CommandJob:
        return CommandJob(flags, shell=True, stdout=subprocess.PIPE, **options)

    inside, own, plain = command(env={**os.environ, "MAKEFLAGS": "k -j2"}), command(), command()
    nested = [Scheduler(inside), Scheduler(own, jobs_window=2, jobserver="pipe")]
    Scheduler(nested, jobs_window=5, jobserver="fifo").run(backend=backend)
    Scheduler(plain, jobs_window=5).run(backend=backend)
    assert inside.result().text.startswith("k -j5 --jobserver-auth=fifo:/")
    assert own.result().text.startswith("-j2 --jobserver-auth=")
    assert "fifo" not in own.result().text
    assert plain.result().text.split()[-1] == "0"
    assert len(lending) == 2


def test_a_slot_released_by_another_user_of_the_limiter_is_lent(
    place: Path, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slot that other code gives back to a shared limiter is lent to a build, although nothing reports it."""
    monkeypatch.setenv("SLOTS", "2")
    build = client(place, "killed", timeout=20)

    async def main() -> None:
        limiter = anyio.CapacityLimiter(2)
        limiter.acquire_on_behalf_of_nowait(place)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(Scheduler(build, jobs_window=limiter, jobserver=True).co_run)
            while not (place / "0").exists():  # noqa: ASYNC110 - the place of its own compiler: nothing tells
                await anyio.sleep(0.002)
            limiter.release_on_behalf_of(place)

    anyio.run(main, backend=backend)
    assert not build.timed_out  # it was killed with a token


def test_a_jobserver_without_a_window_raises() -> None:
    """`jobserver=` raises without `jobs_window=`, whose slots are its tokens, and for an unknown value."""
    with pytest.raises(ValueError, match=r"jobserver=True of 'Scheduler': .* jobs_window="):
        Scheduler(CommandJob(["true"]), jobserver=True).run()
    with pytest.raises(ValueError, match="jobserver='socket' of 'Scheduler': choose True, 'fifo', 'pipe' or False"):
        Scheduler(jobserver="socket")  # type: ignore[arg-type]


def test_the_style_of_the_jobserver_depends_on_the_version_of_make(tmp_path: Path) -> None:
    """GNU make before 4.4 accepts only descriptors; with any other make, or none, a named pipe is used."""
    for number, (said, names) in enumerate([("GNU Make 4.3", False), ("GNU Make 4.4.1", True), ("bmake", True)]):
        make = tmp_path / f"make{number}"
        make.write_text(f"#!/bin/sh\necho {said}\n")
        make.chmod(0o755)
        assert _jobserver.accepts_pipe_names(str(make)) is names
    assert _jobserver.accepts_pipe_names(None)
    assert _jobserver.accepts_pipe_names(str(tmp_path))


def test_explain_shows_how_many_slots_are_lent(place: Path, backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a job that waits for a slot, `explain` says how many slots are lent to builds."""
    monkeypatch.setenv("SLOTS", "2")
    said: list[str] = []

    async def look() -> None:
        while not (place / "1").exists():  # noqa: ASYNC110 - nothing tells; the place of the compiler that has the token
            await anyio.sleep(0.002)
        late = scheduler.add(compiling(place, label="late"))
        await anyio.lowlevel.checkpoint()
        said.append(scheduler.explain(late))
        build.cancel()

    build = client(place, "hangs", label="build")
    scheduler = Scheduler(build, jobs_window=2, jobserver="fifo")
    scheduler.add(Job(look, forever=True))
    scheduler.run(backend=backend)
    assert said == ["'late' waits for a slot: the window is full, with 'build', and 1 lent to the builds among them"]
