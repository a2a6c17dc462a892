"""Common mistakes of beginners, and the advice in their errors."""

import enum
import functools
import inspect
import re
import subprocess
from collections.abc import Callable, Coroutine, Generator, Iterator
from pathlib import Path
from typing import Any, cast
import anyio
import anyio.lowlevel
import pytest
import trioflow
from trioflow import (
    Job,
    JobNotDone,
    JobTimeout,
    MissingRequirement,
    Scheduler,
    Sequence,
    SshError,
    SshNode,
    Throttled,
)
from trioflow.abc import AbstractJob
from trioflow.jobs.ssh._transport import OpenSsh
from ..bodies import FAILED, add, fail, give_now, later, nap
from ..conftest import Virtual


def test_a_job_class_without_super_init_raises_an_error_that_names_it() -> None:
    class Own(AbstractJob[None]):
        def __init__(self) -> None:
            pass

    for use in (Scheduler, Sequence, Job(fetch).requires):
        with pytest.raises(
            TypeError, match=r"Own\.__init__ must call super\(\)\.__init__\(\)"
        ):
            use(Own())


# --- a function in place of a word
def test_a_function_as_run_if_is_told_where_a_condition_goes() -> None:
    """A function as `run_if` is rejected with what else there is; a word that is not known, with the words alone."""
    with pytest.raises(
        ValueError,
        match=r"choose one of .*; a condition of your own goes into the job, .*\.add\(\)$",
    ):
        Job(nap, 1, run_if=cast(Any, lambda: True))
    with pytest.raises(
        ValueError, match=r"run_if='never' .*: choose one of [a-z]+, [a-z]+, [a-z]+$"
    ):
        Job(nap, 1, run_if=cast(Any, "never"))


# --- arguments
class Shop:
    async def pay(self, amount: int, *, at: str = "") -> None: ...


@pytest.mark.parametrize(
    ("build", "fact"),
    [
        (
            lambda: Job(nap, 1, 2, 3),
            "Job(nap, ...): too many positional arguments: it is nap(",
        ),
        (lambda: Job(nap, kwargs={"sceonds": 1}), "'sceonds'"),
        (
            lambda: Job(Shop().pay),
            "missing a required argument: 'amount': it is pay(self, amount, at)",
        ),
        (lambda: Job(Shop().pay, 1, "here"), "too many"),
        (lambda: trioflow.ThreadJob(plain), "ThreadJob(plain, ...): missing"),
        (
            lambda: Job(nap, Job(nap, 1, label="wait").result),
            "wait.result is an argument of 'nap': give the job",
        ),
        (
            lambda: Job(nap, kwargs={"seconds": [Job(nap, 1, label="wait").result]}),
            "give the job itself",
        ),
        (lambda: Job(nap, 1, required="a"), "pass the job, not its label"),
        (lambda: trioflow.First(), "First(): give the jobs that compete"),
        (lambda: SshNode("root@"), "and a host after it"),
        (lambda: SshNode("@host"), "give a user before the '@'"),
    ],
)
def test_arguments_that_cannot_be_right_are_rejected_where_they_are_written(
    build: Any, fact: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(fact)):
        build()


@pytest.mark.parametrize(
    "build",
    [
        lambda: Job(Shop().pay, 1),
        lambda: Job(Shop.pay, Shop(), 1, kwargs={"at": "here"}),
        lambda: Job(anything, 1, 2, kwargs={"c": 3}),
        lambda: Job(functools.wraps(plain)(anything)),
        lambda: trioflow.ThreadJob(print, Job(nap, 1).cancel),
    ],
)
def test_arguments_that_a_function_takes_are_accepted(build: Any) -> None:
    assert len(Scheduler(build())) == 1


def plain(amount: int) -> None: ...


async def anything(*args: object, **kwargs: object) -> None: ...


@pytest.mark.parametrize("name", ["ud", "other"])
def test_a_need_that_a_job_does_not_have_is_told_with_the_name_that_was_meant(
    virtual: Virtual, name: str
) -> None:
    """An unknown name in `used()` and in `Throttled` comes with the need that is most like it, if there is one."""

    async def uses() -> None:
        trioflow.current_job().used(**{name: 1})

    async def throttles() -> None:
        raise trioflow.Throttled(name)

    jobs = [Job(body, needs={"usd": 1}, log=False) for body in (uses, throttles)]
    virtual(
        Scheduler(*jobs, pool=trioflow.Pool(usd=trioflow.Budget(3)), log=False).co_run
    )
    advice = "did you mean 'usd'?" if name == "ud" else "add it to needs="
    assert all(advice in str(job.raised_exception()) for job in jobs)


