"""What other threads than that of a run may do with it: end it, and report to it. All else is refused with the cure."""

import random
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType, SimpleNamespace
from typing import Any, TypeVar
import anyio
import pytest
import trioflow
from trioflow import (
    Answer,
    Budget,
    CycleError,
    Job,
    JobState,
    Pool,
    Rate,
    Retry,
    Scheduler,
    StopReason,
    ThreadJob,
    current_job,
)
from trioflow._core.job import _requirements
from trioflow._core.run import _questions
from trioflow._core.run._worker import Worker
from trioflow._core.scheduler import _sync_run
from trioflow._core.scheduler._members import DroppedJobs
from trioflow._core.words._job_queries import settled_only_for
from trioflow.abc import all_requirements, fraction_done, waiting
from trioflow.view.text._verdict import Tally
from ..bodies import at_once, fail, later, nap, nothing
from ..conftest import Virtual
from ..midway import answers_midway, ask_midway

T = TypeVar("T")
Call = Callable[[Any, Any], object]
ENDING: dict[str, Call] = {
    "cancel": lambda scheduler, job: scheduler.cancel(),
    "drain": lambda scheduler, job: scheduler.drain(),
    "job.cancel": lambda scheduler, job: job.cancel(),
}


def in_thread(call: Callable[[], object]) -> BaseException | None:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(call).exception()


def run_with_call(
    virtual: Virtual, call: Call, **options: Any
) -> tuple[Scheduler, Any, Any, BaseException | None]:
    raised: list[BaseException | None] = []
    first, other = Job(nap, label="first"), Job(nap, label="other")
    last = Job(nap, label="last", required=(first, other))
    scheduler = Scheduler(
        first,
        other,
        Job(at_once, lambda: raised.append(in_thread(lambda: call(scheduler, other)))),
        last,
        label="home",
        log=False,
        **options,
    )
    virtual(scheduler.co_run)
    return scheduler, other, last, raised[0]


@pytest.mark.parametrize("name", ENDING)
def test_other_threads_may_end_a_run_and_a_job(virtual: Virtual, name: str) -> None:
    """`cancel()` and `drain()` from another thread take effect in the next turn of the loop, as from the run's own."""
    scheduler, other, last, raised = run_with_call(virtual, ENDING[name])
    assert raised is None
    reason, state, follower = {
        "cancel": (StopReason.CANCELLED, JobState.CANCELLED, JobState.IDLE),
        "drain": (StopReason.DRAINED, JobState.SUCCEEDED, JobState.IDLE),
        "job.cancel": (StopReason.COMPLETED, JobState.CANCELLED, JobState.BLOCKED),
    }[name]
    assert (scheduler.stop_reason, other.state, last.state) == (reason, state, follower)


@pytest.mark.parametrize("name", ENDING)
def test_a_call_from_another_thread_after_the_end_does_nothing(
    virtual: Virtual, name: str
) -> None:
    scheduler, other, _, _ = run_with_call(virtual, lambda scheduler, job: None)
    assert in_thread(lambda: ENDING[name](scheduler, other)) is None
    with pytest.raises(RuntimeError, match="not running"):
        ENDING[name](scheduler, other)


@pytest.mark.parametrize("name", ["drain", "job.cancel"])
def test_a_call_before_the_run_is_an_error_in_each_thread(name: str) -> None:
    job = Job(nap, label="other")
    scheduler = Scheduler(job, label="home")
    error = in_thread(lambda: ENDING[name](scheduler, job))
    assert isinstance(error, RuntimeError)
    assert "not running" in str(error)


@pytest.mark.parametrize("in_its_thread", [True, False])
def test_a_run_that_was_cancelled_before_it_had_begun_ends_as_it_begins(
    virtual: Virtual, in_its_thread: bool
) -> None:
    scheduler, runs = Scheduler(job := Job(nap)), list[Any]()
    scheduler.cancel() if in_its_thread else in_thread(scheduler.cancel)
    runs.append((virtual(scheduler.co_run), scheduler.stop_reason, job.state))
    in_thread(scheduler.cancel)  # too late, so the next run knows nothing of it
    runs.append((virtual(scheduler.co_run), scheduler.stop_reason, job.state))
    assert runs == [
        (False, StopReason.CANCELLED, JobState.IDLE),
        (True, StopReason.COMPLETED, JobState.SUCCEEDED),
    ]


