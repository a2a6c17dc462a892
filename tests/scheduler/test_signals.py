"""Ctrl-C, SIGTERM and SIGHUP: real signals to real processes, and corner cases of their handling."""

import asyncio
import concurrent.futures
import contextlib
import os
import pty
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trio
from trioflow import Job, JobState, Pool, Scheduler, StopReason, ThreadJob
from trioflow._core import backend as _backend
from trioflow._core.run._worker import Crew
from trioflow._core.scheduler import _sync_run
from trioflow._core.scheduler._sync_run import SignalHandler
from trioflow.abc import AbstractJob
from .. import transitions
from ..bodies import fail, fail_now, hooked, later, nothing, raising
from ..places import PATIENCE
from ..pythons import Python, python
from .signalled import child

ENDING = ["unwinds", "begins", "shut down"]
HANDLED = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


# --- real processes


SCRIPT = """
import sys, anyio
from trioflow import Job, Scheduler
async def work():
    print("at work", flush=True)
    await anyio.sleep(60)
def main():
    Scheduler(Job(work), label="sweep").run(backend=sys.argv[1])
"""


def script(backend: str, end: str) -> tuple[list[str], int]:
    """Run SCRIPT on a terminal, press Ctrl-C there, and return what is on the terminal then, and the exit code."""
    terminal, slave = pty.openpty()
    environment = {
        **os.environ,
        "PYTHON_COLORS": "0",
    }  # from Python 3.13 on tracebacks are coloured
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), slave)
    process = Python(
        ["-c", SCRIPT + end, backend],
        env=environment,
        start_new_session=True,
        **streams,
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while piece := os.read(terminal, 1000):
            began = b"at work\r\n" in shown
            shown += piece
            if not began and b"at work\r\n" in shown:
                os.write(terminal, b"\x03")
    os.close(terminal)
    code = process.wait()
    return shown.decode().replace("^C", "").split("\r\n"), code


@pytest.mark.parametrize("backend", ["asyncio"])
def test_uncaught_ctrl_c_is_printed_in_one_line(backend: str) -> None:
    """An uncaught Ctrl-C prints one line, not a traceback, and the script ends by SIGINT, as shells expect."""
    lines, code = script(backend, "main()")
    assert lines == [
        "at work",
        "KeyboardInterrupt: Ctrl-C ended the run of 'sweep' cleanly",
        "",
    ]
    assert code == -signal.SIGINT


@pytest.mark.parametrize("backend", ["asyncio"])
def test_traceback_of_ctrl_c_has_no_frames_of_the_engine(backend: str) -> None:
    end = """
import traceback
below = "<frozen runpy>", "pythons.py"  # what runs this script
sys.excepthook = lambda kind, error, trace: print(
    *(frame.name for frame in traceback.extract_tb(trace) if not frame.filename.endswith(below)))
main()
"""
    assert script(backend, end) == (["at work", "<module> main", ""], -signal.SIGINT)


IMPORTING = """
import builtins, os, signal, sys, threading
from trioflow import Job, Scheduler

real_import = builtins.__import__

def interrupted_import(name, *args):
    # As Ctrl-C does, in the middle of the import of the backend.
    if name in ("trio", "anyio") and threading.current_thread() is threading.main_thread():
        builtins.__import__ = real_import
        os.kill(os.getpid(), signal.SIGINT)
    return real_import(name, *args)

async def work():
    print("at work")

scheduler = Scheduler(Job(work), label="sweep")
builtins.__import__ = interrupted_import
scheduler.run(backend=sys.argv[1])
"""


@pytest.mark.both_backends
def test_a_ctrl_c_while_the_backend_is_imported_ends_the_run_as_it_begins(
    backend: str,
) -> None:
    """The traceback went through the engine's import of trio or anyio."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING, backend], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == (
        "",
        "KeyboardInterrupt: Ctrl-C ended the run of 'sweep' cleanly\n",
    )
    assert done.returncode == -signal.SIGINT


ITERATING = """
import os, signal, sys, threading, time
import anyio
from trioflow import Job, Scheduler

async def work():
    main = threading.main_thread().ident
    while sys._current_frames()[main].f_code.co_name != "run_as_settled":
        await anyio.sleep(0.001)
    signal.pthread_kill(main, signal.SIGINT)
    try:
        await anyio.sleep(60)
    finally:
        for _ in range(int(sys.argv[2])):
            time.sleep(0.05)
            signal.pthread_kill(main, signal.SIGINT)

for job in Scheduler(Job(work)).run_as_settled(backend=sys.argv[1]):
    pass
"""


@pytest.mark.parametrize("second", [0, 1])
def test_a_ctrl_c_in_run_as_settled_shows_no_frame_of_the_engine(
    backend: str, second: int
) -> None:
    """The traceback had the line that waits for the next job; at a second Ctrl-C, also those that wait for the run."""
    done = python("-c", ITERATING, backend, str(second), text=True)
    files = set(re.findall(r'File "(.*?)"', done.stderr)) - {
        str(Path(__file__).parents[1] / "pythons.py")
    }
    assert not [file for file in files if not file.startswith("<")], done.stderr
    assert done.stderr.count("KeyboardInterrupt\n") == 1 + second, done.stderr


def test_traceback_of_a_ctrl_c_in_a_job_has_only_the_users_lines(backend: str) -> None:
    """A second Ctrl-C is raised in a job: its traceback once had ten lines of trioflow and of the event loop."""
    with pytest.raises(KeyboardInterrupt) as raised:
        Scheduler(Job(fail_now, KeyboardInterrupt())).run(backend=backend)
    assert [entry.name for entry in raised.traceback[1:]] == ["fail_now"]


@pytest.mark.parametrize("backend", ["asyncio"])
def test_exception_after_ctrl_c_has_its_traceback(backend: str) -> None:
    end = """
try:
    main()
except KeyboardInterrupt as error:
    raise ValueError("no") from error
"""
    lines, code = script(backend, end)
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-2] == "ValueError: no"
    assert code == 1


def test_ctrl_c_ends_the_run_cleanly(backend: str) -> None:
    """At Ctrl-C, jobs unwind, `co_shutdown` is completed, and a bare KeyboardInterrupt leaves `run()`. A second Ctrl-C
    that comes during `co_shutdown` does not interrupt it."""
    code = f"expected = 2; scheduler = Scheduler(Actor()); watched(lambda: scheduler.run(backend={backend!r}))"
    lines = child(code, ("runs", signal.SIGINT), ("begins", signal.SIGINT))
    assert lines == ["runs", *ENDING, "raised KeyboardInterrupt interrupted"]


def test_handled_signals_end_the_run_cleanly(backend: str) -> None:
    code = f"scheduler = Scheduler(Actor()); watched(lambda: scheduler.run(backend={backend!r}, handle_signals=True))"
    assert child(code, ("runs", signal.SIGTERM)) == [
        "runs",
        *ENDING,
        "returned False interrupted",
    ]


def test_a_signal_to_a_process_that_a_job_has_forked_ends_it(backend: str) -> None:
    code = f"""
import multiprocessing, os

async def forks():
    runs, told = os.pipe()  # a signal that comes in the middle of the fork is lost, whoever handles it

    def sleeps():
        os.write(told, b".")
        time.sleep(60)

    process = multiprocessing.get_context("fork").Process(target=sleeps)
    process.start()
    os.read(runs, 1)
    process.terminate()
    process.join()
    say(process.exitcode)

scheduler = Scheduler(Job(forks))
watched(lambda: scheduler.run(backend={backend!r}, handle_signals=True))
"""
    assert child(code) == [str(-signal.SIGTERM), "returned True completed"]


def test_log_has_a_record_when_a_signal_ends_the_run(
    backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def terminate() -> None:
        signal.raise_signal(signal.SIGTERM)
        await anyio.sleep(60)

    assert not Scheduler(Job(terminate), label="night").run(
        backend=backend, handle_signals=True
    )
    assert [record.getMessage() for record in caplog.records] == [
        "the run of 'night' was interrupted: a signal ended it cleanly; debrief(listing=True) shows where each job was"
    ]


def test_second_ctrl_c_is_raised_in_a_job_that_blocks_the_loop(backend: str) -> None:
    code = f"""
async def block():
    say("blocks")
    try:
        while not signals:
            time.sleep(0.001)
        time.sleep(STALL_SECONDS)
        say("taken note")
        while True:
            time.sleep(0.001)
    except KeyboardInterrupt:
        say("got through")
        raise
scheduler = Scheduler(Actor(), Job(block, required=(first := Job(anyio.sleep, 0))), first)
watched(lambda: scheduler.run(backend={backend!r}))
"""
    lines = child(code, ("blocks", signal.SIGINT), ("taken note", signal.SIGINT))
    assert lines == [
        "runs", "blocks", "taken note", "got through", *ENDING, "raised KeyboardInterrupt interrupted"
    ]  # fmt: skip


TWICE = """
import contextlib, random
rang = False

def ring(number, frame):
    global rang
    rang = True
    signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGALRM, ring)

