"""`ProcessJob`: Python functions in worker processes."""

import copyreg
import multiprocessing
import os
import pickle
import re
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import (
    CommandJob,
    Job,
    JobCancelled,
    JobState,
    JobTimeout,
    Pool,
    ProcessJob,
    Scheduler,
    StopReason,
)
from trioflow._core.job import _job_options
from trioflow.abc import fraction_done
from trioflow.jobs.process import _process_job, _worker_main
from ...bodies import hooked, notes, raising, ran, run
from ...places import patiently
from ...pythons import Python, python
from ..posix.process_trees import Watched, until_there
from ..posix.process_trees import watched as watched
from . import exception_bodies
from . import process_bodies as bodies

DATA = bytes(range(256)) * 20_000
"""More than the buffer of a socket holds."""


@pytest.fixture(scope="module")
def ended() -> dict[str, ProcessJob[Any]]:
    """Return jobs that have run one after another in one worker process, by the name of what is special about each."""
    first = ProcessJob(bodies.add, 1, 2)
    jobs: dict[str, ProcessJob[Any]] = {
        "jobs as arguments": ProcessJob(
            bodies.add, first, kwargs={"b": 10, "c": first}
        ),
        "large": ProcessJob(bodies.large, DATA),
        "fails": ProcessJob(bodies.fail, "no luck"),
        "exits": ProcessJob(bodies.interrupt, "SystemExit(3)"),
        "is interrupted": ProcessJob(bodies.interrupt, "KeyboardInterrupt()"),
        "returns nonsense": ProcessJob(bodies.returns_nonsense),
        "is fragile": ProcessJob(bodies.add, bodies.Fragile()),
        "reports": ProcessJob(bodies.report, [0.2, 0.6], 0.02),
        "reports often": ProcessJob(bodies.report_often, 10_000),
        "is silent": ProcessJob(bodies.add, 1),
        "reports too much": ProcessJob(bodies.report, [1.5], 0),
        "reports words": ProcessJob(bodies.report, ["half"], 0),
        "is used": ProcessJob(bodies.use),
        "is last": ProcessJob(bodies.add, 1),
    }
    run("trio", first, *jobs.values(), jobs_window=1)
    return jobs


def test_arguments_and_results_are_sent(ended: dict[str, ProcessJob[Any]]) -> None:
    """Jobs among the arguments are replaced by their results; arguments and results may be large."""
    assert ended["jobs as arguments"].result() == 16
    assert ended["large"].result() == DATA[::-1]


def test_an_exception_in_a_worker_has_its_traceback_in_a_note(
    ended: dict[str, ProcessJob[Any]],
) -> None:
    with pytest.raises(LookupError, match="no luck") as raised:
        ended["fails"].result()
    assert "in a worker process:\nTraceback" in notes(raised.value)
    assert "process_bodies.py" in notes(raised.value)


@pytest.mark.parametrize(
    ("name", "error"),
    [("exits", "SystemExit(3)"), ("is interrupted", "KeyboardInterrupt()")],
)
def test_an_exit_or_interruption_in_a_worker_fails_only_its_job(
    ended: dict[str, ProcessJob[Any]], name: str, error: str
) -> None:
    """SystemExit or KeyboardInterrupt in a worker fails its job, and ends neither the run nor the program."""
    with pytest.raises(
        RuntimeError, match=re.escape(f"its function raised {error} in its process")
    ) as raised:
        ended[name].result()
    assert "process_bodies.py" in notes(raised.value.__cause__)
    assert ended["is last"].result() == 1


def test_what_cannot_be_pickled_there_or_loaded_fails_its_job(
    ended: dict[str, ProcessJob[Any]],
) -> None:
    with pytest.raises(
        TypeError, match="returns_nonsense returned a function, which cannot be pickled"
    ):
        ended["returns nonsense"].result()
    with pytest.raises(OSError, match="not here") as raised:
        ended["is fragile"].result()
    assert "could not load the function or an argument" in notes(raised.value)


def test_a_function_reports_its_progress(ended: dict[str, ProcessJob[Any]]) -> None:
    """Progress reported in a worker reaches its job; the next begins without; what is invalid raises as outside."""
    assert (ended["reports"].result(), fraction_done(ended["reports"])) == ("done", 0.6)
    assert (
        fraction_done(ended["reports often"]),
        fraction_done(ended["is silent"]),
    ) == (1.0, None)
    assert isinstance(ended["reports too much"].raised_exception(), ValueError)
    assert isinstance(ended["reports words"].raised_exception(), TypeError)
    assert str(ended["is used"].raised_exception()).startswith(
        "current_job().used: in the process of a ProcessJob, cur"
    )