def test_a_word_for_a_shell_is_named_if_its_command_fails(backend: str) -> None:
    """A program gets the word as it is, which may be meant: the advice comes with a failure alone."""
    job = trioflow.CommandJob(["ls", "|", "wc"], stderr=subprocess.DEVNULL, log=False)
    Scheduler(job, log=False).run(backend=backend)
    assert (
        "'|' is an argument here; for a shell, give one string and shell=True"
        in text_with_notes(job)
    )


def test_a_journal_in_a_directory_that_is_not_there_names_it(
    backend: str, tmp_path: Path
) -> None:
    with pytest.raises(
        trioflow.JournalError, match=r"create the directory '.*missing' first"
    ):
        Scheduler(Job(nap, 1), journal=tmp_path / "missing" / "run.db").run(
            backend=backend
        )


def text_with_notes(job: AbstractJob[Any]) -> str:
    error = job.raised_exception()
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


# --- a function that returns what cannot be awaited
class Answer:
    def __await__(self) -> Generator[Any, Any, int]:
        yield from anyio.lowlevel.checkpoint().__await__()
        return 5


@pytest.mark.parametrize("options", [{}, {"retry": 1}])
def test_a_job_function_may_return_any_awaitable(
    virtual: Virtual, options: dict[str, Any]
) -> None:
    fine, wrong = (
        Job(lambda: Answer(), **options),
        Job(cast(Any, lambda: int("5")), **options),
    )
    assert not virtual(Scheduler(fine, wrong).co_run)
    assert fine.result() == 5
    error = wrong.raised_exception()
    assert isinstance(error, TypeError)
    assert (
        text_with_notes(wrong).count("its function returned 5, which is not awaitable")
        == 1
    )


# --- a coroutine that nobody awaits
async def fetch() -> str:
    return "page"


made: list[Coroutine[Any, Any, str]] = []


async def forgets() -> Coroutine[Any, Any, str]:
    """Return what another async function has returned, without awaiting that."""
    made.append(fetch())
    return made[-1]


class Forgets(AbstractJob[Any]):
    async def co_run(self) -> Any:
        return await forgets()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Job(forgets, label="x"),
        lambda: Job(forgets, label="x", retry=3),
        lambda: Forgets(label="x"),
    ],
    ids=["plain", "retried", "own kind"],
)
def test_a_job_that_returns_a_coroutine_fails(
    virtual: Virtual, make: Callable[[], AbstractJob[Any]]
) -> None:
    """If the await is missing in `async def f(): return fetch()`, the error of the job has the line to write."""
    made.clear()
    job = make()
    assert not virtual(Scheduler(job).co_run)
    assert job.state is FAILED
    assert job.attempts == 1
    error = job.raised_exception()
    assert isinstance(error, TypeError)
    assert str(error) == (
        "'x': its function returned the coroutine of fetch(), which was never awaited; write: return await fetch()"
    )
    assert [inspect.getcoroutinestate(coroutine) for coroutine in made] == [
        inspect.CORO_CLOSED
    ]


def test_a_clean_up_job_that_returns_a_coroutine_fails(virtual: Virtual) -> None:
    """A clean-up job that returns a coroutine fails like other jobs: the error has the missing `return await`."""
    failing = Job(fail, 0, critical=True)
    job = Job(forgets, required=failing, run_if="failed")
    virtual(Scheduler(failing, job).co_run)
    assert "return await fetch()" in str(job.raised_exception())


def test_an_awaitable_that_is_no_coroutine_is_a_valid_result(virtual: Virtual) -> None:
    class Later:
        def __await__(self) -> Any:
            return iter(())

    results: list[object] = [Later(), Job(fetch), anyio.Event]
    jobs = [Job(give_now, _wrapped(result)) for result in results]
    assert virtual(Scheduler(*jobs).co_run)
    assert all(job.is_succeeded() for job in jobs)


def _wrapped(value: object) -> Any:
    return lambda: value


# --- results that do not exist yet
def test_result_of_a_job_that_has_not_run_raises_with_advice_to_pass_the_job() -> None:
    job = Job(fetch, label="a")
    with pytest.raises(
        JobNotDone, match=r"(?s)'a' is idle.* pass the job itself: Job\(g, a\)"
    ):
        Job(nap, 1, job.result())


