"""Policies of users: their order, their information, and the effects of exceptions and invalid results."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import anyio
import pytest

from trioflow import Job, JobState, Pool, Scheduler, StopReason, current_job, ref, simulate
from trioflow.abc import AbstractJob, Instrument, Outlook, Policy

from ..bodies import DepthFirst, fail
from ..conftest import Virtual


class By(Policy):
    """A policy that orders by a function of the job and the outlook."""

    def __init__(self, key: Callable[[AbstractJob[Any], Outlook], Any], needs_ranks: bool = False) -> None:
        self._key = key
        self.needs_ranks = needs_ranks

    def key(self, job: AbstractJob[Any], outlook: Outlook) -> Any:
        return self._key(job, outlook)


class ShortestFirst(Policy):
    """A policy that starts the shortest job first; jobs of unknown duration come last."""

    def key(self, job: AbstractJob[Any], outlook: Outlook) -> float:
        seconds = outlook.expected_duration(job)
        return math.inf if seconds is None else seconds

    def reason(self, job: AbstractJob[Any], outlook: Outlook) -> str:
        return "the shortest job first"


class Starts:
    """A maker of jobs that write down their labels when they start."""

    def __init__(self) -> None:
        self.labels: list[str] = []

    async def note(self, seconds: float = 0) -> None:
        self.labels.append(current_job().label)
        await anyio.sleep(seconds)

    def jobs(self, labels: str, **options: Any) -> list[AbstractJob[Any]]:
        return [Job(self.note, label=label, **options) for label in labels]


def test_a_policy_of_a_user_may_start_the_shortest_job_first(virtual: Virtual) -> None:
    """A user's policy of ten lines starts the shortest job first by the expected durations, and unknown ones last."""
    starts = Starts()
    jobs = [Job(starts.note, label=label, expected_duration=n) for label, n in (("5", 5), ("x", None), ("3", 3))]
    jobs += [Job(starts.note, label="4"), Job(starts.note, label="1", expected_duration=9.0)]
    scheduler = Scheduler(*jobs, jobs_window=1, policy=ShortestFirst(), durations={"4": 4.0, "1": 1.0})
    assert virtual(scheduler.co_run)
    assert starts.labels == ["1", "3", "4", "5", "x"]


def test_priority_comes_before_the_policy_and_ties_are_in_order(virtual: Virtual) -> None:
    """Jobs start by priority, then by the policy's smallest key, then in the order in which they became ready."""
    starts = Starts()
    jobs = [*starts.jobs("ab"), *starts.jobs("cd", priority=2), *starts.jobs("ef")]
    keys = {"a": (1, 2.0), "b": (1, 1), "c": 7, "d": Fraction(13, 2), "e": (1, 1), "f": True}
    policy = By(lambda job, _: keys[job.label])
    assert virtual(Scheduler(*jobs, jobs_window=1, policy=policy).co_run)
    assert starts.labels == ["d", "c", "f", "b", "e", "a"]


def test_a_policy_gets_ranks_and_the_number_of_starts(virtual: Virtual) -> None:
    """A policy gets a job's rank, the longest path to an exit at its addition, and the number of started jobs."""
    told: list[tuple[str, float, int]] = []

    def key(job: AbstractJob[Any], outlook: Outlook) -> float:
        told.append((job.label, outlook.rank(job), outlook.starts))
        return -outlook.rank(job)

    starts = Starts()
    a, b, c = starts.jobs("abc", expected_duration=2.0)
    b.requires(a)

    async def grow() -> None:
        late = Job(starts.note, label="late", required=c, expected_duration=5.0)
        scheduler.update([late, Job(starts.note, label="last", required=late, expected_duration=1.0)])

    scheduler = Scheduler(
        Job(grow, label="grow", priority=1, expected_duration=0), a, b, c, jobs_window=1, policy=By(key, True)
    )
    assert virtual(scheduler.co_run)
    assert starts.labels == ["a", "c", "late", "b", "last"]
    assert told == [("grow", 0, 0), ("a", 4, 0), ("c", 2, 0), ("b", 2, 2), ("late", 6, 3), ("last", 1, 4)]