def test_a_worker_process_is_reused_and_ends_with_the_run(
    backend: str, watched: Watched
) -> None:
    jobs = [ProcessJob(bodies.count) for _ in range(3)]
    scheduler = run(backend, *jobs, jobs_window=1)
    assert [job.result() for job in jobs] == [1, 2, 3]
    assert watched.alive() == []
    assert scheduler.run(backend=backend)
    assert [job.result() for job in jobs] == [1, 2, 3]


@pytest.mark.parametrize("how", ["timeout", "cancel", "critical"])
def test_a_worker_process_is_killed_with_its_children(
    backend: str, watched: Watched, tmp_path: Path, how: str
) -> None:
    flag = tmp_path / "started"
    job = ProcessJob(
        bodies.nap_forever, str(flag), timeout=0.3 if how == "timeout" else None
    )
    after = ProcessJob(bodies.add, 1, required=job, run_if="settled")

    async def end() -> None:
        if how == "timeout":
            return
        await anyio.to_thread.run_sync(until_there, flag)
        assert job.pid is not None
        if how == "critical":
            raise OSError("broken")
        if how == "cancel":
            job.cancel()

    scheduler = run(backend, job, after, Job(end, critical=True))
    assert watched.alive() == []
    expected = {
        "timeout": JobTimeout,
        "cancel": JobCancelled,
        "critical": JobCancelled,
    }[how]
    with pytest.raises(expected):
        job.result()
    if how == "critical":
        assert (after.state, scheduler.stop_reason) == (
            JobState.IDLE,
            StopReason.CRITICAL,
        )
    else:
        assert after.result() == 1


@pytest.fixture(scope="module")
def raised_there() -> dict[str, Any]:
    """Return the exceptions raised in ProcessJobs, as they arrive, by name."""
    jobs = {
        name: ProcessJob(exception_bodies.fail_with, name)
        for name in exception_bodies.exceptions()
    }
    run("asyncio", *jobs.values(), jobs_window=1)
    return {name: job.raised_exception() for name, job in jobs.items()}


@pytest.mark.parametrize(
    "name",
    [
        "Greeting", "Missing", "Own", "Compiled", "CompiledAwkward", "Unwilling", "Frozen", "Slotted",
        "FileNotFoundError", "ModuleNotFoundError", "UnicodeDecodeError",
    ],
)  # fmt: skip
def test_an_exception_in_a_worker_arrives_unchanged(
    raised_there: dict[str, Any], name: str
) -> None:
    """Type, text, arguments and attributes of an exception arrive unchanged, whatever its `__init__` does."""
    error, expected = raised_there[name], exception_bodies.exceptions()[name]
    assert type(error) is type(expected)
    assert (str(error), error.args) == (str(expected), expected.args)
    ours = {key: value for key, value in vars(error).items() if key != "__notes__"}
    assert ours == vars(expected) or isinstance(error, exception_bodies.Compiled)
    for attribute in (
        "errno",
        "filename",
        "filename2",
        "name",
        "path",
        "object",
        "reason",
        "code",
        "what",
    ):
        assert getattr(error, attribute, None) == getattr(expected, attribute, None)


def test_a_library_that_pickles_built_in_exceptions_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If a library registers its own pickling of a built-in type, as Dask does, the text arrives all the same."""
    error = UnicodeDecodeError("utf-8", b"ab", 1, 2, "bad")
    monkeypatch.setitem(
        copyreg.dispatch_table,
        UnicodeDecodeError,
        lambda error: (bodies.without_init, (error.args,)),
    )
    assert str(pickle.loads(pickle.dumps(error))) == ""
    arrived = _worker_main.rebuild_error(_worker_main.take_error_apart(error))
    assert (str(arrived), arrived.args) == (str(error), error.args)


def test_an_exception_that_cannot_be_made_of_its_parts_is_pickled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python makes no instance of some types in C, such as pydantic's, which know how to pickle themselves."""

    def refuse(error_type: type[BaseException]) -> None:
        raise TypeError(f"ValueError.__new__({error_type.__name__}) is not safe")

    monkeypatch.setattr(_worker_main, "find_builtin_type", refuse)
    arrived = _worker_main.rebuild_error(
        _worker_main.take_error_apart(exception_bodies.Own(3, 4))
    )
    assert isinstance(arrived, exception_bodies.Own)
    assert arrived.both == (3, 4)
    unwilling = _worker_main.rebuild_error(
        _worker_main.take_error_apart(exception_bodies.Unwilling("no"))
    )
    assert repr(unwilling) == "RuntimeError('Unwilling: no')"