def test_awaiting_a_job_returns_its_result(virtual: Virtual) -> None:
    """Another job and the body of an open scheduler may await a job; a settled job returns at once."""

    async def asks() -> str:
        return await first

    first = Job(nap, 2, "value")
    asking = Job(asks)
    assert virtual(Scheduler(first, asking).co_run)
    assert (asking.result(), asking.finished_at) == ("value", 2)

    async def beside() -> Any:
        async with Scheduler() as scheduler:
            return (
                await scheduler.add(Job(nap, 3, "late")),
                await first,
                anyio.current_time(),
            )

    assert virtual(beside) == ("late", "value", 3)


def test_awaiting_a_failed_or_cancelled_job_raises(virtual: Virtual) -> None:
    failing, cancelled = Job(fail, 1), Job(nap, 9)

    async def asks() -> None:
        with pytest.raises(OSError, match="broken"):
            await failing
        cancelled.cancel()
        with pytest.raises(trioflow.JobCancelled):
            await cancelled

    asking = Job(asks)
    assert virtual(Scheduler(failing, cancelled, asking).co_run)
    asking.result()


@pytest.mark.parametrize("where", ["nowhere", "in a closed scheduler"])
def test_awaiting_a_job_that_no_run_can_reach_raises_at_once(
    virtual: Virtual, where: str
) -> None:
    job = Job(nap, label="a")
    if where != "nowhere":
        Scheduler(job, label="home").close()

    async def main() -> None:
        await job

    with pytest.raises(JobNotDone, match="'a' is idle"):
        virtual(main)


@pytest.mark.parametrize("nested", [False, True])
def test_awaiting_a_job_too_early_is_reported(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, nested: bool
) -> None:
    job = Job(nap, 1, label="a")
    home: Any = Scheduler(job, label="home")
    outermost = Scheduler(home, label="outer") if nested else home

    async def begin() -> None:
        await anyio.sleep(5)
        assert await outermost.co_run()

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(begin)
            await job
        assert job.is_succeeded()

    virtual(main)
    (record,) = caplog.records
    label = "outer" if nested else "home"
    assert record.getMessage().startswith(
        f"'a' is awaited, and the run of '{label}' has not begun: await its co_run()"
    )


@pytest.mark.parametrize("when", ["before", "while it runs", "afterwards"])
def test_awaiting_an_outermost_scheduler_raises_with_advice_to_run_it(
    virtual: Virtual, when: str
) -> None:
    scheduler = Scheduler(Job(nap, 3), label="s")

    async def main() -> None:
        if when == "while it runs":
            async with scheduler:
                await scheduler
        elif when == "afterwards":
            await scheduler.co_run()
        await scheduler

    with pytest.raises(
        JobNotDone,
        match=r"'s' is the outermost scheduler.*\nawait its co_run\(\) instead",
    ):
        virtual(main)


# --- labels
class Colour(enum.StrEnum):
    RED = "red"


def test_a_label_that_is_not_a_string_raises() -> None:
    """A label that is not a string raises a TypeError; a string enum is accepted, and stored as a plain string."""
    for given in (3, ["a"], b"a", True):
        for make in (lambda **options: Job(nap, **options), Scheduler, AbstractJob):
            with pytest.raises(TypeError, match=r"label=.* give text"):
                make(label=given)
        job = Job(nap, label="a")
        with pytest.raises(TypeError, match="give text"):
            job.label = given  # type: ignore[assignment]
        assert job.label == "a"
    assert type(Job(nap, label=Colour.RED).label) is str
    assert Job(nap, label=Colour.RED).label == "red"