def test_a_policy_decides_the_order_of_jobs_with_needs(virtual: Virtual) -> None:
    """The policy decides which job with needs comes first, even among jobs with different needs."""
    starts = Starts()
    jobs = [
        Job(starts.note, 1, label=label, needs={"gpu": number}, expected_duration=seconds)
        for label, number, seconds in (("a", 1, 4), ("b", 2, 3), ("c", 1, 2), ("d", 2, 1))
    ]
    assert virtual(Scheduler(*jobs, pool=Pool(gpu=2), policy=ShortestFirst(), backfill=0).co_run)
    assert starts.labels == ["d", "c", "b", "a"]


class Reported(Instrument):
    """An instrument that records the incidents that are reported."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.raised_in: list[str] = []

    def incident(self, scheduler: Any, job: Any, message: str, exception: BaseException | None) -> None:
        self.messages.append(f"{job.label}: {message}: {exception!r}")
        if exception is not None and exception.__traceback__ is not None:
            self.raised_in.append(exception.__traceback__.tb_frame.f_globals["__name__"])


def no_key(job: AbstractJob[Any], outlook: Outlook) -> Any:
    """Raise for the job "b"."""
    return {"a": 2, "c": 1}[job.label]


def test_a_policy_that_raises_ends_the_run(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy that raises ends the run, CRITICAL without a culprit, and the log, hooks and `debrief()` name it.

    The run once went on, in another order than its user wanted.
    """
    starts, reported = Starts(), Reported()
    jobs = starts.jobs("abc")
    behind = Job(starts.note, label="behind", required=jobs)
    scheduler = Scheduler(*jobs, behind, jobs_window=1, policy=By(no_key), label="s", instruments=[reported])
    with caplog.at_level(logging.WARNING, "trioflow"):
        assert not virtual(scheduler.co_run)
    assert (scheduler.stop_reason, scheduler.culprit) == (StopReason.CRITICAL, None)
    assert behind.is_idle()
    (message,) = reported.messages
    assert message == "b: the policy By of 's' has no key for 'b': KeyError('b')"
    assert reported.raised_in == [By.__module__]  # a frame of the engine would keep the run alive
    assert len(caplog.records) == 1
    scheduler.debrief()
    assert "incident at b: the policy By of 's' has no key for 'b'" in capsys.readouterr().out


def test_the_first_exception_of_a_policy_counts(virtual: Virtual) -> None:
    """A policy that raises for several jobs of one instant is named with the first of them, once."""
    reported = Reported()
    jobs = Starts().jobs("axyc")
    scheduler = Scheduler(*jobs, jobs_window=1, policy=By(no_key), label="s", instruments=[reported])
    assert not virtual(scheduler.co_run)
    assert reported.messages == ["x: the policy By of 's' has no key for 'x': KeyError('x')"]


@pytest.mark.parametrize("how", ["check", "block", "nested"])
def test_an_exception_of_a_policy_is_raised_unchanged(virtual: Virtual, how: str) -> None:
    """With `check=True`, `async with` or a nested scheduler, a policy's exception is raised unchanged, with a note."""

    async def main() -> None:
        scheduler = Scheduler(*Starts().jobs("ab"), policy=By(no_key), label="s", critical_jobs=True)
        if how == "check":
            await scheduler.co_run(check=True)
        elif how == "nested":
            await Scheduler(scheduler).co_run(check=True)
        else:
            async with scheduler:
                await anyio.sleep(9)

    with pytest.raises((KeyError, ExceptionGroup)) as caught:
        virtual(main)
    error = caught.value.exceptions[0] if isinstance(caught.value, ExceptionGroup) else caught.value
    assert error.args == ("b",)
    assert error.__notes__[0] == "raised by the policy By of 's' in the key of 'b'"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("text", "TypeError(\"key() returned 'text': return a number, or a tuple of numbers\")"),
        (math.nan, "ValueError('key() returned nan, which cannot be compared: return another number')"),
        ((1, None), "TypeError('key() returned None: return a number, or a tuple of numbers')"),
    ],
)
def test_the_error_names_a_policy_key_that_cannot_be_compared(virtual: Virtual, answer: Any, error: str) -> None:
    reported = Reported()
    scheduler = Scheduler(*Starts().jobs("ab"), policy=By(lambda job, outlook: answer), instruments=[reported])
    assert not virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.CRITICAL
    assert reported.messages[0].endswith(f": {error}")