def trial(seed):
    global rang
    chance, alive, rang, pool = random.Random(seed), [], False, Pool(gpu=["0", "1", "2"])

    async def body(number):
        alive.append(number)
        try:
            for _ in range(chance.randrange(40)):
                await anyio.sleep(0)
        finally:
            alive.remove(number)

    async def interrupt():
        for _ in range(chance.randrange(30)):
            await anyio.sleep(0)
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-5, 4e-4))
        signal.raise_signal(signal.SIGINT)
        await anyio.sleep(60)

    jobs = [Job(body, number, needs={"gpu": 1} if number % 2 else None) for number in range(60)]
    groups = [Scheduler(*(Job(body, 100 * group + number) for number in range(5))) for group in range(1, 9)]
    scheduler = Scheduler(Job(interrupt), *jobs, *groups, pool=pool)
    raised = None
    try:
        scheduler.run(backend=backend)
    except BaseException as error:
        raised = type(error).__name__
    with contextlib.suppress(KeyboardInterrupt):  # the second may be late
        while not rang:
            time.sleep(1e-4)
    found = raised, str(scheduler.stop_reason), alive, dict(pool.free), any(job.is_running() for job in scheduler)
    expected = "KeyboardInterrupt", "interrupted", [], {"gpu": 3}, False
    return "fine" if found == expected else f"seed {seed}: {found}"

for seed in range(first, first + trials):
    say(trial(seed))