def test_an_iteration_without_a_run_is_named_after_a_second(
    virtual: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says it once. A run that begins later ends the iteration."""
    job = Job(nap, 0, label="a")
    scheduler = Scheduler(job, label="flow", log=False)
    seen: list[object] = []

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(iterate)
            await anyio.sleep(5)
            assert len(caplog.records) == 1
            tasks.start_soon(scheduler.co_run)

    async def iterate() -> None:
        seen.extend([one async for one in scheduler.as_settled()])

    virtual(main)
    (record,) = caplog.records
    text = "as_settled() waits for jobs, and the run of 'flow' has not begun: await its co_run()"
    assert record.getMessage().startswith(text)
    assert seen == [job]


def test_the_journal_of_a_database_in_memory_is_rejected() -> None:
    with pytest.raises(
        ValueError,
        match="a journal is a file, which a later run reads; leave it out for none",
    ):
        Scheduler(journal=":memory:")


# --- requirements across levels
def test_the_error_on_a_requirement_across_levels_names_the_scheduler_that_must_wait() -> (
    None
):
    a, x = Job(nap, 0, label="a"), Job(nap, 0, label="x")
    x.requires(a)
    inner = Scheduler(x, label="inner")
    outer = Scheduler(a, inner, label="outer")
    with pytest.raises(
        MissingRequirement,
        match=r"let 'inner' require 'a', pass 'a' as an arg.*, or drop .* with sanitize\(\)",
    ):
        outer.run()
    outer.sanitize()
    inner.requires(a)
    assert outer.run()


def test_the_error_on_a_requirement_in_a_sibling_scheduler_names_the_job_that_must_wait() -> (
    None
):
    a, x, y = (Job(nap, label=name) for name in "axy")
    x.requires(a)
    first, second = Scheduler(a, label="first"), Scheduler(x, label="second")
    with pytest.raises(MissingRequirement, match=r"let 'second' require 'first'"):
        Scheduler(first, second, label="outer").run()
    b = Job(nap, label="b")
    y.requires(b)
    with pytest.raises(MissingRequirement, match=r"let 'y' require 'not a name'"):
        Scheduler(y, Scheduler(b, label="not a name")).run()


def test_the_error_on_a_redundant_requirement_across_levels_advises_to_omit_it() -> (
    None
):
    a, x = Job(nap, label="a"), Job(nap, label="x")
    x.requires(a)
    inner = Scheduler(x, label="inner", required=a)
    with pytest.raises(
        MissingRequirement,
        match=r"'inner' already waits for 'a': remove this requirement",
    ):
        Scheduler(a, inner).run()
    around = Scheduler(member := Job(nap, label="member"), label="around")
    around.requires(member)
    with pytest.raises(
        MissingRequirement, match=r"'around' contains it, and ends after it: remove"
    ):
        Scheduler(around).run()


def test_the_error_on_a_requirement_in_another_scenario_advises_to_remove_it_there() -> (
    None
):
    a, x = Job(nap, label="a"), Job(nap, label="x")
    x.requires(a)
    Scheduler(a, label="elsewhere")
    with pytest.raises(
        MissingRequirement,
        match=r"which is in 'elsewhere': remove 'a' from 'elsewhere'.*sanitize\(\)",
    ):
        Scheduler(x, label="home").run()


# --- options with other names
@pytest.mark.parametrize(
    ("make", "meant"),
    [
        (lambda: Scheduler(order="fifo"), "policy"),  # type: ignore[call-arg]
        (lambda: Scheduler(requires=[]), "required"),  # type: ignore[call-arg]
        (lambda: Job(nap, requires=[]), "required"),  # type: ignore[call-overload]
        (lambda: Sequence(requires=[]), "required"),  # type: ignore[call-arg]
        (lambda: Scheduler(name="x"), "label"),  # type: ignore[call-arg]
        (lambda: Job(nap, depends_on=[]), "required"),  # type: ignore[call-overload]
        (lambda: Job(nap, after=[]), "required"),  # type: ignore[call-overload]
        (lambda: Scheduler(limiter=3), "jobs_window"),  # type: ignore[call-arg]
        (lambda: Scheduler(max_jobs=3), "jobs_window"),  # type: ignore[call-arg]
        (lambda: Scheduler(concurrency=3), "jobs_window"),  # type: ignore[call-arg]
        (lambda: Job(nap, concurrency=3), "jobs_window of the Scheduler"),  # type: ignore[call-overload]
        (lambda: Scheduler(verbose=True), r"run\(instruments=\[Monitor\(\)\]\)"),  # type: ignore[call-arg]
        (lambda: Scheduler().run(verbose=True), r"run\(instruments=\[Monitor\(\)\]\)"),  # type: ignore[call-arg]
    ],
)
def test_the_error_on_a_synonym_of_an_option_suggests_the_right_name(
    make: Callable[[], object], meant: str
) -> None:
    with pytest.raises(TypeError, match=f"did you mean {meant}\\?"):
        make()


# --- The texts of exceptions: what a job or a run raises is facts, and advice for developers is a note

OF_THE_PROGRAM = {"CycleError", "JournalError", "MissingRequirement", "TrioflowError"}
"""What is wrong with a program or a file before its jobs run: the message says what to write."""
ADVICE = re.compile(
    r"\b(give|write|enlarge|reduce|leave out|put it|require it|ask for|await its|pass|call|choose)\b"
)
COMMAND_ADVICE = re.compile(r"\b(run|check|try|verify|remove|must|pass|if)\b")
SSH_SAYS = {
    "Permission denied (publickey).": True,
    "Host key verification failed.": True,
    "Offending key in /known:3\nhost key for node has changed and you have requested strict checking.": True,
    "Bad owner or permissions on /config": False,
    "ssh: connect to host node port 22: Connection refused": False,
    "Stdio forwarding request failed": False,
}
"""Messages of ssh, and whether there is advice."""


def jobs_without_result() -> Iterator[tuple[type[BaseException], Any]]:
    bad, skipped, cancelled = (
        Job(fail),
        Job(nap, run_if="failed"),
        Job(nap, 9, label="long"),
    )
    yield trioflow.RequirementFailed, Job(add, bad, 1)
    yield trioflow.RequirementFailed, Job(nap, required=bad)
    yield JobTimeout, Job(nap, 9, timeout=1)
    yield JobTimeout, Job(nap, 9, idle_timeout=1, on_timeout="fail")
    yield JobTimeout, Scheduler(Job(nap, 9), timeout=1, label="group")
    yield trioflow.BudgetSpent, Job(nap, needs={"usd": 2})
    yield trioflow.JobSkipped, skipped
    yield trioflow.JobCancelled, cancelled
    yield trioflow.JobNotDone, Job(add, 1, 2, keep_result=False, label="dropped")


def test_the_text_of_what_a_job_raises_has_no_advice(virtual: Virtual) -> None:
    """A server once sent its client "give it more time with timeout=": such advice is a note, which tracebacks show."""
    wanted = [*jobs_without_result()]
    jobs = [job for _, job in wanted]
    spender = Job(nap, needs={"usd": 2}, label="spender")
    canceller = Job(later, 0.5, lambda: jobs[-2].cancel())
    user = Job(add, jobs[-1], 1)
    for job in jobs:
        if isinstance(job, Job) and job.needs:
            job.requires(spender)
    assert not virtual(
        Scheduler(
            spender, *jobs, canceller, user, pool=trioflow.Pool(usd=trioflow.Budget(3))
        ).co_run
    )
    for kind, job in wanted:
        with pytest.raises(kind) as caught:
            job.result()
        assert not ADVICE.search(str(caught.value)), caught.value
        has_advice = kind not in (trioflow.JobSkipped, trioflow.JobCancelled)
        assert (
            bool(ADVICE.search("".join(getattr(caught.value, "__notes__", []))))
            is has_advice
        ), caught.value


def test_the_text_of_what_a_command_raises_has_no_advice(tmp_path: Path) -> None:
    """What to do about a program that cannot be started, or a node, is a note, too; the command line is a fact."""
    (tmp_path / "program").touch()
    background = trioflow.CommandService(
        ["sh", "-c", "sleep 9 &"],
        ready=trioflow.OutputLine("ready"),
        terminate_grace=0.1,
    )
    commands = ["no-such-program"], [tmp_path / "program"], ["true", "x" * (1 << 20)]
    jobs = *map(trioflow.CommandJob, commands), background
    Scheduler(*jobs, Job(nap, required=background)).run()
    errors: dict[Any, bool] = {job.raised_exception(): True for job in jobs}
    for said, has_advice in SSH_SAYS.items():
        found = OpenSsh().diagnose(SshNode("node"), said)
        errors[SshError(SshNode("node"), found.problem, found.advice)] = has_advice
    for error, has_advice in errors.items():
        assert not COMMAND_ADVICE.search(str(error).partition(". The command: ")[0]), (
            error
        )
        assert (
            bool(COMMAND_ADVICE.search("".join(getattr(error, "__notes__", []))))
            is has_advice
        ), error
    assert {type(error) for error in errors} == {trioflow.CommandError, SshError}


def test_each_public_exception_is_looked_at() -> None:
    """Each public class of exceptions is among those that the test above raises, or has its reason not to be."""
    found = {
        name
        for name in dir(trioflow)
        if isinstance(kind := getattr(trioflow, name), type)
        and issubclass(kind, BaseException)
    }
    raised = {kind.__name__ for kind, _ in jobs_without_result()} | {Throttled.__name__}
    assert found == raised | OF_THE_PROGRAM | {
        "CommandError",
        "SshError",
        "TrioflowDeprecationWarning",
        "Unreachable",
    }
    assert not ADVICE.search(str(Throttled("api", after=2)))