def test_a_cancellation_raised_by_a_policy_is_an_error_of_the_policy(virtual: Virtual) -> None:
    reported = Reported()

    def key(job: AbstractJob[Any], outlook: Outlook) -> float:
        raise asyncio.CancelledError

    scheduler = Scheduler(*Starts().jobs("ab"), policy=By(key), instruments=[reported])
    if virtual.backend == "trio":  # there it is an interruption, as any BaseException
        with pytest.raises(asyncio.CancelledError):
            virtual(scheduler.co_run)
        return
    assert not virtual(scheduler.co_run)
    assert "JobCancelled" in reported.messages[0]


@pytest.mark.parametrize("late", [False, True])
def test_an_interruption_in_a_policy_ends_the_run(virtual: Virtual, late: bool) -> None:
    """A KeyboardInterrupt from a policy ends the run cleanly, and every job that was ready is CANCELLED."""

    def key(job: AbstractJob[Any], outlook: Outlook) -> float:
        if job.label == ("b" if late else "a"):
            raise KeyboardInterrupt
        return 0

    starts = Starts()
    a, b, c = (Job(starts.note, 1, label=label) for label in "abc")
    if late:
        b.requires(a)
    scheduler = Scheduler(a, b, c, jobs_window=1, policy=By(key))
    with pytest.raises(KeyboardInterrupt):
        virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.INTERRUPTED
    assert not any(job.is_scheduled() or job.is_running() for job in scheduler)
    assert b.state is JobState.CANCELLED if not late else not b.is_done()


@pytest.mark.parametrize("what", ["cancel", "drain", "add", "job", "requires", "outer"])
def test_a_policy_that_changes_the_run_raises(virtual: Virtual, what: str) -> None:
    """A policy that tries to change the run gets an error, because it is called while a job is being queued."""
    calls: dict[str, Callable[[], Any]] = {
        "cancel": lambda: inner.cancel(),
        "drain": lambda: inner.drain(),
        "add": lambda: inner.add(Job(anyio.sleep, 0)),
        "job": lambda: a.cancel(),
        "requires": lambda: b.requires(a),
        "outer": lambda: outer.drain(),
    }

    def key(job: AbstractJob[Any], outlook: Outlook) -> float:
        calls[what]()
        return 0

    starts, reported = Starts(), Reported()
    first, a, b = starts.jobs("fab")
    a.requires(first)
    inner = Scheduler(first, a, b, jobs_window=1, policy=By(key))
    outer = Scheduler(inner, instruments=[reported])
    assert not virtual(outer.co_run)
    assert len(inner) == 3
    assert (inner.stop_reason, outer.stop_reason) == (StopReason.CRITICAL, StopReason.FAILED)
    assert len(reported.messages) == 1
    assert any(one in reported.messages[0] for one in ("must not change the run", "has not started yet", "not running"))


def test_runs_in_other_threads_may_be_changed_while_a_policy_is_called(virtual: Virtual) -> None:
    other = Scheduler()
    other.add(Job(adds, ref(other)))

    def key(job: AbstractJob[Any], outlook: Outlook) -> float:
        with ThreadPoolExecutor(1) as threads:
            assert threads.submit(other.run).result()
        return 0

    assert virtual(Scheduler(Job(anyio.sleep, 0), policy=By(key)).co_run)
    assert len(other) == 2


