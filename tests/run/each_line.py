"""Interrupt a run, or let it fail, at each line of the engine, each time in a process of its own.

    python -m tests.run.each_line HOW BACKEND SCENARIO [STEP]

HOW is "interrupt", for Ctrl-C under `trio.run`, "twice", for a second one thirty lines later, or "error", for a
MemoryError. Each STEP-th line gets one. The run ends, and the books agree; otherwise a line says where they do not."""

import asyncio
import collections
import gc
import linecache
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any, Final
import anyio
import anyio.lowlevel
import trio
import trioflow
from trioflow import AbstractJob, Job, Pool, Scheduler, Service
from trioflow._core.backend import load_backend
from trioflow._core.job._job_options import declare_run_resource
from trioflow._core.job._option_descriptors import set_run_need
from trioflow._core.run._run import RUNS_IN_PROGRESS
from ..bodies import nap, nothing, serve

ENGINE: Final = str(Path(trioflow.__file__).parent / "_core")
PATIENCE: Final = (
    10  # seconds for one run, which takes a hundredth of one on a quiet machine
)
UNHARMED: Final = {
    "Timer.__init__": "trio's own list of deadlines",
    "Timer._cancel": "the loop of trio calls it",
    "Run.execute": "the end of its last steps",
    "FastTrioGroup._run_in_nursery": "steps of trio's own end of a nursery",
    "BaseScheduler.co_run": "the end of its last steps",
    "CtrlC.__exit__": "the end of its last steps",
    "async with trio.open_nursery() as nursery:": "the call of trio's own end of a nursery",
    "limiter.release_on_behalf_of(self)": "what gives a token back",
    "self._unused.append(borrower)": "the place of a token that the limiter has just lent",
    "self._end_event.set()": "the last step of a part",
    "worker.crew.leave(worker)": "the call of the last step of a worker, whose lines may raise",
}
"""Functions at whose lines no error is raised, and such lines, and why."""


class Gated(AbstractJob[None]):
    def check_before_run(self) -> None:
        set_run_need(self, "gated", 1)

    async def co_run(self) -> None:
        """Yield once."""
        await anyio.lowlevel.checkpoint()


class Gate:
    is_open = False

    def is_closed_to(self, job: object) -> bool:
        return not self.is_open

    async def open(self, _jobs: object) -> None:
        await anyio.sleep(0.001)
        self.is_open = True


class Shared(AbstractJob[None]):
    async def co_run(self) -> None:
        """Yield once."""
        await anyio.lowlevel.checkpoint()

    async def co_shutdown(self) -> None:
        calls[f"begun {self.label}"] += 1
        await anyio.sleep(0.001)
        calls[f"ended {self.label}"] += 1


calls: collections.Counter[str] = collections.Counter()
places: list[str] = []
"""The lines at which an interrupt or an error was raised."""
limiter: Any = None
scheduler = Scheduler()  # until a scenario has made its own


async def graph() -> None:
    """Run services, forever jobs, needs, windows, a nested scheduler, clean-up, and a function for what settles."""
    global scheduler, limiter
    gate = Gate()
    declare_run_resource("gated", lambda: 1, "opening", lambda _: gate)
    limiter = anyio.CapacityLimiter(1)
    service, inner = (
        Service(serve),
        Scheduler(Job(nap, 0), Shared(label="inner"), jobs_window=limiter),
    )
    slow = Job(nap, 0.001, required=service, timeout=5, needs={"cpu": 1})
    jobs = [
        service,
        inner,
        slow,
        Job(nothing, needs={"cpu": 2}),
        Job(nothing, run_if="failed", required=slow),
    ]
    jobs += [Job(nap, 100, forever=True), Shared(label="outer"), Gated()]
    scheduler = Scheduler(
        *jobs,
        pool=Pool(cpu=2),
        jobs_window=3,
        on_job_settled=settled,
        shutdown_timeout=PATIENCE,
    )
    await scheduler.co_run()


async def block() -> None:
    global scheduler
    async with Scheduler(shutdown_timeout=PATIENCE) as scheduler:
        scheduler.add(Service(serve))
        scheduler.add(Shared(label="outer"))
        await scheduler.add(Job(nap, 0.001))
        scheduler.add(Job(nap, 0))