def test_worker_processes_may_use_what_a_manager_shares(backend: str) -> None:
    """A proxy of a `multiprocessing.Manager` works in a worker, which once had another key than its manager."""
    with multiprocessing.Manager() as manager:
        job = ProcessJob(bodies.use_lock, manager.Lock())
        run(backend, job)
        assert job.result() is True


def test_an_attribute_of_an_exception_that_cannot_be_pickled_is_left_out(
    raised_there: dict[str, Any],
) -> None:
    error = raised_there["Awkward"]
    assert isinstance(error, exception_bodies.Awkward)
    assert (str(error), error.sum, hasattr(error, "lock")) == ("1 and 2", 3, False)
    assert "without its attribute 'lock', which cannot be pickled" in notes(error)


def test_an_exception_group_in_a_worker_arrives_as_a_group(
    raised_there: dict[str, Any],
) -> None:
    """An exception group keeps its type, and its members keep theirs, as far as they can be sent."""
    error = raised_there["Group"]
    assert isinstance(error, exception_bodies.Group)
    assert (error.message, error.number) == ("some", 5)  # type: ignore[attr-defined]
    first, inner = error.exceptions
    assert isinstance(first, exception_bodies.Awkward)
    assert isinstance(inner, ExceptionGroup)
    assert [type(one) for one in inner.exceptions] == [
        exception_bodies.Greeting,
        RuntimeError,
    ]
    assert [str(one) for one in inner.exceptions] == [
        "hello Ada",
        "local.<locals>.Local: of here",
    ]


def test_an_exception_of_an_unknown_type_keeps_its_name_and_text(
    raised_there: dict[str, Any],
) -> None:
    error = raised_there["local"]
    assert type(error) is RuntimeError
    assert str(error) == "local.<locals>.Local: of here"


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("mute argument", ValueError, "<its __repr__ raised LookupError>"),
        ("mute", RuntimeError, "mute.<locals>.Local: <its __str__ raised LookupError>"),
    ],
)
def test_an_exception_without_a_valid_text_does_not_end_the_worker(
    raised_there: dict[str, Any], name: str, kind: type[Exception], text: str
) -> None:
    """If `__str__` or `__repr__` of an exception raises, the job fails with another text that says so."""
    error = raised_there[name]
    assert (type(error), str(error)) == (kind, text)


def test_nice_lowers_the_priority_of_the_process(backend: str) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    jobs = [ProcessJob(bodies.priority, nice=nice) for nice in (None, 3, None, 3, 5)]
    run(backend, *jobs, jobs_window=1)
    processes, priorities = zip(*(job.result() for job in jobs), strict=True)
    assert priorities == (own, own + 3, own, own + 3, own + 5)
    assert processes[0] == processes[2]
    assert processes[1] == processes[3]
    assert len(set(processes)) == 3


def test_memory_limit_applies_to_the_call_and_its_child_processes(backend: str) -> None:
    limit = 1 << 29
    jobs = [
        ProcessJob(bodies.take, 1 << 30, memory_limit=limit),
        ProcessJob(bodies.limit_of_child, memory_limit=limit),
    ]
    free = [
        ProcessJob(bodies.take, 1 << 30),
        ProcessJob(bodies.take, 1000, memory_limit=limit),
    ]
    run(backend, *jobs, *free, jobs_window=1)
    assert isinstance(jobs[0].raised_exception(), MemoryError)
    assert "in a worker process" in notes(jobs[0].raised_exception())
    assert f"had memory_limit={limit}: raise the limit" in notes(
        jobs[0].raised_exception()
    )
    assert jobs[1].result() == limit // 1024
    assert free[0].result() == free[1].result()