async def adds(scheduler: Scheduler) -> None:
    scheduler.add(Job(anyio.sleep, 0))


def test_an_error_of_the_policy_for_a_clean_up_job_is_reported(virtual: Virtual) -> None:
    """The clean-up job runs, and the error is an incident; it once was lost."""
    reported = Reported()

    def key(job: AbstractJob[Any], outlook: Outlook) -> float:
        return {"bad": 1}[job.label]

    bad = Job(fail, label="bad", critical=True)
    clean_up = Job(anyio.sleep, 0, required=bad, run_if="failed", label="clean-up")
    assert not virtual(Scheduler(bad, clean_up, policy=By(key), instruments=[reported]).co_run)
    assert clean_up.is_succeeded()
    (message,) = reported.messages
    assert message == "clean-up: the policy By of 'Scheduler' has no key for 'clean-up': KeyError('clean-up')"


class Unreasonable(ShortestFirst):
    """A policy whose `reason` raises."""

    def reason(self, job: AbstractJob[Any], outlook: Outlook) -> str:
        raise ValueError("none")


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (ShortestFirst(), "; before it comes 'b' (the shortest job first)"),
        (By(lambda job, outlook: job.expected_duration or 0), "; before it comes 'b' (by By)"),
        (Unreasonable(), "; before it comes 'b' (by Unreasonable, whose reason() raised ValueError('none'))"),
        (By(lambda job, outlook: 0), ""),
        ("auto", "; before it comes 'b' (critical path: the longest path from 'a' takes 9 s)"),
        ("fifo", ""),
    ],
)
def test_explain_has_the_reason_of_the_policy(virtual: Virtual, policy: Any, why: str) -> None:
    starts = Starts()
    first = Job(starts.note, 9, label="first", priority=1)
    a, b = (Job(starts.note, label=label, expected_duration=n) for label, n in (("a", 9), ("b", 1)))
    if policy == "auto":
        b.expected_duration = 10
    elif not why:
        a, b = b, a
        a.label = "a"
    scheduler = Scheduler(first, a, b, jobs_window=1, policy=policy)

    texts: list[str] = []

    async def main() -> str:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(1)
            texts.append(scheduler.explain(a))
            tasks.cancel_scope.cancel()
        return texts[0]

    assert virtual(main) == f"'a' waits for a slot: the window is full, with 'first'{why}"


def test_explain_names_priorities(virtual: Virtual) -> None:
    starts = Starts()
    jobs = {label: Job(starts.note, 5, label=label, priority=n) for label, n in (("a", 9), ("b", 0), ("c", 1))}
    late = Job(starts.note, label="late", required=Job(starts.note, label="done", priority=99))
    scheduler = Scheduler(*jobs.values(), late, *late.required, jobs_window=1, policy=DepthFirst())

    texts: list[str] = []

    async def main() -> str:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(scheduler.co_run)
            await anyio.sleep(1)
            texts.append(scheduler.explain(jobs["b"]))
            tasks.cancel_scope.cancel()
        return texts[0]

    assert virtual(main).endswith("'a'; before it come 'c', 'late' (priority, depth first: what became ready last)")


def test_simulate_passes_the_users_own_jobs_to_the_policy(virtual: Virtual) -> None:
    """In a simulation, the policy gets the user's own jobs, with class and label, and orders them as in a run."""
    seen: set[AbstractJob[Any]] = set()

    class MoreInside(ShortestFirst):
        needs_ranks = True

        def key(self, job: AbstractJob[Any], outlook: Outlook) -> Any:
            seen.add(job)
            return (outlook.rank(job), super().key(job, outlook), outlook.starts)

        def reason(self, job: AbstractJob[Any], outlook: Outlook) -> str:
            return f"{outlook.rank(job)}"

    starts = Starts()
    jobs = [Job(starts.note, n, label=str(n), expected_duration=n) for n in (4, 1, 3)]
    scheduler = Scheduler(*jobs, jobs_window=1)
    found = simulate(scheduler, policy=MoreInside())
    assert seen == set(jobs)
    assert [job.label for job in sorted(found.starts, key=found.starts.__getitem__)] == ["1", "3", "4"]
    scheduler.policy = MoreInside()
    assert simulate(scheduler).makespan == 8
    assert virtual(scheduler.co_run)
    assert starts.labels == ["1", "3", "4"]