def test_each_run_may_be_cancelled_while_its_loop_begins(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler(Job(anyio.sleep, 0), label="home", log=False)
    assert scheduler.run(backend=backend)
    scheduler.add(Job(anyio.sleep, 30))
    monkeypatch.setattr(
        _sync_run.SignalHandler, "loop_started", lambda *_: in_thread(scheduler.cancel)
    )
    assert not scheduler.run(backend=backend)
    assert scheduler.stop_reason is StopReason.CANCELLED


def test_a_cancellation_is_not_kept_for_later_if_a_run_is_refused(
    virtual: Virtual,
) -> None:
    first = Job(nap)
    last = Job(nap, required=first)
    first.requires(last)
    scheduler = Scheduler(first, last)
    scheduler.cancel()
    with pytest.raises(CycleError):
        virtual(scheduler.co_run)
    in_thread(scheduler.cancel)
    first.requires(last, remove=True)
    assert virtual(scheduler.co_run)


def test_a_scheduler_cancelled_before_it_was_nested_is_cancelled_as_a_job(
    virtual: Virtual,
) -> None:
    """Its own run ends at once, and as a job it is CANCELLED, as by a call of `cancel()` in the run around it."""
    group = Scheduler(job := Job(nap), label="group")
    group.cancel()
    assert virtual(Scheduler(group).co_run)
    assert (group.state, job.state) == (JobState.CANCELLED, JobState.IDLE)


def test_an_open_block_that_was_cancelled_before_it_began_has_no_body(
    virtual: Virtual,
) -> None:
    """`async with` raises JobCancelled, because a body can only be left out by an exception."""
    scheduler = Scheduler(label="home")

    async def main() -> None:
        scheduler.cancel()
        with pytest.raises(trioflow.JobCancelled, match="'home' was cancelled"):
            async with scheduler:
                raise AssertionError

    virtual(main)
    assert scheduler.stop_reason is StopReason.CANCELLED


@pytest.mark.parametrize("name", ENDING)
def test_calls_from_threads_at_any_instant_leave_the_books_right(
    backend: Any, name: str
) -> None:
    """Four threads end a run on real time at once, a few times; it runs again afterwards."""
    draw = random.Random(name)

    async def work(number: int) -> None:
        await anyio.sleep(number % 3 / 1000)

    scheduler = Scheduler(jobs_window=3, log=False)
    jobs = scheduler.map(work, range(20))
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            is_over = threading.Event()

            def call(after: float, is_over: threading.Event = is_over) -> None:
                while (
                    scheduler.is_idle()
                    and scheduler.window_size is None
                    and not is_over.is_set()
                ):
                    time.sleep(0)
                time.sleep(after)
                try:
                    ENDING[name](scheduler, jobs[0])
                except RuntimeError as error:  # the run has not begun
                    assert "not running" in str(error)  # noqa: PT017

            calls = [threads.submit(call, draw.random() / 100) for _ in range(4)]
            scheduler.run(backend=backend)
            is_over.set()
            for outcome in calls:
                outcome.result()
            assert not any(job.is_running() or job.is_scheduled() for job in jobs)
    assert scheduler.run(backend=backend)


@pytest.mark.parametrize("keep_jobs", [True, False])
def test_the_cancellation_of_a_job_that_has_settled_meanwhile_does_nothing(
    virtual: Virtual, keep_jobs: bool
) -> None:
    job = Job(nothing)

    async def main() -> None:
        async with Scheduler(keep_jobs=keep_jobs) as scheduler:
            scheduler.add(job)
            assert in_thread(job.cancel) is None
            await anyio.sleep(1)
            assert in_thread(job.cancel) is None
            job.cancel()

    virtual(main)
    assert job.is_settled()


def test_reports_from_another_thread_reach_the_run(virtual: Virtual) -> None:
    async def work() -> None:
        job = current_job()
        calls = (
            lambda: job.progress(0.5),
            # A sign of life keeps the fraction that the loop has not received.
            job.progress,
            lambda: job.used(usd=1.0, api={"tokens": 5}),
            lambda: question.answer("yes"),
        )
        assert [in_thread(call) for call in calls] == [None] * 4
        await anyio.sleep(1)

    question = Answer("Go?", timeout=10)
    job = Job(work, needs={"usd": 3.0, "api": {"tokens": 10}})
    pool = Pool(usd=Budget(4.0), api=Rate(tokens=10, per=60))
    after = Job(nap, needs={"usd": 3.0}, required=job)
    assert virtual(Scheduler(job, question, after, pool=pool).co_run)
    assert (fraction_done(job), question.result(), after.state) == (
        0.5,
        "yes",
        JobState.SUCCEEDED,
    )


def answer_as_it_settles(
    backend: Any, number: int, ask: Callable[[Any], T]
) -> tuple[T, bool]:
    """Ask something of a job in its second attempt, which settles before the line of this number."""
    is_begun, is_wanted, has_settled = (threading.Event() for _ in range(3))
    answers = list[tuple[T, bool]]()

    def work() -> None:
        if job.attempts == 1:
            raise OSError("again")
        is_begun.set()
        is_wanted.wait()

    def settle() -> None:
        is_wanted.set()
        has_settled.wait()

    def look() -> None:
        is_begun.wait()
        answers.append(ask_midway(number, lambda: ask(job), settle))
        is_wanted.set()

    def tell(settled: Any) -> None:
        if settled is job:
            has_settled.set()

    job = ThreadJob(work, retry=Retry(1, first=0))
    scheduler = Scheduler(job, ThreadJob(look), on_job_settled=tell)
    assert scheduler.run(backend=backend)
    return answers[0]


@pytest.mark.parametrize("name", ["elapsed", "took"])
def test_how_long_a_job_has_run_may_be_asked_in_another_thread_while_it_settles(
    backend: Any, name: str
) -> None:
    number = 0
    while True:
        seconds, has_settled = answer_as_it_settles(
            backend, number, lambda job: getattr(job, name)
        )
        assert seconds > 0
        if not has_settled:
            break
        number += 1


def test_a_report_of_a_job_that_settles_meanwhile_is_refused_as_any_that_comes_late(
    backend: Any,
) -> None:
    def report(job: Any) -> str:
        try:
            job.progress()
        except RuntimeError as error:
            return str(error)
        return ""

    number = 0
    texts = set[str]()
    while True:
        text, has_settled = answer_as_it_settles(backend, number, report)
        texts.add(text.partition(": ")[2])
        if not has_settled:
            break
        number += 1
    assert texts == {"", "it is succeeded; call it while the job runs"}


def test_a_thread_may_ask_what_is_granted_as_its_correction_arrives() -> None:
    def prepare() -> tuple[Callable[[], Any], Callable[[], None]]:
        rate: Any = Pool(api=Rate(requests=9, tokens=9, per=1))._resources["api"]
        share = rate.take(None, {"requests": 1})
        return (
            lambda: rate.public_share({}, share),
            lambda: rate.correct(share, {"tokens": 3}),
        )

    granted = [*answers_midway(prepare)]
    assert {len(amounts) for amounts in granted} == {1, 2}


@pytest.mark.parametrize("options", [{}, {"settled": True}], ids=["needed", "settled"])
def test_a_thread_may_ask_what_a_job_waits_for_while_requirements_are_added(
    options: Any,
) -> None:
    """The monitor of a run whose jobs had many requirements, and got more, drew no more."""
    others = [Job(nothing) for _ in range(100)]

    def prepare() -> tuple[Callable[[], Any], Callable[[], object]]:
        job, new = Job(nothing).requires(others, **options), Job(nothing)
        scheduler = Scheduler()
        scheduler._members.jobs.update(dict.fromkeys([*others, job, new]))

        def ask() -> tuple[int, ...]:
            return (
                len(all_requirements(scheduler, job)),
                len(_requirements.essential_requirements(job)),
                len(settled_only_for(job)),
            )

        return ask, lambda: job.requires(new, **options)

    assert {number for number, *_ in answers_midway(prepare)} == {100, 101}


def test_a_thread_may_count_the_jobs_of_a_scheduler_that_drops_them() -> None:
    succeeded = JobState.SUCCEEDED, False, False
    failed = JobState.FAILED, False, False

    def prepare() -> tuple[Callable[[], Any], Callable[[], None]]:
        scheduler = Scheduler(keep_jobs=False)
        dropped = scheduler._members.dropped = DroppedJobs()
        dropped.counts[succeeded] += 1
        return (
            lambda: Tally.for_scheduler(scheduler).counts_by_state(),
            lambda: dropped.counts.update([failed]),
        )

    counts = [*answers_midway(prepare)]
    assert counts[0] == {"succeeded": 1, "failed": 1}
    assert counts[-1] == {"succeeded": 1}


@pytest.mark.parametrize(
    "ask",
    [lambda scheduler, job: scheduler.explain(job), lambda _, job: waiting(job)],
    ids=["explain", "waiting"],
)
def test_why_a_job_waits_may_be_asked_in_another_thread_while_the_run_ends(
    backend: Any, ask: Call
) -> None:
    def look(number: int) -> bool:
        """Ask, and end the run before the line of this number. Return whether there was such a line."""
        has_begun, has_ended = threading.Event(), threading.Event()
        jobs = [Job(anyio.sleep, 60, needs={"gpu": 1}) for _ in range(2)]
        begins = Job(at_once, has_begun.set)
        scheduler = Scheduler(*jobs, begins, pool=Pool(gpu=1), log=False)

        def end() -> None:
            scheduler.cancel()
            has_ended.wait()

        def work() -> bool:
            has_begun.wait()
            try:
                answer, is_there = ask_midway(
                    number, lambda: ask(scheduler, jobs[1]), end, "/_core/words"
                )
            finally:
                scheduler.cancel()
            assert answer or is_there
            return is_there

        with ThreadPoolExecutor(1) as threads:
            found = threads.submit(work)
            scheduler.run(backend=backend)
            has_ended.set()
            return found.result()

    number = 0
    while look(number):
        number += 1
    assert number > 10


@pytest.mark.parametrize("state", [JobState.BLOCKED, JobState.CANCELLED])
def test_a_job_that_is_tried_again_as_it_is_explained_is_explained_as_it_is_then(
    virtual: Virtual, state: JobState
) -> None:
    def look(number: int) -> tuple[str, bool]:
        first, slow = Job(fail, 1, label="first"), Job(nap, 9)
        last = Job(nap, 9, label="last", required=first)
        tried = first
        if state is JobState.CANCELLED:
            last = tried = Job(nap, 9, label="last")
        scheduler = Scheduler(first, slow, last, log=False)

        def ask() -> tuple[str, bool]:
            assert last.state is state
            return ask_midway(
                number, lambda: scheduler.explain(last), tried.try_again, "/_core/words"
            )

        asks = Job(later, 2, ask)
        scheduler.add(asks)
        if state is JobState.CANCELLED:
            scheduler.add(Job(at_once, last.cancel))
        virtual(scheduler.co_run)
        return asks.result()

    number = 0
    texts = set[str]()
    has_changed = True
    while has_changed:
        text, has_changed = look(number)
        texts.add(text)
        number += 1
    assert len(texts) == 2


def test_a_thread_may_ask_for_the_runs_in_a_run_as_one_of_them_ends() -> None:
    """`explain` of a job that waits for a token asks which jobs have the others."""

    def prepare() -> tuple[Callable[[], Any], Callable[[], None]]:
        worker: Any = SimpleNamespace(job=Scheduler())
        return lambda: Worker.nested_run(worker), lambda: setattr(worker, "job", None)

    assert {*answers_midway(prepare)} == {None}


class Waiting:
    """Stands for a job, or for the places of a run, that another thread adds."""

    groups_by_needs: Mapping[Any, Any] = MappingProxyType({})
    _scheduler = None


def while_another_thread_adds(
    collection: weakref.WeakKeyDictionary[Any, None], ask: Callable[[], T]
) -> T:
    """Ask while something is added to a collection before each line of `weakref`, where threads may take turns."""
    kept: list[Waiting] = []

    def add(frame: Any, event: str, argument: object) -> Any:
        if event == "call":
            return add if frame.f_code.co_filename == weakref.__file__ else None
        sys.settrace(None)
        kept.append(Waiting())
        collection[kept[-1]] = None
        sys.settrace(add)
        return add

    before = sys.gettrace()
    sys.settrace(add)
    try:
        return ask()
    finally:
        sys.settrace(before)


def test_a_thread_may_ask_whether_an_answer_is_needed_while_jobs_are_added() -> None:
    asks = Answer("really?", label="asks")
    inner = Scheduler(asks)
    user = Job(nothing, label="user")
    Scheduler(inner, user)
    users = inner._members.users_outside[asks] = weakref.WeakKeyDictionary()
    users.update({user: None, asks: None})
    assert while_another_thread_adds(users, lambda: _questions.is_needed(asks))


def test_a_thread_may_ask_a_pool_who_waits_while_runs_begin(virtual: Virtual) -> None:
    pool = Pool(gpu=1)
    waiting: list[dict[str, int]] = []

    def ask() -> None:
        admission = pool._resources["gpu"].admission
        assert admission is not None
        waiting.append(
            while_another_thread_adds(admission.all_places, lambda: pool.waiting)
        )

    async def hold() -> None:
        await anyio.sleep(1)
        ask()

    jobs = Job(hold, needs={"gpu": 1}), Job(nothing, needs={"gpu": 1})
    assert virtual(Scheduler(*jobs, pool=pool).co_run)
    assert waiting == [{"gpu": 1}]