"""


def twice(backend: str, first: int, trials: int) -> list[str]:
    """Send two Ctrl-C within less than a millisecond, in the given number of runs; return the faults."""
    lines = child(f"backend, first, trials = {backend!r}, {first}, {trials}\n{TWICE}")
    hung = [f"seed {first + len(lines)} hung"] if len(lines) < trials else []
    return [line for line in lines if line != "fine"] + hung


@pytest.mark.both_backends
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("has_own_handler", [False, True])
def test_any_signal_wakes_the_waiting_loop(
    backend: Any, number: signal.Signals, has_own_handler: bool
) -> None:
    """A signal may come just before the loop waits, or to another thread: its handler must not wait for the loop. Nor
    does the handler of a job, which asyncio calls by what wakes the loop."""
    heard: list[bool] = []
    in_time: list[bool] = []
    is_over = threading.Event()

    def send() -> None:
        time.sleep(0.1)  # the loop waits, and nothing else wakes it
        if has_own_handler:
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            time.sleep(0.1)
        signal.pthread_kill(threading.get_ident(), number)
        in_time.append(
            is_over.wait(PATIENCE)
        )  # the end of the thread would wake the loop, too

    async def work() -> None:
        if has_own_handler and backend == "asyncio":
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGUSR1, lambda: heard.append(True)
            )
        elif has_own_handler:
            signal.signal(signal.SIGUSR1, lambda *_: heard.append(True))
        try:
            await anyio.sleep_forever()
        finally:
            is_over.set()

    scheduler = Scheduler(Job(work), ThreadJob(send))
    with own_handler(signal.SIGUSR1, signal.SIG_DFL):  # which is then that of the job
        if number == signal.SIGTERM:
            assert not scheduler.run(backend=backend, handle_signals=True)
        else:
            with pytest.raises(KeyboardInterrupt):
                scheduler.run(backend=backend)
    assert in_time == [True]
    assert heard == [True] * has_own_handler
    assert signal.set_wakeup_fd(-1) == -1


def test_two_ctrl_c_within_a_turn_end_the_run_cleanly(backend: str) -> None:
    """The second of two Ctrl-C at once was once raised in the middle of the engine or of the loop. Bodies stayed alive,
    a pool did not get back what they had, the run was CANCELLED, or `run()` never returned."""
    assert twice(backend, 0, 30) == []


@pytest.mark.soak
def test_two_ctrl_c_within_a_turn_end_thousands_of_runs_cleanly(backend: str) -> None:
    for first in range(1000, 5000, 250):
        assert twice(backend, first, 250) == []


def test_ctrl_c_under_co_run_ends_the_run_cleanly(backend: str) -> None:
    run = (
        "trio.run(scheduler.co_run)"
        if backend == "trio"
        else "asyncio.run(scheduler.co_run())"
    )
    code = (
        f"import trio, asyncio\nscheduler = Scheduler(Actor()); watched(lambda: {run})"
    )
    lines = child(code, ("runs", signal.SIGINT))
    assert lines[:-1] == ["runs", *ENDING]
    assert lines[-1].startswith("raised KeyboardInterrupt")


def run_in_program(scheduler: Scheduler, backend: str) -> None:
    """Run a scheduler in the program's own event loop, which handles Ctrl-C."""
    if backend == "trio":
        trio.run(scheduler.co_run)
    else:
        asyncio.run(scheduler.co_run())


def test_ctrl_c_under_co_run_is_raised_in_a_job_that_blocks_the_loop(
    backend: str,
) -> None:
    seen: list[str] = []

    async def body() -> None:
        seen.append(ctrl_c_twice())
        raise KeyboardInterrupt

    for job in (Job(body), Job(body, retry=1, timeout=60), Scheduler(Job(body))):
        scheduler = Scheduler(job, Job(anyio.sleep, 60, forever=True))
        with pytest.raises(KeyboardInterrupt):
            run_in_program(scheduler, backend)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert seen == ["raised"] * 3


def test_ctrl_c_under_co_run_on_trio_never_interrupts_the_engine() -> None:
    seen: list[str] = []
    watch = hooked(job_started=lambda *_: seen.append(ctrl_c_twice()))
    scheduler = Scheduler(Job(anyio.sleep, 60), instruments=[watch])
    with pytest.raises(KeyboardInterrupt):
        trio.run(scheduler.co_run)
    assert seen == ["not raised"]


def test_ctrl_c_is_raised_in_jobs_after_another_run_in_the_same_loop_has_ended() -> (
    None
):
    """On trio, runs that overlap share the handler of Ctrl-C, and the last one that ends restores that of trio."""
    seen: list[Any] = []

    async def main() -> None:
        trio_handler = signal.getsignal(signal.SIGINT)
        first_ended = trio.Event()

        async def body() -> None:
            await first_ended.wait()
            seen.append(ctrl_c_twice())

        async def run_first() -> None:
            await Scheduler(Job(trio.lowlevel.checkpoint)).co_run()
            first_ended.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run_first)
            with contextlib.suppress(KeyboardInterrupt):
                await Scheduler(Job(body)).co_run()
        seen.append(signal.getsignal(signal.SIGINT) is trio_handler)

    trio.run(main)
    assert seen == ["raised", True]


def test_ctrl_c_while_a_scenario_is_prepared_is_not_lost(backend: str) -> None:
    code = f"""
class Slow(AbstractJob):
    def _is_one_shot(self):
        if self.label == "first":
            say("checked")
            while not signals:
                time.sleep(0.001)
        return False
    async def co_run(self):
        say("runs")
scheduler = Scheduler(Slow(label="first", timeout=1), Scheduler([Slow() for _ in range(5000)]))
watched(lambda: scheduler.run(backend={backend!r}))
"""
    assert child(code, ("checked", signal.SIGINT)) == [
        "checked",
        "raised KeyboardInterrupt interrupted",
    ]


# --- the signal handler, and signals at awkward moments
def test_handle_signals_in_another_thread_does_nothing(backend: Any) -> None:
    """Python handles signals in the main thread only. Elsewhere `handle_signals=` sets no handler."""
    before = [signal.getsignal(number) for number in HANDLED]
    during: list[Any] = []
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        for setting in (
            True,
            lambda number: None,
            {signal.SIGTERM: lambda number: None},
        ):
            run = threads.submit(
                Scheduler(
                    Job(later, 0, lambda: during.extend(map(signal.getsignal, HANDLED)))
                ).run,
                backend=backend,
                handle_signals=setting,
            )
            assert run.result() is True
    assert during == before * 3


