"""A failed job is tried again in the run in progress, with what it has blocked; what has run does not run again."""

import io
import threading
from pathlib import Path
from typing import Any
import anyio
import anyio.lowlevel
import pytest
import trioflow
from trioflow import (
    AbstractJob,
    Budget,
    First,
    Job,
    JobState,
    Pool,
    Retry,
    Scheduler,
    Service,
    StopReason,
    Trace,
    current_job,
)
from trioflow._core.run import _reopening
from trioflow.abc import Instrument
from ..bodies import at_once, fail_now, hooked, later, noted, running, take
from ..conftest import BackendName, Virtual
from .tries import Broken, after, names, nap

pytestmark = pytest.mark.both_backends


def test_a_failed_job_is_tried_again_with_what_it_has_blocked(virtual: Virtual) -> None:
    body = Broken(2)
    a = Job(body, label="a", retry=1)
    b, slow = Job(nap, a, label="b"), Job(anyio.sleep, 9, label="slow")
    c, d = Job(nap, required=b, label="c"), Job(nap, required=[a, slow], label="d")
    alarm = Job(nap, required=a, run_if="failed", label="alarm")
    seen: list[str] = []
    trace = Trace()
    scheduler = Scheduler(a, b, c, slow, d, alarm)
    scheduler.add(
        Job(after, 4, lambda: seen.append(names(scheduler)), a.try_again, label="mend")
    )
    assert virtual(lambda: scheduler.co_run(instruments=[trace]))
    assert (seen, names(scheduler)) == (["FBBRISR"], "SSSSSSS")
    assert (a.attempts, a.result(), alarm.attempts, c.finished_at) == (3, 3, 1, 11)
    assert [span.attempts for span in trace.spans if span.path == "a"] == [(0, 1, 8)]
    assert not scheduler.failures()


def waiting_options(kind: str) -> dict[str, Any]:
    if kind == "limiter":
        return {"jobs_window": anyio.CapacityLimiter(1)}
    return (
        {"pool": Pool(cpu=1, host=trioflow.PerKey(1), usd=Budget(9))}
        if kind in NEEDS
        else {"jobs_window": 1}
    )


NEEDS: dict[str, dict[str, Any]] = {
    "needs": {"cpu": 1},
    "key": {"host": "a"},
    "both": {"cpu": 1, "usd": 1},
}


@pytest.mark.sampled
@pytest.mark.parametrize("is_paused", [False, True])
@pytest.mark.parametrize("kind", ["window", "limiter", "priority", *NEEDS])
@pytest.mark.parametrize("again", ["bc", "c", "dc"])
def test_a_job_cancelled_in_its_wait_waits_anew(
    virtual: Virtual, kind: str, is_paused: bool, again: str
) -> None:
    """It has lost its place, wherever that was: it starts once, after those that were ready before."""
    started: list[str] = []

    needs = NEEDS.get(kind, {})
    jobs = {
        name: Job(
            noted, started, name, 2, needs=needs, priority=int(kind == "priority")
        )
        for name in "abcd"
    }
    scheduler = Scheduler(*jobs.values(), **waiting_options(kind))
    calls = [
        *(jobs[name].cancel for name in again),
        *(jobs[name].try_again for name in again),
    ]
    if is_paused:
        calls = [scheduler.pause, *calls, scheduler.resume]
    scheduler.add(Job(after, 0.25, *calls, forever=True))
    assert virtual(scheduler.co_run)
    assert (
        "".join(started) == "".join(name for name in jobs if name not in again) + again
    )
    assert [job.attempts for job in jobs.values()] == [1, 1, 1, 1]


def test_a_backoff_that_was_cancelled_does_not_end_the_next_one(
    virtual: Virtual,
) -> None:
    """A job that was cancelled in its backoff, tried again, and has failed again, waits for its new backoff alone."""
    job = Job(Broken(2), retry=Retry(3, first=10, jitter=False))
    other = Job(Broken(1), retry=Retry(1, first=7, jitter=False))
    assert virtual(
        Scheduler(job, other, Job(after, 3, job.cancel, job.try_again)).co_run
    )
    assert (job.attempts, job.finished_at - job.started_at) == (3, 18)  # type: ignore[operator]