@pytest.mark.parametrize(
    ("option", "error", "what"),
    [
        ({"nice": 1.5}, TypeError, "nice=1.5 of 'p': give a whole number"),
        ({"nice": True}, TypeError, "nice=True of 'p': give a whole number"),
        (
            {"memory_limit": 0},
            ValueError,
            "memory_limit=0 of 'p': give a positive number of bytes",
        ),
        (
            {"memory_limit": 1 << 63},
            ValueError,
            f"memory_limit={1 << 63} of 'p': give a positive number of bytes, below",
        ),
        (
            {"memory_limit": 1.5},
            TypeError,
            "memory_limit=1.5 of 'p': give a whole number of bytes, or a size",
        ),
        (
            {"memory_limit": "1 XB"},
            ValueError,
            "memory_limit='1 XB' of 'p': write a number and a unit",
        ),
    ],
)
def test_an_invalid_nice_or_memory_limit_raises(
    option: Any, error: type[Exception], what: str
) -> None:
    with pytest.raises(error, match=re.escape(what)):
        ProcessJob(bodies.add, 1, label="p", **option)


def test_a_priority_that_is_for_root_only_fails_its_job(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a negative `nice=` is not permitted, the job fails with an error that says that it requires root."""
    monkeypatch.setattr(os, "setpriority", raising(PermissionError()))
    job = ran(backend, ProcessJob(bodies.add, 1, nice=-5))
    with pytest.raises(PermissionError, match="nice=-5 requires root"):
        job.result()


PROMPT = """
import trioflow
class Thing: pass
def double(x): return 2 * x
jobs = [trioflow.ProcessJob(double, 2), trioflow.ProcessJob(str, Thing()), trioflow.ProcessJob(abs, -3)]
trioflow.Scheduler(*jobs, jobs_window=1).run(backend=BACKEND)
for job in jobs: print(job.raised_exception() or job.result())
"""


@pytest.mark.parametrize(("backend", "way"), [("trio", "-c"), ("asyncio", "pipe")])
def test_a_function_of_a_notebook_or_prompt_fails_with_advice(
    backend: str, way: str
) -> None:
    code = PROMPT.replace("BACKEND", repr(backend))
    if way == "pipe":
        done = python("-", input=code, text=True)
    else:
        done = python("-c", code, stdin=subprocess.DEVNULL, text=True)
    function, argument, result = done.stdout.splitlines()
    assert "its function double cannot be sent to a process" in function
    assert "a notebook" in function
    assert "move it to a module" in function
    assert "processes=loky.get_reusable_executor()" in function
    assert len(function) < 200  # the line of the log is not cut before the cures
    assert "argument 1, a Thing, cannot be sent to a process" in argument
    assert result == "3"


def test_a_worker_process_that_dies_fails_only_its_job(
    backend: str, watched: Watched
) -> None:
    """If a worker process dies, only its job fails, even if a child of the process holds its socket open."""
    ways = {
        "exit": "exit code 5",
        "crash": "ended by signal SIGSEGV",
        "fork": "exit code 5",
    }
    jobs = {how: ProcessJob(bodies.die, how) for how in ways}
    after = ProcessJob(bodies.add, 1)
    run(backend, *jobs.values(), after, jobs_window=1)
    for how, told in ways.items():
        with pytest.raises(RuntimeError, match=f"its process has died: {told}"):
            jobs[how].result()
    assert after.result() == 1
    assert watched.alive() == []


def test_an_idle_worker_process_that_has_died_is_replaced(
    backend: str, watched: Watched
) -> None:
    first = ProcessJob(bodies.whoami)

    async def kill() -> None:
        descriptor = os.pidfd_open(first.result()[0])
        os.kill(first.result()[0], 9)
        await anyio.wait_readable(descriptor)
        os.close(descriptor)

    killer = Job(kill, required=first)
    second = ProcessJob(bodies.whoami, required=killer)
    run(backend, second, killer, first)
    assert second.result()[0] != first.result()[0]


@pytest.mark.parametrize(("backend", "when"), [("trio", "busy"), ("asyncio", "idle")])
def test_workers_end_when_their_program_is_killed(
    backend: str, watched: Watched, tmp_path: Path, when: str
) -> None:
    code = (
        "import anyio, sys\nfrom tests.jobs.process.process_bodies import add, nap_forever, touch\n"
        "from trioflow import Job, ProcessJob, Scheduler\n"
        "async def touch_and_nap(path):\n    touch(path)\n    await anyio.sleep(1000)\n"
        "first = ProcessJob(add, 1)\n"
        "job = Job(touch_and_nap, sys.argv[2], required=first)"
        " if sys.argv[3] == 'idle' else ProcessJob(nap_forever, sys.argv[2], required=first)\n"
        "Scheduler(first, job).run(backend=sys.argv[1])"
    )
    process = Python(["-c", code, backend, str(tmp_path / "started"), when])
    until_there(tmp_path / "started")
    process.kill()
    process.wait()
    assert watched.gone_in_time()


def local() -> Any:
    def inside() -> None: ...

    return inside


def test_an_unpicklable_call_fails(backend: str, watched: Watched) -> None:
    rows: list[tuple[Any, dict[str, Any], str]] = [
        ((local(),), {}, r"local.<locals>.inside cannot be sent"),
        (
            (lambda: None,),
            {},
            r"<lambda> cannot be sent to a process, which could not find it: define it at the top",
        ),
        ((threading.Lock().acquire,), {}, r"its function \S*acquire cannot be sent"),
        ((bodies.add, 1, threading.Lock()), {}, "argument 2, a lock, cannot be sent"),
        (
            (bodies.add, 1),
            {"c": threading.Lock()},
            "argument 'c', a lock, cannot be sent",
        ),
    ]
    jobs = [ProcessJob(*arguments, kwargs=keywords) for arguments, keywords, _ in rows]
    run(backend, *jobs, jobs_window=1)
    for job, (*_, message) in zip(jobs, rows, strict=True):
        with pytest.raises(TypeError, match=message):
            job.result()


def test_a_worker_has_no_input_and_prints_as_this_program(
    backend: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A worker has no input, and prints to this program's output, so that no text gets into its answer."""
    job = ran(backend, ProcessJob(bodies.read_and_print))
    assert job.result() == ""
    assert capfd.readouterr().out == "printed\n"


@pytest.mark.parametrize("backend", ["asyncio"])  # the backend makes no difference
def test_functions_of_the_main_module_are_found(backend: str, tmp_path: Path) -> None:
    """Workers import the main module under another name, so that code below `if __name__` does not run again."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n\ndef twice(x):\n    return 2 * x\n\n"
        "if __name__ == '__main__':\n    from trioflow import ProcessJob, Scheduler\n    job = ProcessJob(twice, 21)\n"
        "    Scheduler(job).run(backend=sys.argv[1], check=True)\n    print(job.result())\n"
    )
    found = python(program, backend, text=True)
    assert (found.stdout, found.stderr) == ("42\n", "")


@pytest.mark.parametrize("backend", ["asyncio"])  # the backend makes no difference
def test_a_main_module_that_starts_a_run_on_import_fails_with_advice(
    backend: str, tmp_path: Path
) -> None:
    """A worker ends with advice, rather than start the run again, if importing the main module starts a run."""
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nfrom trioflow import ProcessJob, Scheduler\n\njob = ProcessJob(abs, -21)\n"
        "Scheduler(job).run(backend=sys.argv[1])\nprint(job.raised_exception())\n"
    )
    found = python(program, backend, text=True)
    assert found.stdout == "'abs(-21)': its process has died: exit code 1\n"
    assert (
        'put code that must run only once under `if __name__ == "__main__":`'
        in found.stderr
    )


@patiently(0.4, 4, 30)
def test_reports_of_progress_prevent_idle_timeout(
    backend: str, watched: Watched, tmp_path: Path, unit: float
) -> None:
    first = [ProcessJob(bodies.meet, str(tmp_path), 2, True) for _ in range(2)]
    steady = ProcessJob(
        bodies.report, [0.1] * 20, unit / 10, idle_timeout=unit, required=first
    )
    silent = ProcessJob(bodies.report, [0.1], 99, idle_timeout=unit, required=first)
    run(backend, first, steady, silent, processes=2)
    assert steady.result() == "done"
    error = silent.raised_exception()
    assert isinstance(error, JobTimeout)
    assert error.missing == "progress"
    assert watched.alive() == []


def test_a_run_has_at_most_as_many_worker_processes_as_given(backend: str) -> None:
    jobs = [ProcessJob(bodies.whoami) for _ in range(9)]
    keeper, nested = Scheduler(*jobs[3:6], needs={"cpu": 1}), Scheduler(*jobs[6:])
    assert Scheduler(*jobs[:3], keeper, nested, pool=Pool(cpu=1), processes=2).run(
        backend=backend
    )
    assert len({job.result()[0] for job in jobs}) <= 2


def test_a_run_has_at_most_as_many_worker_processes_as_cpus(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = _job_options.RunResource(lambda: 1, "", None)
    monkeypatch.setitem(
        _job_options.RUN_RESOURCES, _process_job.WORKER_PROCESSES_RESOURCE, one
    )
    jobs = [ProcessJob(bodies.whoami) for _ in range(4)]
    run(backend, *jobs)
    assert len({job.result()[0] for job in jobs}) == 1


def test_a_nested_scheduler_may_have_its_own_number_of_worker_processes(
    backend: str, tmp_path: Path
) -> None:
    meeting = [ProcessJob(bodies.meet, str(tmp_path), 3) for _ in range(3)]
    assert Scheduler(meeting[0], Scheduler(*meeting[1:], processes=2), processes=1).run(
        backend=backend, timeout=60
    )


def test_a_job_that_waits_for_a_worker_process_is_scheduled(backend: str) -> None:
    seen: list[Any] = []

    def job_started(scheduler: Any, job: Any) -> None:
        if job is first:
            seen.extend([second.state, second.granted, scheduler.explain(second)])

    first, second = jobs = [
        ProcessJob(bodies.whoami, label=label, timeout=30)
        for label in ("first", "second")
    ]
    scheduler = Scheduler(
        *jobs, processes=1, jobs_window=3, instruments=[hooked(job_started=job_started)]
    )
    assert scheduler.run(backend=backend)
    assert seen == [
        JobState.SCHEDULED,
        {},
        "'second' waits for worker processes: 1 of 1 taken by 'first'",
    ]
    assert first.finished_at is not None
    assert second.started_at is not None
    assert second.started_at >= first.finished_at


def test_a_worker_process_is_not_among_the_needs_that_users_see(backend: str) -> None:
    job = ProcessJob(bodies.whoami, needs={"cpu": 1})
    assert Scheduler(job, pool=Pool(cpu=1)).run(backend=backend)
    assert job.needs == {"cpu": 1}


def test_an_executor_has_no_limit_of_worker_processes(backend: str) -> None:
    """An executor makes as many calls at once as it has workers, whatever `processes=` of the outer scheduler is."""
    meeting = threading.Barrier(3)
    jobs = [ProcessJob(meeting.wait, 60) for _ in range(3)]
    with ThreadPoolExecutor(3) as executor:
        assert Scheduler(Scheduler(*jobs, processes=executor), processes=1).run(
            backend=backend
        )


def test_zero_worker_processes_raise() -> None:
    """`processes=0` raises an error, since no ProcessJob could start."""
    with pytest.raises(
        ValueError, match="processes of 's' is 0: give 1 or more worker processes"
    ):
        Scheduler(label="s", processes=0)


def test_a_pool_with_the_resource_worker_processes_raises() -> None:
    with pytest.raises(
        ValueError, match="'worker processes' is the name of a built-in resource"
    ):
        Pool(**{_process_job.WORKER_PROCESSES_RESOURCE: 3})


@patiently(0.5, 3, 20)
def test_work_that_ended_while_the_program_stood_still_is_in_time(
    backend: str, tmp_path: Path, unit: float
) -> None:
    """A command, and a call in a worker, that ended in time have succeeded, although the program looks too late. A
    program stands still if it is stopped (SIGSTOP, a suspended laptop), or if a job blocks its loop as here."""
    process = ProcessJob(
        bodies.announce, str(tmp_path / "process"), unit / 4, timeout=unit
    )
    command = CommandJob(
        ["sh", "-c", f"touch {tmp_path}/command; sleep {unit / 4}"], timeout=unit
    )
    late = ProcessJob(bodies.announce, str(tmp_path / "late"), 4 * unit, timeout=unit)

    async def stand_still() -> None:
        while len(os.listdir(tmp_path)) < 3:  # noqa: ASYNC110 - other processes write there
            await anyio.sleep(0.01)
        time.sleep(2 * unit)  # noqa: ASYNC251 - as if the program were stopped

    run(
        backend, process, command, late, Job(stand_still, timeout=4 * unit), processes=3
    )
    assert (process.result(), process.timed_out, command.result().returncode) == (
        "done",
        False,
        0,
    )
    assert isinstance(late.raised_exception(), JobTimeout)


def test_log_shows_how_to_cure_a_function_that_cannot_be_sent(
    backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The cure was cut out of the middle of the line, because pickle's own message follows it."""
    run(backend, ProcessJob(lambda: 1, critical=False))
    assert (
        "which could not find it: define it at the top level of a module;"
        in caplog.text
    )