async def settled(_: object) -> None:
    """Yield once."""
    await anyio.lowlevel.checkpoint()


class Tracer:
    """Raises what it is made for at one line of the engine, and counts them."""

    def __init__(self, how: str, number: int) -> None:
        self.how, self.count = how, 0
        self.numbers = {number, number + 30} if how == "twice" else {number}

    def trace(self, frame: Any, event: str, argument: object) -> Any:
        return self.trace_line if frame.f_code.co_filename.startswith(ENGINE) else None

    def trace_line(self, frame: Any, event: str, argument: object) -> Any:
        """Raise at the line, unless nothing can fail there: without a call no memory is asked for."""
        code = frame.f_code
        if event != "line" or (
            self.how == "error" and self.is_unharmed(code, frame.f_lineno)
        ):
            return self.trace_line
        self.count += 1
        if self.count in self.numbers:
            places.append(
                f"{Path(code.co_filename).name}:{frame.f_lineno} {code.co_qualname}"
            )
            if self.how == "error":
                raise MemoryError
            handler: Any = signal.getsignal(signal.SIGINT)
            handler(signal.SIGINT, frame)
        return self.trace_line

    def is_unharmed(self, code: Any, line: int) -> bool:
        text = linecache.getline(code.co_filename, line)
        return (
            code.co_qualname in UNHARMED or text.strip() in UNHARMED or "(" not in text
        )


def run_once(how: str, backend: str, scenario: str, number: int) -> str:
    """Run a scenario with a fault at one line, and return what is wrong; "end" after the last line."""
    tracer, left = Tracer(how, number), "nothing"
    gc.disable()
    sys.settrace(tracer.trace)
    try:
        trio.run(globals()[scenario]) if backend == "trio" else asyncio.run(
            globals()[scenario]()
        )
    except BaseException as error:
        left = repr(error)
    sys.settrace(None)
    if not places:
        return "end"
    wrong = [
        f"{job.label} is {job.state.value}"
        for job in scheduler.iterate_jobs()
        if is_open(job)
    ]
    wrong += (
        ["the run goes on"] if scheduler._run is not None or RUNS_IN_PROGRESS else []
    )
    if scheduler._pool is not None and (
        scheduler._pool.free != scheduler._pool.total or scheduler._pool._users
    ):
        wrong.append("the pool is not free")
    if limiter is not None and limiter.borrowed_tokens:
        wrong.append("the limiter is not free")
    if how != "error":
        wrong += [] if left == "KeyboardInterrupt()" else [f"{left} left"]
        if scheduler.stop_reason is not None:
            times = int(
                scheduler._run_times is not None
            )  # what is interrupted while it is checked has not begun
            wrong += [
                f"{name}: {calls[name]} calls"
                for name in ("begun outer", "ended outer")
                if calls[name] != times
            ]
    return f"{', '.join(places)}: {'; '.join(wrong)}" if wrong else ""


def is_open(job: AbstractJob[Any]) -> bool:
    return job.is_running() or job.is_scheduled()


def run_apart(*arguments: Any) -> str:
    """Do `run_once` in a process of its own; a run that does not end, or ends the process, is wrong."""
    read_end, write_end = os.pipe()
    if not (child := os.fork()):

        def give_up(*_: object) -> None:
            os.write(write_end, f"{', '.join(places)}: the run does not end".encode())
            os._exit(1)

        signal.signal(signal.SIGALRM, give_up)
        signal.alarm(PATIENCE)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            os.write(write_end, run_once(*arguments).encode() or b"right")
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as file:
        text = file.read().decode()
    os.waitpid(child, 0)
    return "" if text == "right" else text or f"line {arguments[-1]}: the process died"


def main(how: str, backend: str, scenario: str, step: str = "1") -> int:
    """Do all lines, or each `step`-th; print what is wrong, and how many lines there were."""
    logging.disable()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # which a shell ignores in the background
    load_backend(backend)  # type: ignore[arg-type]
    for name in ("traceback", "trioflow.testing"):
        __import__(name)
    number, bad = 1, 0
    while (text := run_apart(how, backend, scenario, number)) != "end":
        bad += bool(text)
        print(text, end="\n" if text else "", flush=True)
        number += int(step)
    print(f"{how} {backend} {scenario}: {number // int(step)} lines, {bad} wrong")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