def test_the_log_names_what_has_run_meanwhile(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    a = Job(Broken(1), label="a")
    runs, waits = (
        Job(anyio.sleep, 9, label="runs"),
        Job(Broken(1), label="waits", retry=Retry(1, first=9)),
    )
    users = [
        waits,
        runs,
        Job(nap, label="ended"),
        Job(nap, label="idle", required=runs),
        Job(nap, label="blocked"),
    ]
    for user in users:
        user.requires(a, settled=user.label != "blocked")
    assert virtual(
        Scheduler(a, *users, Job(after, 4, waits.cancel, a.try_again)).co_run
    )
    message = next(
        record.message
        for record in caplog.records
        if "tried again: 'a'" in record.message
    )
    assert message.endswith(
        "; what has run meanwhile does not run again: 'waits', 'runs', 'ended'"
    )
    assert [job.attempts for job in (a, *users)] == [2, 1, 1, 1, 1, 1]


def test_what_cannot_be_tried_again_is_refused(virtual: Virtual) -> None:
    refused: list[str] = []

    def refuse(*jobs: AbstractJob[Any]) -> None:
        for job in jobs:
            with pytest.raises(RuntimeError) as info:
                job.try_again()
            refused.append(str(info.value).partition("': ")[2])

    once, poor = Job(fail_now(), label="once"), Job(nap, needs={"usd": 2}, label="poor")
    blocked, value = (
        Job(nap, required=once, label="blocked"),
        Job(nap, keep_result=False),
    )
    user, inner = Job(Broken(1), value), Job(fail_now)
    first = First(inner, Job(anyio.sleep, 99))
    fine, unneeded = Job(nap, label="fine"), Job(nap, label="unneeded", run_if="failed")
    unneeded.requires(fine)
    everything: list[AbstractJob[Any]] = [once, unneeded, blocked, poor, user, inner]
    scheduler = Scheduler(
        *[once, fine, unneeded, blocked, poor, user, first],
        Job(after, 5, lambda: refuse(*everything), first.cancel),
        pool=Pool(usd=Budget(3)),
    )
    scheduler.add(Job(nap, needs={"usd": 2}, priority=1))
    assert not virtual(scheduler.co_run)
    assert refused == [
        "its coroutine object can run only once; give Job the async function",
        "it is skipped, and was not needed; try again what it requires",
        "it is blocked, and only what has succeeded or failed, or was cancelled alone, can be; try again what has "
        "blocked it",
        "it is blocked, and only what has succeeded or failed, or was cancelled alone, can be; for another run, "
        "enlarge the Budget, or reduce the needs",
        "a result that it needs was dropped, because of keep_result=False",
        "'First' is a First, which has counted its end; it can be tried again as a whole",
    ]
    refuse(once)
    assert refused[-1] == "its scheduler is not running"


def test_the_log_names_all_that_one_word_tries_again(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = Scheduler([Job(Broken(1), label=name) for name in "ab"])
    scheduler.add(Job(after, 3, scheduler.try_again))
    assert virtual(scheduler.co_run)
    assert (
        "tried again: 'a' (OSError: disk full), 'b' (OSError: disk full)"
        in caplog.messages
    )


def test_the_log_tells_of_each_try_what_is_its_own(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """What an earlier word has brought back, blocked jobs and what had run meanwhile, is not told once more."""
    a, b = Job(Broken(1), label="a"), Job(Broken(1), label="b")
    blocked, ran = (
        Job(nap, required=a, label="blocked"),
        Job(nap, label="ran").requires(a, settled=True),
    )
    assert virtual(
        Scheduler(a, b, blocked, ran, Job(after, 3, a.try_again, b.try_again)).co_run
    )
    told = [
        record.message.partition("tried again: ")[2]
        for record in caplog.records
        if "tried again" in record.message
    ]
    ran_text = "what has run meanwhile does not run again: 'ran'"
    assert told == [
        f"'a' (OSError: disk full), with 1 blocked job; {ran_text}",
        "'b' (OSError: disk full)",
    ]


@pytest.mark.parametrize("depth", [0, 1])
def test_a_group_in_which_a_coroutine_object_was_used_up_is_not_tried_again(
    virtual: Virtual, depth: int
) -> None:
    spent, fine = Job(Broken(1)(), label="spent"), Job(nap(), label="fine")
    group = Scheduler(Scheduler(spent) if depth else spent, label="group")
    other = Scheduler(fine, Job(Broken(1)), label="other")
    refused: list[str] = []

    def again() -> None:
        for job in (group, other):
            try:
                job.try_again()
            except RuntimeError as error:
                refused.append(str(error))

    assert not virtual(Scheduler(group, other, Job(after, 5, again)).co_run)
    assert refused == [
        "try_again() of 'group': its coroutine object can run only once; give Job the async function"
    ]
    assert (group.attempts, other.attempts, other.state.name, fine.attempts) == (
        1,
        2,
        "SUCCEEDED",
        1,
    )


@pytest.mark.parametrize("way", ["alone", "in a group"])
def test_what_was_awaited_is_not_among_all_that_is_tried_again(
    virtual: Virtual, way: str
) -> None:
    awaited, failed = Job(Broken(1), label="awaited"), Job(Broken(1), label="failed")

    async def take() -> None:
        with pytest.raises(OSError, match="disk full"):
            await awaited
        await anyio.sleep(1)
        scheduler.try_again()

    members = [awaited, Job(anyio.sleep, 9)]
    scheduler = Scheduler(
        Scheduler(*members) if way == "in a group" else members, failed, Job(take)
    )
    assert virtual(scheduler.co_run)
    assert (names(scheduler).count("F"), awaited.attempts, failed.attempts) == (1, 1, 2)


def test_a_blocked_job_whose_input_was_dropped_stays_blocked(virtual: Virtual) -> None:
    value, broken, given = (
        Job(nap, keep_result=False, label="value"),
        Job(Broken(1, 2)),
        list[Any](),
    )

    async def take(value: Any) -> None:
        given.append(value)

    blocked = Job(take, value, required=broken, label="blocked")
    user, other = Job(nap, required=blocked), Job(nap, required=broken)
    scheduler = Scheduler(
        value, broken, blocked, user, other, Job(after, 4, broken.try_again)
    )
    assert not virtual(scheduler.co_run)
    assert (names(scheduler), given) == ("SSBBSS", [])


def test_what_gets_a_requirement_while_it_is_about_to_start_waits_for_it(
    virtual: Virtual,
) -> None:
    """A function that is told of a job which the same failure has blocked may say so; the job is IDLE until then."""
    root, slow = Job(Broken(1)), Job(anyio.sleep, 5)
    blocked, alarm = Job(nap, required=root), Job(nap, required=root, run_if="failed")

    def tell(job: AbstractJob[Any]) -> None:
        if job is blocked:
            alarm.requires(slow)

    assert not virtual(
        Scheduler(root, slow, blocked, alarm, on_job_settled=tell).co_run
    )
    assert alarm.started_at == 5


@pytest.mark.parametrize("options", [{"timeout": 2}, {"idle_timeout": 2}])
def test_the_next_try_may_take_longer(
    virtual: Virtual, options: dict[str, Any]
) -> None:
    """What a JobTimeout advises can be done: a job or group that has settled gets another timeout, and no other job."""
    slow = Job(anyio.sleep, 5, label="slow", **options)
    group = Scheduler(Job(anyio.sleep, 5), label="group", **options)
    (name,) = options

    def mend() -> None:
        for job in (slow, group):
            setattr(job, name, 9)
            job.try_again()
            with pytest.raises(
                RuntimeError, match=f"{name} of '{job.label}': not allowed while"
            ):
                setattr(job, name, 1)

    assert virtual(Scheduler(slow, group, Job(after, 3, mend)).co_run)
    assert [(job.attempts, getattr(job, name)) for job in (slow, group)] == [
        (2, 9),
        (2, 9),
    ]


@pytest.mark.parametrize("end", ["drain", "stop"])
def test_a_run_that_ends_tries_nothing_again(virtual: Virtual, end: str) -> None:
    refused: list[str] = []

    async def refuse() -> None:
        await anyio.sleep(2)
        scheduler.drain() if end == "drain" else scheduler.cancel()
        for each in (failed, scheduler):
            with pytest.raises(RuntimeError) as info:
                each.try_again()
            refused.append(str(info.value))

    failed = Job(Broken(9), label="failed")
    scheduler = Scheduler(failed, Job(refuse), label="s")
    assert not virtual(scheduler.co_run)
    phase = "is draining" if end == "drain" else "is stopping"
    assert refused == [
        f"try_again() of 'failed': 's' {phase}",
        f"try_again() of 's': 's' {phase}",
    ]


def test_a_hook_tries_again_what_is_settling(virtual: Virtual) -> None:
    def job_settled(scheduler: Any, job: AbstractJob[Any]) -> None:
        if job.attempts < 6:
            job.try_again()

    job = Job(Broken(3), label="a")
    scheduler = Scheduler(
        job,
        on_job_settled=lambda job: job.try_again() if job.raised_exception() else None,
    )
    assert virtual(
        lambda: scheduler.co_run(instruments=[hooked(job_settled=job_settled)])
    )
    assert job.attempts == 6


def test_a_hook_may_cancel_what_waits_again_and_all_are_told_in_order(
    virtual: Virtual,
) -> None:
    """A job that was told as cancelled was then told as waiting again, so that a reader took it for IDLE."""
    told: list[str] = []

    def job_reopened(scheduler: Any, job: AbstractJob[Any]) -> None:
        told.append(f"{job.label} {job.state.value}")
        if job is first:
            last.cancel()

    def job_settled(scheduler: Any, job: AbstractJob[Any]) -> None:
        told.append(f"{job.label} {job.state.value}")

    first = Job(nap, label="first")
    last = Job(nap, label="last", required=first)
    scheduler = Scheduler(first, Job(nap, label="between", required=first), last)
    scheduler.add(Job(after, 4, told.clear, first.try_again, label="word"))
    hooks = hooked(job_reopened=job_reopened, job_settled=job_settled)
    assert virtual(lambda: scheduler.co_run(instruments=[hooks]))
    assert told[:4] == ["first idle", "between idle", "last idle", "last cancelled"]
    assert names(scheduler) == "SSCS"


def test_what_a_hook_cancels_and_tries_again_as_another_waits_anew_has_one_place(
    virtual: Virtual,
) -> None:
    """It had a second place in the line, from which it started again in its backoff."""
    starts: list[float] = []
    words = [lambda: waits.cancel(), lambda: waits.try_again()]

    def job_reopened(_: Any, job: AbstractJob[Any]) -> None:
        if job is first:
            words.pop(0)()

    def job_settled(_: Any, job: AbstractJob[Any]) -> None:
        if job is waits and len(words) == 1:
            words.pop(0)()

    async def fail_twice() -> None:
        starts.append(anyio.current_time())
        if len(starts) < 3:
            raise OSError

    first = Job(nap, label="first")
    waits = Job(fail_twice, retry=Retry(2, first=3, jitter=False), label="waits")
    mend = Job(after, 1, first.cancel, first.try_again)
    scheduler = Scheduler(Job(anyio.sleep, 9), mend, first, waits, jobs_window=2)
    hooks = hooked(job_reopened=job_reopened, job_settled=job_settled)
    assert virtual(lambda: scheduler.co_run(instruments=[hooks]))
    assert [start - starts[0] for start in starts] == [0, 3, 9]


ACTS_IN_HOOK = {"cancel": [2, 1, 1, 0], "add": [2, 1, 1, 1, 1], "require": [2, 1, 1, 1]}


@pytest.mark.parametrize("act", ACTS_IN_HOOK)
def test_what_a_hook_does_before_it_tries_again_what_is_settling(
    virtual: Virtual, act: str
) -> None:
    """It may end another job, and let jobs require what is settling: these are tried again, and its users run once."""
    a, gate = Job(Broken(1), label="a"), Job(anyio.sleep, 1.5)
    waiting = Job(nap, required=gate)
    scheduler = Scheduler(a, Job(nap, required=a), gate, waiting)

    def tell(job: AbstractJob[Any]) -> None:
        if job is a and a.raised_exception():
            if act == "add":
                scheduler.add(Job(nap, required=a))
            else:
                waiting.cancel() if act == "cancel" else waiting.requires(a)
            a.try_again()

    scheduler.on_job_settled = tell
    assert virtual(scheduler.co_run)
    assert [job.attempts for job in scheduler] == ACTS_IN_HOOK[act]


def test_a_job_in_a_group_that_has_ended_is_tried_again_with_the_group(
    virtual: Virtual,
) -> None:
    fine, broken = Broken(0), Broken(1)
    inner = Scheduler(Job(fine), job := Job(broken), label="inner")
    assert virtual(
        Scheduler(
            Scheduler(inner, label="outer"), Job(after, 5, lambda: job.try_again())
        ).co_run
    )
    assert (fine.calls, broken.calls, job.state) == (1, 2, JobState.SUCCEEDED)


def test_what_cleans_up_in_a_group_does_so_in_each_try(virtual: Virtual) -> None:
    """So does what follows it; what has run in spite of the failure does not run again."""
    calls: list[str] = []
    deploy = Job(Broken(9), label="deploy", critical=True)
    back = Job(noted, calls, "back", 0, required=deploy, run_if="failed")
    told = Job(noted, calls, "told", 0, required=back, run_if="settled")
    group = Scheduler(deploy, back, told)
    assert not virtual(Scheduler(group, Job(after, 5, group.try_again)).co_run)
    assert calls.count("back") == 2


def test_each_reader_of_a_group_that_is_tried_again_is_told_each_end_once(
    virtual: Virtual,
) -> None:
    """Ends and reopenings of each job alternate, and views tell how long its attempts ran."""
    story: dict[str, list[str]] = {}
    told = hooked(
        job_settled=lambda _, job: story.setdefault(job.path, []).append(
            job.state.value
        ),
        job_reopened=lambda _, job: story[job.path].append("reopened"),
    )
    broken = Job(Broken(1), label="broken")
    inner = Scheduler(
        Job(nap, label="fine"),
        broken,
        Job(nap, required=broken, label="next"),
        label="inner",
    )
    group = Scheduler(inner, Job(nap, label="kept"), label="group")
    lines = io.StringIO()
    scheduler = Scheduler(
        group, Job(after, 5, group.try_again, label="again"), label="s"
    )
    assert virtual(
        lambda: scheduler.co_run(instruments=[told, trioflow.Monitor(file=lines)])
    )
    twice = ["failed", "reopened", "succeeded"]
    assert story == {
        "group/inner/fine": ["succeeded"], "group/inner/broken": twice,
        "group/inner/next": ["blocked", "reopened", "succeeded"], "group/inner": twice, "group/kept": ["succeeded"],
        "group": twice, "again": ["succeeded"],
    }  # fmt: skip
    assert lines.getvalue().count(" group/kept") == 2  # it starts, and succeeds


@pytest.mark.parametrize("chosen", [False, True])
def test_an_iterator_yields_only_what_has_settled(
    virtual: Virtual, chosen: bool
) -> None:
    async def main() -> None:
        async with Scheduler() as scheduler:
            first = scheduler.add(Job(Broken(1), label="first"))
            jobs = [first, scheduler.add(Job(nap, required=first, label="second"))]
            async for job in (
                scheduler.as_settled(jobs) if chosen else scheduler.as_settled()
            ):
                seen.append((job.label, job.state.value))
                if job.state is JobState.FAILED:
                    job.try_again()

    seen: list[tuple[str, str]] = []
    virtual(main)
    assert seen == [
        ("first", "failed"),
        ("first", "succeeded"),
        ("second", "succeeded"),
    ]


def test_a_job_that_was_cancelled_alone_is_tried_again(virtual: Virtual) -> None:
    """Before or after its start; it counts what it requires as before, each once."""
    slow, slower = Job(anyio.sleep, 5), Job(anyio.sleep, 7)
    hung, waiting = Job(Broken(0, 3)), Job(nap, required=[slow, slower])
    last = Job(nap, required=[hung, waiting])
    steps = [hung.cancel, waiting.cancel, hung.try_again, waiting.try_again]
    assert virtual(
        Scheduler(slow, slower, hung, waiting, last, Job(after, 1, *steps)).co_run
    )
    assert (hung.attempts, waiting.started_at, last.started_at) == (2, 7, 8)


@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize(
    "hook", ["before_run", "job_scheduled", "job_started", "job_attempt"]
)
def test_a_job_that_was_cancelled_alone_is_tried_again_whenever_that_was(
    virtual: Virtual, hook: str, is_nested: bool
) -> None:
    """Also before its run knew which jobs are ready, or in the step in which the job starts."""
    job, cancels, watch = Job(nap), [1], Instrument()
    group = Scheduler(job, Job(after, 5, job.try_again))

    def cancel_once(scheduler: Scheduler, subject: AbstractJob[Any] = job) -> None:
        if scheduler is group and subject is job and cancels:
            cancels.clear()
            job.cancel()

    setattr(watch, hook, cancel_once)
    scheduler = Scheduler(group) if is_nested else group
    assert virtual(lambda: scheduler.co_run(instruments=[watch]))
    assert (cancels, job.state, job.finished_at) == ([], JobState.SUCCEEDED, 6)


def test_a_job_that_is_tried_again_has_all_its_retries_and_its_first_backoff(
    virtual: Virtual,
) -> None:
    body, seen = Broken(5), list[float]()
    job = Job(body, label="a", retry=Retry(2, first=1, jitter=False))
    steering = Job(after, 10, job.try_again)
    assert virtual(
        Scheduler(
            job, steering, on_job_settled=lambda one: seen.append(one.finished_at or 0)
        ).co_run
    )
    assert (body.calls, job.attempts, job.result()) == (6, 6, 6)
    assert seen == [
        6,
        10,
        16,
    ]  # three attempts of 1 s each time, and backoffs of 1 s and 2 s


def test_a_drain_after_the_second_try_of_a_cancelled_job_leaves_its_group_complete(
    virtual: Virtual,
) -> None:
    """A job that was cancelled, and has succeeded since, does not count as one that the drain has kept from its end."""
    hung = Job(anyio.sleep, 2)
    group = Scheduler(hung, Job(anyio.sleep, 6))
    scheduler = Scheduler(group)
    steering = Job(after, 1, hung.cancel, hung.try_again, scheduler.drain)
    scheduler.add(steering)
    virtual(scheduler.co_run)
    assert (hung.attempts, group.state, group.stop_reason) == (
        2,
        JobState.SUCCEEDED,
        StopReason.COMPLETED,
    )


def test_a_retry_of_a_group_that_was_tried_again_runs_all_its_jobs(
    virtual: Virtual,
) -> None:
    """Only the run that `try_again` begins keeps what had succeeded: a retry is a run as any other."""
    good, bad = Broken(0), Broken(3)
    group = Scheduler(Job(good), Job(bad), retry=1)
    scheduler = Scheduler(group)
    scheduler.add(Job(after, 5, group.try_again))
    assert virtual(scheduler.co_run)
    assert (good.calls, bad.calls, group.attempts) == (3, 4, 4)


@pytest.mark.parametrize(
    ("fails", "states", "reason"), [(2, "SSSS", "COMPLETED"), (9, "FFBB", "FAILED")]
)
def test_run_is_held_where_it_would_end_with_failures(
    virtual: Virtual, fails: int, states: str, reason: str
) -> None:
    """It is paused until its failures are mended, or `resume` ends it."""
    group = Scheduler(a := Job(Broken(fails)), Job(nap, a))
    scheduler = Scheduler(group, Job(nap, required=group), hold=True)
    seen: set[Any] = set()

    async def main() -> None:
        async with running(scheduler):
            for call in (scheduler.try_again, group.try_again, scheduler.resume)[
                : 3 if fails > 2 else 2
            ]:
                await anyio.sleep(5)
                seen.add((scheduler.is_paused(), names(scheduler)))
                call()

    virtual(main)
    assert seen == {(True, "FFBB")}
    assert (names(scheduler), scheduler.stop_reason) == (states, StopReason[reason])


def test_a_timeout_ends_a_held_run(
    virtual: Virtual,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The time goes on while it is held. How to go on is said in the log, and no more in a debrief, when it is over."""
    scheduler = Scheduler(Job(Broken(1)), hold=True, timeout=60, label="night")
    assert not virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.TIMEOUT
    assert "and is held: try_again() or `trioflow steer " in caplog.text
    assert "ends it; no journal keeps what has succeeded" in caplog.text
    scheduler.debrief()
    assert (
        "steered:\n  the run of 'night' has failures, and is held\n"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("pauses_at", [0.5, 5])
def test_a_pause_of_a_held_run_holds_back_what_is_tried_again(
    virtual: Virtual, pauses_at: float
) -> None:
    job = Job(Broken(2))
    scheduler = Scheduler(job, hold=True)
    seen: list[str] = []

    def look() -> None:
        seen.append(f"{job.state.name} {scheduler.is_paused()}")

    async def main() -> None:
        async with running(scheduler):
            await after(pauses_at, scheduler.pause)
            await after(
                5,
                look,
                scheduler.try_again,
                look,
                scheduler.resume,
                look,
                scheduler.resume,
            )

    virtual(main)
    assert seen == ["FAILED True", "SCHEDULED True", "FAILED True"]
    assert scheduler.stop_reason is StopReason.FAILED


def test_what_is_tried_again_as_the_hold_ends_may_hold_the_run_once_more(
    virtual: Virtual,
) -> None:
    job = Job(Broken(2))
    scheduler = Scheduler(job, hold=True)
    seen: list[Any] = []

    async def main() -> None:
        async with running(scheduler):
            await after(5, lambda: (scheduler.resume(), job.try_again()))
            await after(
                5,
                lambda: seen.append((job.state.name, scheduler.is_paused())),
                scheduler.resume,
            )

    virtual(main)
    assert (seen, scheduler.stop_reason) == ([("FAILED", True)], StopReason.FAILED)


def test_a_resume_before_a_hold_does_not_end_it(virtual: Virtual) -> None:
    """Not even if a function says so that is told of the last failure: the run is held in the next turn."""
    scheduler = Scheduler(
        Job(Broken(1)), hold=True, on_job_settled=lambda _: scheduler.resume()
    )
    seen: list[bool] = []

    async def main() -> None:
        async with running(scheduler):
            await after(5, lambda: seen.append(scheduler.is_paused()), scheduler.drain)

    virtual(main)
    assert seen == [True]


def test_each_halt_of_a_run_is_told_and_each_failure_in_it(virtual: Virtual) -> None:
    """A job that is tried again while another lies failed, and fails again, holds the run again, for both."""
    one, two = Job(Broken(3), label="one"), Job(Broken(1), label="two")
    scheduler, story = Scheduler(one, two, hold=True), list[Any]()
    told = hooked(
        job_settled=lambda _, job: story.append(f"{job.label} {job.state.name}"),
        incident=lambda _, __, message, ___: story.extend(
            ["is held"] * message.endswith("is held")
        ),
    )

    async def main() -> None:
        async with running(scheduler, instruments=[told]):
            for call in (one.try_again, scheduler.try_again, one.try_again):
                await anyio.sleep(5)
                story.append(
                    (
                        scheduler.is_paused(),
                        names(scheduler),
                        len({*scheduler.failures().values()}),
                    )
                )
                call()

    virtual(main)
    assert story == [
        *("one FAILED", "two FAILED", "is held", (True, "FF", 2)),
        *("one FAILED", "is held", (True, "FF", 2)),
        *("one FAILED", "two SUCCEEDED", "is held", (True, "FS", 1)),
        "one SUCCEEDED",
    ]


def test_an_open_block_is_held_only_at_its_end(virtual: Virtual) -> None:
    seen: list[Any] = []

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            async with Scheduler(hold=True) as scheduler:
                job = scheduler.add(Job(Broken(1)))
                await anyio.sleep(5)
                assert not scheduler.is_paused()
                tasks.start_soon(
                    after, 5, lambda: seen.append(scheduler.is_paused()), job.try_again
                )
            seen.append(job.state.name)

    virtual(main)
    assert seen == [True, "SUCCEEDED"]


def test_only_an_outermost_scheduler_is_held() -> None:
    """A held group would keep its slot and its needs, so `hold` of a nested one is refused before the run."""
    with pytest.raises(
        ValueError, match=r"hold=True of 'inner': give it to the outermost scheduler"
    ):
        Scheduler(Scheduler(label="inner", hold=True)).run()


@pytest.mark.parametrize("end", ["drain", "cancel"])
def test_a_held_run_ends_as_any_other(virtual: Virtual, end: str) -> None:
    scheduler = Scheduler(Job(Broken(1)), hold=True)
    added = Job(nap)

    async def main() -> None:
        async with running(scheduler):
            await after(5, lambda: scheduler.add(added), getattr(scheduler, end))

    virtual(main)
    assert added.is_succeeded()
    assert (
        scheduler.stop_reason
        is {"drain": StopReason.DRAINED, "cancel": StopReason.CANCELLED}[end]
    )


@pytest.mark.parametrize("stores", [False, True])
def test_a_group_that_has_ended_keeps_what_has_succeeded(
    virtual: Virtual, tmp_path: Path, stores: bool
) -> None:
    """So does a group in it. With a journal, too, and the next run restores all."""
    fine, body = [Broken(0) for _ in range(4)], Broken(2)
    journal, finished = tmp_path / "run.db" if stores else None, list[str]()

    def build() -> tuple[Scheduler, Scheduler]:
        one, three = Job(fine[0], label="one"), Job(fine[2], label="three")
        inner = Scheduler(
            Job(fine[1], label="two"),
            three,
            Job(fine[3], Job(body, three, label="body")),
            label="inner",
        )
        group = Scheduler(
            one,
            Scheduler(Job(nap, label="nap"), label="kept"),
            inner.requires(one),
            label="group",
        )
        return group, Scheduler(group, Job(nap, required=group, label="follower"))

    group, scheduler = build()
    scheduler.add(
        Job(after, 9, group.try_again, scheduler.try_again, label="mend", save=None)
    )
    watch = hooked(job_settled=lambda _, job: finished.append(job.path))
    assert virtual(
        lambda: scheduler.co_run(journal=journal, instruments=[watch, Trace()])
    )
    assert (body.calls, [each.calls for each in fine], group.attempts) == (
        3,
        [1, 1, 1, 1],
        3,
    )
    assert (
        finished.count("group/one") == finished.count("group/inner/two") == 1
    )  # what is kept is not told
    if stores:
        assert virtual(lambda: build()[1].co_run(journal=journal))
        assert (body.calls, [each.calls for each in fine]) == (3, [1, 1, 1, 1])


def test_a_group_of_which_only_a_forever_job_failed_ends_when_tried_again(
    virtual: Virtual,
) -> None:
    """Its ordinary jobs have succeeded and do not run again; the forever job does, and is cancelled as usual."""
    tries: list[None] = []

    async def tick() -> None:
        tries.append(None)
        if len(tries) == 1:
            raise OSError("disk full")
        await anyio.sleep_forever()

    group = Scheduler(Job(anyio.sleep, 2), Job(tick, forever=True), label="group")
    assert virtual(
        lambda: Scheduler(group, Job(after, 5, group.try_again), timeout=60).co_run()
    )
    assert (group.state, group.stop_reason, len(tries)) == (
        JobState.SUCCEEDED,
        StopReason.COMPLETED,
        2,
    )


def test_a_group_runs_again_whole_if_it_had_grown(virtual: Virtual) -> None:
    """What was added to it is gone, so those that had added it run again, as do those whose result is dropped."""
    body = Broken(1)
    group = Scheduler(
        grower := Job(at_once, lambda: group.add(Job(nap, label="added"))), Job(body)
    )
    dropped = Broken(0)
    other = Scheduler(value := Job(dropped, keep_result=False), Job(Broken(1), value))
    scheduler = Scheduler(group, other)
    scheduler.add(Job(after, 9, scheduler.try_again))
    assert virtual(scheduler.co_run)
    assert (names(group), grower.attempts, dropped.calls) == ("SSS", 2, 2)


def test_a_group_that_was_cancelled_before_it_started_keeps_nothing_of_a_run_of_its_own(
    virtual: Virtual,
) -> None:
    good = Broken(0)
    group = Scheduler(Job(good), Job(Broken(1)))

    async def open_block() -> None:
        async with Scheduler() as scheduler:
            scheduler.pause()
            scheduler.add(group)
            group.cancel()
            group.try_again()
            scheduler.resume()

    assert not virtual(group.co_run)
    virtual(open_block)
    assert (good.calls, group.state) == (2, JobState.SUCCEEDED)


def test_a_service_is_tried_again(virtual: Virtual) -> None:
    """Those that it has blocked wait until it is ready."""
    calls: list[str] = []

    async def serve(*, task_status: Any) -> None:
        calls.append("serve")
        if len(calls) < 2:
            raise OSError("port in use")
        await anyio.sleep(3)
        task_status.started("url")
        await anyio.sleep(99)

    service = Service(serve)
    user = Job(nap, service)
    assert virtual(Scheduler(service, user, Job(after, 5, service.try_again)).co_run)
    assert (user.started_at, service.attempts) == (8, 2)


async def lose_connection(
    after: float, is_ready: bool = True, *, task_status: Any
) -> None:
    """Be ready after some seconds, in the first attempt only if `is_ready`, and then fail in the first attempt."""
    is_first = current_job().attempts == 1
    await anyio.sleep(after)
    if is_ready or not is_first:
        task_status.started("url")
    await anyio.sleep(1)
    if is_first:
        raise OSError("lost")
    await anyio.sleep(99)


def test_a_service_that_was_ready_is_not_ready_again_at_once(virtual: Virtual) -> None:
    """A job that is added while it starts again waits until it is ready."""
    service, late = Service(lose_connection, 3), Job(nap)
    scheduler = Scheduler(service, Job(anyio.sleep, 20))
    scheduler.add(Job(after, 5, service.try_again))
    scheduler.add(Job(after, 6, lambda: scheduler.add(late.requires(service))))
    assert virtual(scheduler.co_run)
    assert late.started_at == 8


@pytest.mark.parametrize("is_ready", [True, False])
@pytest.mark.parametrize("keep_jobs", [True, False])
def test_a_waiting_job_waits_for_a_service_tried_again(
    virtual: Virtual, keep_jobs: bool, is_ready: bool
) -> None:
    """The service has been ready for its user before, or not; the user still waits for something else, and then for it.
    It once had no user any more, after it had been ready."""
    service, long = Service(lose_connection, 2, is_ready), Job(anyio.sleep, 5)
    user, after_user = Job(nap, required=[service, long]), Job(nap, service)
    scheduler = Scheduler(
        service, long, user, Job(after, 4, service.try_again), keep_jobs=keep_jobs
    )
    scheduler.add(Job(after, 4, lambda: scheduler.add(after_user)))
    assert virtual(scheduler.co_run)
    assert (user.started_at, after_user.started_at) == (6, 6)


def test_a_result_that_is_not_kept_waits_for_what_may_run_again(
    virtual: Virtual,
) -> None:
    """It is dropped when the last of its users has started, those included that were blocked."""

    value, broken, slow = (
        Job(at_once, lambda: "value", keep_result=False),
        Job(Broken(1, 4)),
        Job(anyio.sleep, 5),
    )
    blocked, other = Job(take, value, required=broken), Job(take, value, required=slow)
    assert virtual(
        Scheduler(
            value, broken, slow, blocked, other, Job(after, 4.5, broken.try_again)
        ).co_run
    )
    assert (blocked.result(), blocked.started_at, value.result(default="dropped")) == (
        ("value",),
        8.5,
        "dropped",
    )


def test_in_a_block_and_from_another_thread() -> None:
    """A failure that was awaited belongs to whoever tries again; functions are kept until the block ends."""

    async def main() -> None:
        async with Scheduler() as scheduler:
            a = scheduler.add(Job(Broken(2, 0)))
            b = scheduler.add(Job(anyio.sleep, 0, required=a))
            with pytest.raises(OSError, match="disk full"):
                await a
            a.try_again()
            await b.wait_settled()
            assert names(scheduler) == "FB"
            await anyio.to_thread.run_sync(scheduler.try_again)
            assert await a == 3
        assert names(scheduler) == "SS"

    before = {*threading.enumerate()}  # idle threads of earlier tests among them
    anyio.run(main)
    assert len({*threading.enumerate()} - before) < 2


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [0, 3, 2, 1], [1, 0, 3, 2]])
def test_a_failed_job_of_which_a_requirement_is_tried_again_waits_for_it(
    virtual: Virtual, order: list[int]
) -> None:
    """It had run in spite of that failure, or was cancelled while it waited for another job: each is counted once."""
    root, slow = Job(Broken(1), label="root"), Job(anyio.sleep, 9)
    tolerant = Job(Broken(1)).requires(root, settled=True)
    cancelled = Job(nap, required=[slow]).requires(root, settled=True)
    steps = [cancelled.cancel, tolerant.try_again, root.try_again, cancelled.try_again]
    scheduler = Scheduler(
        root,
        slow,
        tolerant,
        cancelled,
        Job(after, 3, lambda: [steps[number]() for number in order]),
    )
    assert virtual(scheduler.co_run)
    assert (root.finished_at, tolerant.finished_at, cancelled.started_at) == (
        4,
        4 if order[0] else 5,
        9,
    )


def test_jobs_that_are_added_after_a_failure_wait_for_its_second_try(
    virtual: Virtual,
) -> None:
    a, slow = Job(Broken(1, 3), label="a"), Job(anyio.sleep, 4)
    tolerant, late, blocked = (
        Job(nap, label="tolerant"),
        Job(nap, label="late"),
        Job(nap, required=a, label="blocked"),
    )

    async def grow() -> None:
        await anyio.sleep(3.5)
        scheduler.add(tolerant.requires(slow).requires(a, settled=True))
        scheduler.add(late.requires(slow))
        late.requires(a, settled=True)
        scheduler.add(blocked)
        assert blocked.state is JobState.BLOCKED
        a.try_again()

    scheduler = Scheduler(a, slow, Job(grow))
    assert virtual(scheduler.co_run)
    assert [job.started_at for job in (tolerant, late, blocked)] == [6.5, 6.5, 6.5]


def test_a_cycle_through_a_job_that_has_failed_is_refused(virtual: Virtual) -> None:
    async def mend() -> None:
        await failed.wait_settled()
        root.try_again()
        assert (blocked.state, failed.state) == (JobState.IDLE, JobState.FAILED)
        with pytest.raises(trioflow.CycleError):
            blocked.requires(failed)
        failed.try_again()

    root = Job(Broken(1))
    blocked = Job(nap, required=root)
    failed = Job(Broken(1)).requires(blocked, settled=True)
    assert virtual(Scheduler(root, blocked, failed, Job(mend)).co_run)


def test_many_blocked_jobs_go_back_in_chunks(
    backend: BackendName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reopening, "CHUNK_SECONDS", 1e-5)
    root = Job(Broken(1, 0))
    blocked = [Job(anyio.sleep, 0, required=root) for _ in range(500)]
    turns: list[bool] = []

    async def mend() -> None:
        await blocked[-1].wait_settled()
        root.try_again()
        turns.append(blocked[-1].is_idle())

    async def watch() -> None:
        while not turns or blocked[-1].state is JobState.BLOCKED:
            await anyio.lowlevel.checkpoint()
            if turns:
                turns.append(blocked[-1].is_idle())

    assert Scheduler(root, *blocked, Job(mend), Job(watch)).run(backend=backend)
    assert turns.count(False) > 3


def test_what_a_scheduler_without_kept_jobs_still_has_is_tried_again(
    virtual: Virtual,
) -> None:
    """It has the first failures that count, which then count no more; what it has dropped is refused."""
    bodies = [Broken(1) for _ in range(20)]

    async def main() -> None:
        async with Scheduler(keep_jobs=False) as scheduler:
            jobs = [scheduler.add(Job(body)) for body in bodies]
            slow = scheduler.add(Job(anyio.sleep, 9))
            user = scheduler.add(
                Job(nap, required=slow).requires(jobs[0], settled=True)
            )
            await anyio.sleep(5)
            with pytest.raises(
                RuntimeError, match="has keep_jobs=False, and has dropped it"
            ):
                jobs[-1].try_again()
            for job in [*scheduler]:
                if job.state is JobState.FAILED:
                    job.try_again()
            assert user._pending == 2
            await anyio.sleep(99)
            assert [*scheduler] == []
        assert (user.started_at or 0) > 8

    with pytest.raises(ExceptionGroup, match="jobs of 'Scheduler' failed") as info:
        virtual(main)
    assert [body.calls for body in bodies].count(2) == 16
    assert len(info.value.exceptions) == 1


@pytest.mark.parametrize("stagger", [None, 1, float("inf")])
def test_a_first_that_is_tried_again_keeps_its_winners(
    backend: BackendName, virtual: Virtual, stagger: Any
) -> None:
    """A `First` with `enough=2` of which one has succeeded asks that one no more: what it has paid for counts."""
    bodies = [Broken(0), Broken(1), Broken(1)]
    first = First(*map(Job, bodies), enough=2, stagger=stagger)
    scheduler = Scheduler(
        first, on_job_settled=lambda job: job.try_again() if job.attempts == 1 else None
    )
    assert virtual(scheduler.co_run)
    assert (bodies[0].calls, first.result()) == (1, [1, 2])
    assert first.attempts == 2


def test_a_first_whose_result_was_dropped_has_its_winners_at_once(
    backend: BackendName, virtual: Virtual
) -> None:
    """In a group that is tried again, a `First` with `keep_result=False` runs again, but none of its winners do."""
    body, after = Broken(0), Broken(1)
    first = First(Job(body), Job(anyio.sleep, 9), keep_result=False)
    group = Scheduler(first, Job(after, first))
    assert virtual(
        Scheduler(
            group,
            on_job_settled=lambda job: job.try_again() if job.attempts == 1 else None,
        ).co_run
    )
    assert (body.calls, after.calls) == (1, 2)


def test_attempts_and_times_of_members_go_on_when_a_group_retries(
    backend: BackendName, virtual: Virtual
) -> None:
    """They began anew for the job, while its group, the trace and a job without a group went on to count."""
    job, trace = (
        Job(Broken(2), retry=Retry(1, first=4, jitter=False), label="job"),
        Trace(),
    )
    group = Scheduler(job, label="group")
    assert virtual(
        Scheduler(group, Job(later, 10, group.try_again), instruments=[trace]).co_run
    )
    assert (job.attempts, job.took, job.started_at, job.elapsed) == (3, 3, 0, 11)
    span = next(span for span in trace.spans if span.path == "group/job")
    assert (span.took, span.elapsed, span.started_at, span.attempts) == (
        3,
        11,
        0,
        (0, 5, 10),
    )
    assert [number for number, *_ in span.failed_attempts] == [1, 2]


@pytest.mark.parametrize(
    ("depth", "is_of_group"), [(1, False), (2, False), (1, True), (2, True)]
)
def test_instruments_of_an_inner_scheduler_hear_that_its_jobs_run_again(
    backend: BackendName, virtual: Virtual, depth: int, is_of_group: bool
) -> None:
    """When a scheduler around theirs is retried, they have no run, and heard of two ends without a reopening."""
    told = Told()
    job = Job(nap, label="a")
    inner = Scheduler(
        Scheduler(job) if is_of_group else job, label="inner", instruments=[told]
    )
    middle = Scheduler(inner, label="middle") if depth == 2 else inner
    outer = Scheduler(
        middle, Job(Broken(1, 2)), critical_jobs=True, retry=1, label="outer"
    )
    assert virtual(Scheduler(outer).co_run)
    assert [text for text in told.told if text.endswith(" a")] == [
        "finished a",
        "reopened a",
        "finished a",
    ]


class Told(Instrument):
    """An instrument that writes down which jobs have settled, and which are IDLE again."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def job_settled(self, scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        self.told.append(f"finished {job.label}")

    def job_reopened(self, scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        assert not job.is_settled()
        self.told.append(f"reopened {job.label}")


def test_views_of_an_inner_scheduler_bear_that_its_jobs_run_again(
    backend: BackendName,
    virtual: Virtual,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An instrument that raised would be removed, and the log would say so."""
    views = [
        Trace(),
        trioflow.Monitor(file=io.StringIO()),
        trioflow.Events(tmp_path / "events.jsonl"),
        trioflow.JUnit(tmp_path / "junit.xml"),
    ]
    inner = Scheduler(Job(nap, label="a"), label="inner", instruments=views)
    outer = Scheduler(
        inner, Job(Broken(1, 2)), critical_jobs=True, retry=1, label="outer"
    )
    assert virtual(Scheduler(outer).co_run)
    assert "raised in" not in caplog.text


@pytest.mark.parametrize("keep_result", [True, False])
@pytest.mark.parametrize("way", ["group", "job"])
def test_a_group_tried_again_repeats_clean_up_and_what_follows(
    virtual: Virtual, way: str, keep_result: bool
) -> None:
    """At any distance, whatever the way to require it; what has succeeded apart from it does not run again."""
    failing, fine = Job(Broken(2, 0), label="failing"), Job(nap, label="fine")
    clean = Job(
        nap, required=failing, run_if="failed", label="clean", keep_result=keep_result
    )
    report = Job(nap, clean, label="report")
    mail = Job(nap, required=[report, fine], label="mail")
    settled = Job(nap, label="settled").requires(clean, settled=True)
    jobs = [
        fine,
        failing,
        mail,
        report,
        clean,
        settled,
        Job(nap, required=fine, label="besides"),
    ]
    group = Scheduler(*jobs, label="group")

    async def again() -> None:
        await group.wait_settled()
        (group if way == "group" else failing).try_again()

    virtual(Scheduler(group, Job(again)).co_run)
    assert [job.label for job in jobs if job.attempts == 2] == [
        "failing",
        "mail",
        "report",
        "clean",
        "settled",
    ]
    assert all(job.is_succeeded() for job in jobs if job is not failing)