def test_signal_handlers_are_restored_after_the_run(backend: Any) -> None:
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    before = [signal.getsignal(number) for number in numbers]
    Scheduler().run(backend=backend, handle_signals=True)
    assert [signal.getsignal(number) for number in numbers] == before


def test_error_of_a_run_keeps_its_traceback(backend: Any) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        Scheduler(Job(fail, 0)).run(backend=backend, check=True)
    assert not hasattr(raised.value, "_trioflow_run")
    assert "raise_unless_completed" in [entry.name for entry in raised.traceback]


def test_excepthook_shows_a_signal_in_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    interruption, other = KeyboardInterrupt(), KeyboardInterrupt("other")
    interruption._trioflow_run = "mine"  # type: ignore[attr-defined]
    for error in (interruption, other):
        _sync_run._excepthook(KeyboardInterrupt, error, None)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "KeyboardInterrupt: Ctrl-C ended the run of 'mine' cleanly",
        "KeyboardInterrupt: other",
    ]
    monkeypatch.setattr("sys.stderr", None)
    _sync_run._excepthook(KeyboardInterrupt, interruption, None)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    "shell",
    [None, SimpleNamespace(), SimpleNamespace(kernel=1)],
    ids=["no IPython", "terminal", "notebook cell"],
)
def test_run_inside_a_loop_works_in_notebooks(
    backend: Any, shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run()` inside a running loop uses another thread in a cell of a notebook, and is rejected elsewhere."""
    monkeypatch.setitem(
        sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell)
    )

    async def main() -> bool:
        return Scheduler(job).run(backend=backend)

    job = Job(nothing)
    if hasattr(shell, "kernel"):
        assert asyncio.run(main())
        assert job.is_succeeded()
    else:
        with pytest.raises(
            RuntimeError,
            match=r"an event loop runs in this thread; write: await scheduler.co_run\(\)",
        ):
            asyncio.run(main())


def test_ctrl_c_in_a_notebook_cell_is_passed_to_the_thread_of_the_run() -> None:
    told: list[type[BaseException]] = []
    is_told = threading.Event()

    def work() -> str:
        main = threading.main_thread().ident or 0
        frame: FrameType | None = None
        while frame is None:  # the main thread is still starting this one
            frame = sys._current_frames()[main]
            while (
                frame is not None
                and frame.f_code is not concurrent.futures.wait.__code__
            ):
                frame = frame.f_back
        signal.pthread_kill(main, signal.SIGINT)
        assert is_told.wait(PATIENCE)
        return "done"

    def interrupt(interruption: BaseException) -> None:
        told.append(type(interruption))
        is_told.set()

    assert _sync_run.run_in_thread(work, interrupt) == "done"
    assert told == [KeyboardInterrupt]


def test_ctrl_c_after_the_loop_has_ended_is_not_lost(backend: str) -> None:
    """A Ctrl-C between the end of the loop and the end of run() is raised as KeyboardInterrupt. The handler asked the
    loop that was gone to call it, and its RunFinishedError or RuntimeError left run() instead."""
    chosen = _backend.get_backend(backend)

    async def main() -> None:
        watch.loop_started(chosen.threadsafe_caller(), lambda call: call())

    watch = SignalHandler(Scheduler(), False)

    def run() -> None:
        with watch:
            chosen.run(main, {})
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run()


def test_sigterm_after_the_loop_has_ended_is_not_lost() -> None:
    """A SIGTERM that comes too late for the run goes to the handler that the program had before."""
    seen: list[int] = []
    with own_handler(signal.SIGTERM, lambda number, frame: seen.append(number)):
        with SignalHandler(Scheduler(), True):
            signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_ignored_signals_stay_ignored(backend: Any, number: signal.Signals) -> None:
    """A run leaves ignored signals ignored; once the SIGHUP of a logout ended a program that was started by nohup."""
    seen: list[Any] = []

    async def hang_up() -> None:
        seen.append(signal.getsignal(number))
        signal.raise_signal(number)
        await anyio.sleep(0.01)

    with own_handler(number, signal.SIG_IGN):
        assert Scheduler(Job(hang_up)).run(backend=backend, handle_signals=True)
        assert [*seen, signal.getsignal(number)] == [signal.SIG_IGN] * 2


@pytest.mark.parametrize("handle_signals", [True, lambda number: None])
@pytest.mark.parametrize("number", HANDLED)
def test_handled_signals_reach_no_other_handlers(
    backend: Any, number: signal.Signals, handle_signals: Any
) -> None:
    """`handle_signals` takes all three signals, whether or not the program has handlers of its own for them. Ctrl-C
    alone went to the handler of the program."""
    seen: list[int] = []

    async def send() -> None:
        signal.raise_signal(number)
        await anyio.sleep(60)

    with own_handler(number, lambda number, frame: seen.append(number)):
        assert not Scheduler(Job(send)).run(
            backend=backend, handle_signals=handle_signals
        )
    assert seen == []


@contextlib.contextmanager
def own_handler(number: int, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


class Bang(BaseException):
    """What a handler of the program raises, as pytest-timeout does."""


class Interrupted:
    """A run that is interrupted at a random instant by what a handler of the program raises.

    Args:
        seed: of the scenario, and of the instant.
        backend: on which it runs.

    """

    def __init__(self, seed: int, backend: Any) -> None:
        self.chance = random.Random(seed)
        self.backend = backend
        self.alive: set[int] = set()
        self.shut_down: list[AbstractJob[Any]] = []
        self.is_over = threading.Event()
        self.error = self.chance.choice(
            [SystemExit(3), Bang(), OSError("no"), KeyboardInterrupt()]
        )
        self.was_raised = False

    async def body(self, number: int) -> None:
        try:
            # The handler may raise as this very call returns.
            self.alive.add(number)
            for _ in range(self.chance.choice([0, 0, 3000])):
                pass
            await anyio.sleep(self.chance.choice([0, 0, 0.001, 0.003]))
        finally:
            self.alive.discard(number)

    def scenario(self) -> Scheduler:
        chance, shut_down = self.chance, self.shut_down

        class Watched(Job[None]):
            async def co_shutdown(self) -> None:
                shut_down.append(self)

        def on_job_settled(job: Any) -> None:
            del job

        jobs: list[Any] = [
            Watched(
                self.body, number, needs={"cpu": 1} if number % 3 else None, retry=1
            )
            for number in range(20)
        ]
        jobs.append(
            Scheduler(*[Watched(self.body, number) for number in range(50, 55)])
        )
        hook = chance.choice([None, on_job_settled])
        return Scheduler(
            *jobs,
            pool=Pool(cpu=3),
            jobs_window=chance.choice([None, 4]),
            on_job_settled=hook,
            log=False,
        )

    def handler(self, number: int, frame: Any) -> None:
        self.was_raised = True
        raise self.error

    def send_later(self) -> None:
        if not self.is_over.wait(self.chance.uniform(0.0005, 0.02)):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def check(self) -> None:
        scheduler = self.scenario()
        raised: BaseException | None = None
        sender = threading.Thread(target=self.send_later)
        with own_handler(signal.SIGUSR1, self.handler):
            try:
                try:
                    sender.start()
                    scheduler.run(backend=self.backend)
                finally:
                    self.is_over.set()
                    sender.join()
            except BaseException as error:
                raised = error
        assert raised is (self.error if self.was_raised else None)
        assert scheduler._run is None
        assert not self.alive
        assert not any(
            job.state in (JobState.RUNNING, JobState.SCHEDULED)
            for job in scheduler.iterate_jobs()
        )
        watched = {
            job for job in scheduler.iterate_jobs() if not isinstance(job, Scheduler)
        }
        if scheduler.stop_reason is not None:
            assert sorted(map(id, self.shut_down)) == sorted(map(id, watched))
        assert scheduler.stop_reason in (
            StopReason.INTERRUPTED,
            StopReason.COMPLETED,
            None,
        )
        assert scheduler.run(backend=self.backend)


IGNORED = pytest.mark.filterwarnings("ignore:Exception ignored ")
"""Python ignores what a handler raises in a callback of the garbage collector, of a weak reference, or of a socket.

The run ends all the same, with the exception. The socket is that to which signals write, which trio has closed by then.
"""


LEAVE = Crew.leave
"""As it is before `invariants` looks at each run."""


@pytest.fixture
def unwatched(
    monkeypatch: pytest.MonkeyPatch, checked_states: transitions.CheckedState
) -> None:
    """Let no test code look at runs: a worker would call it, and a handler takes what a worker calls for a job."""
    monkeypatch.setattr(Crew, "leave", LEAVE)
    monkeypatch.setattr(AbstractJob, "_state", checked_states.slot)


@IGNORED
@pytest.mark.usefixtures("unwatched")
def test_what_a_handler_of_the_program_raises_leaves_run_when_the_run_has_ended(
    backend: Any,
) -> None:
    """An exception that a signal handler of the program raises, at any instant, leaves `run()` when the run has ended.
    On trio, it left jobs RUNNING, commands alive, and the scheduler running forever."""
    for seed in range(8):
        Interrupted(seed, backend).check()


@pytest.mark.soak
@IGNORED
@pytest.mark.usefixtures("unwatched")
def test_what_handlers_raise_at_many_instants(backend: Any) -> None:
    first = random.randrange(10**6)
    for seed in range(first, first + 2000):
        Interrupted(seed, backend).check()


def test_a_signal_that_comes_as_run_takes_its_handler_reaches_the_handler(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run()` raises what the handler of the program raises. It raised a KeyError."""

    def take(number: int, handler: Any) -> Any:
        before = signal.signal(number, handler)
        if getattr(handler, "__self__", None) is not None and number == signal.SIGUSR1:
            monkeypatch.undo()
            signal.raise_signal(signal.SIGUSR1)
        return before

    with own_handler(signal.SIGUSR1, raising(OSError("no"))):
        monkeypatch.setattr(_sync_run, "SIGNALS", Signals(take))
        scheduler = Scheduler(Job(nothing), log=False)
        with pytest.raises(OSError, match="no"):
            scheduler.run(backend=backend)
    assert scheduler.stop_reason is StopReason.INTERRUPTED


class Signals:
    """The module `_signal` with another function in place of `signal`."""

    def __init__(self, take: Callable[[int, Any], Any]) -> None:
        self.signal = take

    def __getattr__(self, name: str) -> Any:
        return getattr(signal, name)


def test_what_a_handler_of_the_program_raises_ends_a_job_that_blocks(
    backend: Any,
) -> None:
    async def block() -> None:
        signal.raise_signal(signal.SIGUSR1)
        time.sleep(60)  # noqa: ASYNC251 - it blocks the loop

    blocking, other = Job(block), Job(anyio.sleep, 60)
    scheduler = Scheduler(other, blocking, log=False)
    with (
        own_handler(signal.SIGUSR1, raising(OSError("too late"))),
        pytest.raises(OSError, match="too late"),
    ):
        scheduler.run(backend=backend)
    assert (scheduler.stop_reason, blocking.state, other.state) == (
        StopReason.INTERRUPTED, JobState.FAILED, JobState.CANCELLED
    )  # fmt: skip


def test_a_run_at_the_limit_of_descriptors_goes_on_without_a_word(backend: str) -> None:
    """A run on asyncio once wrote a traceback of what lets signals wake its loop."""
    code = """
import os, resource, sys
from trioflow import Job, Scheduler
import anyio

async def work():
    kept = []
    try:
        while True:
            kept.append(os.open("/dev/null", 0))
    except OSError:
        pass
    await anyio.sleep(0.2)

resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(Scheduler(Job(work)).run(backend=sys.argv[1]))
"""
    done = python("-c", code, backend, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_a_program_whose_loop_has_crashed_ends_and_leaves_no_process(
    backend: str,
) -> None:
    """A handler that a job has set raises in the loop itself: trio does not survive that. The program ends with the
    exception, as without a run, and the processes of its commands end with it."""
    code = f"""
async def crash():
    while command.pid is None:
        await anyio.sleep(0.001)
    say(command.pid)
    signal.signal(signal.SIGALRM, lambda *_: sys.exit(7))
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    await anyio.sleep(60)

command = CommandJob(["sleep", "1000"])
try:
    Scheduler(Job(crash), command).run(backend={backend!r})
except SystemExit as error:
    say(error.code)
"""
    pid, code_of_exit = child(code)
    assert code_of_exit == "7"
    until = time.monotonic() + PATIENCE
    while Path("/proc", pid).exists():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_handlers_that_a_job_sets_stay(backend: Any) -> None:
    """A handler that the code of a job sets stays after the run; one that it restores is again that of the program."""

    def own(number: int, frame: Any) -> None: ...

    async def body() -> None:
        kept.append(signal.signal(signal.SIGUSR1, own))
        signal.signal(signal.SIGUSR2, signal.signal(signal.SIGUSR2, own))

    kept: list[Any] = []
    seen: list[int] = []

    def note(number: int, frame: Any) -> None:
        seen.append(number)

    with own_handler(signal.SIGUSR1, note), own_handler(signal.SIGUSR2, note):
        assert Scheduler(Job(body)).run(backend=backend)
        assert [signal.getsignal(signal.SIGUSR1), signal.getsignal(signal.SIGUSR2)] == [
            own,
            note,
        ]
        signal.signal(signal.SIGUSR1, kept[0])  # the handler of the run, which is over
        signal.raise_signal(signal.SIGUSR1)
        assert (seen, signal.getsignal(signal.SIGUSR1)) == ([signal.SIGUSR1], note)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the loop as blocked from the first moment on."""
    monkeypatch.setattr(_sync_run, "STALL_SECONDS", 0)


def ctrl_c_twice() -> str:
    """Send Ctrl-C twice, without a turn of the loop between; say whether the second was raised here."""
    try:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        return "raised"
    return "not raised"


@pytest.mark.usefixtures("at_once")
def test_second_ctrl_c_is_raised_only_in_the_code_of_a_job(backend: Any) -> None:
    seen: list[tuple[str, str]] = []

    async def body(where: str) -> None:
        seen.append((where, ctrl_c_twice()))

    for job, instruments in [
        (Job(body, "job"), ()),
        (Job(body, "retried", retry=1, timeout=60), ()),
        (
            Job(anyio.sleep, 60),
            (hooked(job_started=lambda *_: seen.append(("hook", ctrl_c_twice()))),),
        ),
    ]:
        with pytest.raises(KeyboardInterrupt):
            Scheduler(job).run(backend=backend, instruments=instruments)
    assert seen == [("job", "raised"), ("retried", "raised"), ("hook", "not raised")]


def test_second_ctrl_c_cancels_a_job_that_unwinds_once_more() -> None:
    """On asyncio, where a job is cancelled once, a second Ctrl-C is a further cause, also for clean-up."""

    async def body() -> None:
        signal.raise_signal(signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(60)

    with pytest.raises(KeyboardInterrupt):
        Scheduler(Job(body)).run(backend="asyncio")


def test_an_interruption_in_a_job_cancels_the_others_once(backend: Any) -> None:
    """What a handler raises in the code of a job is one cause, though the job fails with it: others may clean up."""
    cleaned_up: list[bool] = []

    async def careful() -> None:
        try:
            await anyio.sleep(60)
        finally:
            with anyio.CancelScope(shield=backend == "trio"):
                await anyio.sleep(0.01)
            cleaned_up.append(True)

    with own_handler(signal.SIGUSR1, raising(Bang())), pytest.raises(Bang):
        Scheduler(
            Job(careful), Job(later, 0.01, lambda: signal.raise_signal(signal.SIGUSR1))
        ).run(backend=backend)
    assert cleaned_up == [True]


def test_second_ctrl_c_soon_after_the_first_is_not_raised(backend: Any) -> None:
    """A second Ctrl-C, pressed in a hurry, is not raised unless the loop has stood still for a quarter of a second."""
    seen: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        Scheduler(Job(later, 0, lambda: seen.append(ctrl_c_twice()))).run(
            backend=backend
        )
    assert seen == ["not raised"]


@pytest.mark.usefixtures("at_once")
def test_no_ctrl_c_interrupts_a_shutdown_that_blocks(backend: Any) -> None:
    """No Ctrl-C is raised in a `co_shutdown` that blocks the event loop; once the third one was."""
    seen: list[str] = []

    class Slow(AbstractJob[None]):
        async def co_run(self) -> None:
            signal.raise_signal(signal.SIGINT)
            await anyio.sleep_forever()

        async def co_shutdown(self) -> None:
            seen.append(ctrl_c_twice())

    with pytest.raises(KeyboardInterrupt):
        Scheduler(Slow()).run(backend=backend)
    assert seen == ["not raised"]


def test_function_given_as_handle_signals_is_called_at_each_signal(
    backend: Any,
) -> None:
    """A function given as `handle_signals=` is called with the number of each signal. If it returns None, the run ends
    cleanly; otherwise its return value is called."""
    asked: list[int] = []
    drained: list[bool] = []
    scheduler = Scheduler()

    def drain() -> None:
        scheduler.drain()
        drained.append(True)

    def on_signal(number: int) -> Callable[[], object] | None:
        asked.append(number)
        return drain if number == signal.SIGTERM else None

    async def send(number: signal.Signals) -> None:
        signal.raise_signal(number)
        while number != signal.SIGTERM or not drained:  # noqa: ASYNC110 - a signal handler sets no event
            await anyio.sleep(0.001)

    first = scheduler.add(Job(send, signal.SIGTERM))
    second = scheduler.add(Job(nothing, required=first))
    assert not scheduler.run(backend=backend, handle_signals=on_signal)
    assert (scheduler.stop_reason, first.is_succeeded(), second.is_idle()) == (
        StopReason.DRAINED,
        True,
        True,
    )
    scheduler = Scheduler(Job(send, signal.SIGHUP))
    assert not scheduler.run(backend=backend, handle_signals=on_signal)
    assert scheduler.stop_reason is StopReason.INTERRUPTED
    scheduler = Scheduler(Job(send, signal.SIGINT))
    assert not scheduler.run(backend=backend, handle_signals=on_signal)
    assert asked == [signal.SIGTERM, signal.SIGHUP, signal.SIGINT]


def test_signal_after_one_that_drains_ends_the_run_although_the_loop_has_not_turned(
    backend: Any,
) -> None:
    async def send() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        await anyio.sleep(60)

    scheduler = Scheduler(job := Job(send))
    calls = [None, scheduler.drain]
    assert not scheduler.run(backend=backend, handle_signals=lambda number: calls.pop())
    assert job.state is JobState.CANCELLED


def test_drain_in_the_handle_signals_function_drains(backend: Any) -> None:
    """A function that calls `drain()` itself, and returns None, once ended the run at once, and lost its answers."""
    calls: list[None] = []  # in the function, and then in the loop

    class Drained(Scheduler):
        def drain(self) -> None:
            calls.append(super().drain())  # type: ignore[func-returns-value]

    async def send() -> None:
        signal.raise_signal(signal.SIGTERM)
        while len(calls) < 2:  # noqa: ASYNC110 - a signal handler sets no event
            await anyio.sleep(0.001)

    first, second = Job(send), Job(nothing)
    scheduler = Drained(first, second.requires(first))
    assert not scheduler.run(
        backend=backend, handle_signals=lambda number: scheduler.drain()
    )
    assert (scheduler.stop_reason, first.is_succeeded(), second.is_idle()) == (
        StopReason.DRAINED,
        True,
        True,
    )


def test_the_first_exception_of_a_handler_leaves_the_run(backend: Any) -> None:
    codes = iter([1, 2])

    async def send() -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        await anyio.sleep_forever()

    scheduler = Scheduler(Job(send))
    with pytest.raises(SystemExit) as raised:
        scheduler.run(
            backend=backend,
            handle_signals={signal.SIGTERM: lambda number: sys.exit(next(codes))},
        )
    assert (raised.value.code, scheduler.stop_reason) == (1, StopReason.INTERRUPTED)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_a_job_that_a_handler_cancels_is_cancelled_by_the_loop_at_any_depth(
    backend: Any, depth: int
) -> None:
    seen: list[JobState] = []

    async def send() -> None:
        signal.raise_signal(signal.SIGTERM)
        seen.append(unreached.state)
        while not unreached.is_settled():  # noqa: ASYNC110 - a signal handler sets no event
            await anyio.sleep(0.001)

    unreached = Job(nothing, required=(first := Job(send)))
    jobs: list[Any] = [first, unreached]
    for _ in range(depth):
        jobs = [Scheduler(*jobs)]
    handler = {signal.SIGTERM: lambda number: unreached.cancel()}
    assert Scheduler(*jobs).run(backend=backend, handle_signals=handler)
    assert (seen, unreached.state) == ([JobState.IDLE], JobState.CANCELLED)


STEERS: list[tuple[str, StopReason, str]] = [
    ("cancel", StopReason.CANCELLED, "cancelled"),
    ("drain", StopReason.DRAINED, "cancelled"),
    ("pause", StopReason.COMPLETED, "succeeded"),
    ("job.cancel", StopReason.COMPLETED, "cancelled"),
    ("group.cancel", StopReason.COMPLETED, "succeeded"),
]


@pytest.mark.parametrize(
    ("word", "reason", "end"), STEERS, ids=[each[0] for each in STEERS]
)
@pytest.mark.parametrize(
    "is_own", [True, False], ids=["of the program", "handle_signals"]
)
def test_what_a_signal_handler_calls_to_steer_the_run_is_called_in_the_loop(
    backend: Any, word: str, reason: StopReason, end: str, is_own: bool
) -> None:
    """A signal comes in the middle of a step of the engine, or of a loop that is about to wait, and then waited on."""
    states: list[tuple[bool, ...]] = []

    def stand() -> tuple[bool, ...]:
        return (
            scheduler.is_paused(),
            waits.is_settled(),
            group.is_settled(),
            scheduler.stop_reason is not None,
        )

    def steer(number: int, frame: Any = None) -> None:
        before = stand()
        owner = {"job": waits, "group": group}.get(word.partition(".")[0], scheduler)
        getattr(owner, word.rpartition(".")[2])()
        states.extend([before, stand()])

    async def send() -> None:
        signal.raise_signal(signal.SIGUSR1)
        while not any(stand()):  # noqa: ASYNC110 - the call comes in a turn of the loop
            await anyio.sleep(0.001)
        await anyio.sleep(0.01)
        assert scheduler.is_paused() is (word == "pause")
        scheduler.resume()

    waits, group = Job(nothing), Scheduler(Job(nothing))
    scheduler = Scheduler(Job(send), waits, group, jobs_window=1, log=False)
    with own_handler(signal.SIGUSR1, steer):
        scheduler.run(
            backend=backend, handle_signals=False if is_own else {signal.SIGUSR1: steer}
        )
    assert states[0] == states[1]
    assert (scheduler.stop_reason, waits.state.value) == (reason, end)
    assert group.is_succeeded() is (word in ("pause", "job.cancel"))


def test_function_that_takes_no_signal_number_is_refused_before_the_run(
    backend: Any,
) -> None:
    job = Job(anyio.sleep, 0)
    scheduler = Scheduler(job)
    handlers: list[Any] = [scheduler.drain, lambda: scheduler.drain, print.__name__]
    for handler in handlers:
        with pytest.raises(
            TypeError,
            match=r"a function that takes a signal number, such as lambda number: scheduler\.drain",
        ):
            scheduler.run(backend=backend, handle_signals=handler)
    assert job.is_idle()


def test_exception_of_the_handle_signals_function_ends_the_run_cleanly(
    backend: Any,
) -> None:
    job = Job(anyio.sleep, 60)
    with pytest.raises(ValueError, match="no"):
        Scheduler(Job(later, 0, lambda: signal.raise_signal(signal.SIGTERM)), job).run(
            backend=backend, handle_signals=raising(ValueError("no"))
        )
    assert job.state is JobState.CANCELLED


def test_exception_of_what_handle_signals_returned_is_logged(
    backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def send() -> None:
        signal.raise_signal(signal.SIGTERM)
        while not caplog.records:  # noqa: ASYNC110 - a signal handler sets no event
            await anyio.sleep(0.001)

    assert Scheduler(Job(send), label="night").run(
        backend=backend, handle_signals=lambda _: raising(ValueError("no"))
    )
    (record,) = caplog.records
    assert "which handle_signals= of 'night' returned, raised" in record.getMessage()


@pytest.mark.parametrize(
    "setting",
    [
        "yes", {signal.SIGTERM: "yes"}, {"SIGTERM": True}, {signal.SIGKILL: True}, {signal.SIGTERM: False},
        {9999: True}, 1,
    ],
    ids=repr,
)  # fmt: skip
def test_handle_signals_accepts_only_flags_functions_and_signals(setting: Any) -> None:
    """A `handle_signals=` that is no bool, function or dict of functions by signal is rejected before the run."""
    with pytest.raises(
        TypeError,
        match=r"handle_signals=.* of 'night': give True, False, a function .*, or a dict",
    ):
        Scheduler(label="night").run(handle_signals=setting)


@pytest.mark.parametrize("number", HANDLED)
def test_handle_signals_may_say_which_signals_it_wants(
    backend: Any, number: int
) -> None:
    called: list[tuple[str, int]] = []
    ends = number != signal.SIGTERM

    async def send() -> None:
        os.kill(os.getpid(), number)
        # A run that ends before its loop has heard of the signal leaves it to the program, which SIGHUP would kill.
        await anyio.sleep(10 if ends else 0)

    setting = dict.fromkeys(
        [signal.SIGHUP, signal.SIGINT],
        lambda number: called.append(("the run", number)),
    )
    scheduler = Scheduler(Job(send), log=False)
    # For the signal that is sent, so that nothing can kill the process of the tests.
    with own_handler(
        number, lambda number, frame: called.append(("the program", number))
    ):
        result = scheduler.run(backend=backend, handle_signals=setting)
    assert called == [("the run" if ends else "the program", number)]
    assert (result, scheduler.stop_reason is StopReason.INTERRUPTED) == (not ends, ends)


def test_ctrl_c_beside_signals_that_a_dict_names_is_raised(backend: Any) -> None:
    async def send() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep(10)

    scheduler = Scheduler(Job(send), log=False)
    with pytest.raises(KeyboardInterrupt):
        scheduler.run(backend=backend, handle_signals={signal.SIGTERM: True})
    assert scheduler.stop_reason is StopReason.INTERRUPTED


@pytest.mark.usefixtures("many_pauses")
@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("number", [1, 300])
def test_ctrl_c_during_the_checks_is_not_lost(
    backend: Any, number: int, wrong: bool
) -> None:
    """A Ctrl-C that comes while a scenario is checked is raised, whatever the checks find afterwards. If they found an
    error, only that left run(), and a program that caught it went on as if there had been no Ctrl-C. With few jobs the
    checks end before the loop can handle it, with many after."""

    class Sends(AbstractJob[None]):
        def _is_one_shot(self) -> bool:
            signal.raise_signal(signal.SIGINT)
            return False

        async def co_run(self) -> None: ...

    a, b = AbstractJob[None](label="a"), AbstractJob[None](label="b")
    a.requires(b)
    if wrong:
        b.requires(a)
    inner = Scheduler([AbstractJob[None]() for _ in range(number)])
    scheduler = Scheduler(Sends(timeout=1), Scheduler(a, b), inner)
    with pytest.raises(KeyboardInterrupt):
        scheduler.run(backend=backend)


def test_run_does_not_replace_a_sigint_handler_of_the_program(backend: Any) -> None:
    seen: list[int] = []
    with own_handler(signal.SIGINT, lambda number, frame: seen.append(number)):
        assert (
            Scheduler(Job(later, 0, lambda: signal.raise_signal(signal.SIGINT))).run(
                backend=backend
            )
            is True
        )
    assert seen == [signal.SIGINT]