class Lacking:
    """A policy without a method for the reason."""

    needs_ranks = False

    def key(self, job: AbstractJob[Any], outlook: Outlook) -> float:
        return 0


class Async(ShortestFirst):
    """A policy whose key is an async function."""

    async def key(self, job: AbstractJob[Any], outlook: Outlook) -> float:  # type: ignore[override]
        return 0


class Narrow(ShortestFirst):
    """A policy whose key takes only a job."""

    def key(self, job: AbstractJob[Any]) -> float:  # type: ignore[override]
        return 0


class Unsure(ShortestFirst):
    """A policy that does not say whether it needs ranks."""

    needs_ranks = None  # type: ignore[assignment]


class Uncallable(ShortestFirst):
    """A policy whose reason is not a method."""

    reason = "because"  # type: ignore[assignment]


def test_a_policy_that_does_not_ask_for_ranks_has_none() -> None:
    assert not ShortestFirst.needs_ranks


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        (3, "policy=3 of 's' has no key and no needs_ranks and no reason: choose one of auto, fifo"),
        (None, "policy=None of 's' has no key"),
        (Lacking(), "has no reason: choose one of .* or derive its class from trioflow.abc.Policy"),
        (ShortestFirst, r"is a class: give an instance, ShortestFirst\(\)"),
        (Async(), "its key is an async function: make it a plain function"),
        (Narrow(), r"its key takes \(job: .*\) -> .*: let it take a job and an outlook"),
        (Unsure(), "its needs_ranks is None; set it to True or False"),
        (Uncallable(), "its reason is 'because': make it a method that takes a job and an outlook"),
    ],
)
def test_an_invalid_policy_is_rejected_by_the_constructor_and_the_setter(policy: Any, message: str) -> None:
    """An object that is not a valid policy raises a TypeError that names what is missing."""
    with pytest.raises(TypeError, match=message):
        Scheduler(label="s", policy=policy)
    scheduler = Scheduler(Job(anyio.sleep, 0), label="s")
    with pytest.raises(TypeError, match=message):
        scheduler.policy = policy
    if policy is not None:
        with pytest.raises(TypeError, match=message):
            simulate(scheduler, policy=policy)


def test_any_object_with_the_methods_of_a_policy_is_accepted(virtual: Virtual) -> None:
    """A policy need not derive from Policy; its methods may be functions without signatures."""

    class Free:
        needs_ranks = False
        key = staticmethod(max)  # inspect cannot tell its signature

        def reason(self, job: AbstractJob[Any], outlook: Outlook) -> str:
            return "freely"

    reported = Reported()
    scheduler = Scheduler(*Starts().jobs("ab"), policy=Free(), instruments=[reported])  # type: ignore[arg-type]
    assert not virtual(scheduler.co_run)
    assert len(reported.messages) == 1


def test_a_policy_that_reads_ranks_must_declare_needs_ranks(virtual: Virtual) -> None:
    reported = Reported()
    stranger = Job(anyio.sleep, 0, label="stranger")
    policies = [By(lambda job, outlook: outlook.rank(job)), By(lambda _, outlook: outlook.rank(stranger), True)]
    for policy in policies:
        assert not virtual(Scheduler(*Starts().jobs("a"), policy=policy, instruments=[reported]).co_run)
    assert "needs_ranks = True" in reported.messages[0]
    assert "it is not a job of this scheduler" in reported.messages[1]
