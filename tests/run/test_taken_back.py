"""A job that has succeeded is tried again in the run in progress, with all that has taken its end into account."""

import contextlib
import functools
from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import First, Job, JobState, Journal, Retry, Scheduler, Service
from trioflow._core.run import _reopening
from trioflow._core.words import _run_view
from trioflow.abc import Instrument
from ..bodies import hooked, noted, running, serve
from ..conftest import BackendName, Virtual
from .tries import Broken, after, names, nap

pytestmark = pytest.mark.both_backends


Counting = functools.partial(Broken, 0)
"""A body that returns how often it was called, after some seconds."""


def told_ends(told: list[tuple[str, str]]) -> Instrument:
    """Return an instrument that writes down each end of a job, and that it was reopened."""
    return hooked(
        job_settled=lambda _, job: told.append((job.label, job.state.name)),
        job_reopened=lambda _, job: told.append((job.label, "reopened")),
    )


async def positive(number: int) -> int:
    await anyio.sleep(1)
    if number < 2:
        raise ValueError(number)
    return number


def test_what_has_used_a_wrong_result_runs_anew(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever became of it: failed, blocked, skipped, succeeded, waiting; what requires none of it stays as it is."""
    collect = Job(Counting(), label="collect")
    upload = Job(positive, collect, label="upload")
    announce = Job(nap, upload, label="announce")
    alarm = Job(nap, required=upload, run_if="failed", label="alarm")
    size = Job(Counting(), required=collect, label="size")
    other, long = Job(Counting(), label="other"), Job(anyio.sleep, 6, label="long")
    both = Job(nap, required=[collect, long], label="both")
    rescue = Job(nap, required=collect, run_if="failed", label="rescue")
    scheduler = Scheduler(
        collect, upload, announce, alarm, size, other, long, both, rescue
    )
    seen: list[str] = []
    mend = Job(
        after,
        4,
        lambda: (seen.append(names(scheduler)), collect.try_again()),
        label="mend",
    )
    scheduler.add(mend)
    assert virtual(scheduler.co_run)
    assert seen == ["SFBSSSRIXR"]
    assert names(scheduler) == "SSSXSSSSXS"
    assert [
        job.attempts for job in (collect, upload, announce, alarm, size, other, both)
    ] == [2, 2, 1, 1, 2, 1, 1]
    assert (upload.result(), size.result(), other.result()) == (2, 2, 1)
    assert (
        "tried again: 'collect' (it had succeeded), with 5 jobs that used it"
        in caplog.text
    )


def test_what_waits_leaves_the_line_until_its_requirement_has_ended_again(
    virtual: Virtual,
) -> None:
    started: list[str] = []
    collect, holder = (
        Job(Counting(), label="collect"),
        Job(anyio.sleep, 5, label="holder"),
    )
    waits = Job(noted, started, "waits", 2, required=collect, label="waits")
    mend = Job(
        after,
        1,
        lambda: started.append(waits.state.name),
        collect.try_again,
        label="mend",
        forever=True,
    )
    told: list[str] = []
    watch = hooked(
        job_scheduled=lambda _, job: told.extend(
            [f"scheduled at {anyio.current_time():.0f}"] * (job is waits)
        ),
        job_reopened=lambda _, job: told.extend(
            [f"reopened, {job.state.value}"] * (job is waits)
        ),
    )
    assert virtual(
        lambda: Scheduler(collect, holder, waits, mend, jobs_window=1).co_run(
            instruments=[watch]
        )
    )
    assert started == ["SCHEDULED", "waits"]
    assert told == ["scheduled at 1", "reopened, idle", "scheduled at 7"]
    assert (collect.attempts, waits.attempts, waits.started_at) == (2, 1, 7)


@pytest.mark.parametrize("backs_off", [False, True])
def test_what_runs_with_the_old_result_keeps_it_from_being_taken_back(
    virtual: Virtual, backs_off: bool
) -> None:
    collect = Job(Counting(), label="collect")
    upload = Job(Broken(1, 1 if backs_off else 9), collect, label="upload", retry=1)
    scheduler = Scheduler(collect, upload)
    problems: list[str] = []

    def ask() -> None:
        try:
            collect.try_again()
        except RuntimeError as error:
            problems.append(str(error))

    if backs_off:
        upload.retry = Retry(1, first=5, jitter=False)
    scheduler.add(Job(after, 3, ask, label="mend"))
    assert virtual(scheduler.co_run)
    if backs_off:
        assert (problems, collect.attempts, upload.attempts, upload.finished_at) == (
            [],
            2,
            2,
            5,
        )
    else:
        assert problems == [
            "try_again() of 'collect': what follows it is running: 'upload'; cancel() that first, or wait"
        ]
        assert collect.attempts == 1


def test_results_that_were_dropped_are_made_again(virtual: Virtual) -> None:
    """What a job needs that runs anew, and keep_result=False has dropped, is made again; its other users stay."""
    base = Job(Counting(), label="base", keep_result=False)
    load = Job(Counting(), base, label="load", keep_result=False)
    collect = Job(Counting(), label="collect")
    upload = Job(positive, collect, label="upload")
    merge = Job(nap, load, collect, label="merge")
    other = Job(Counting(), load, label="other")
    scheduler = Scheduler(base, load, collect, upload, merge, other)
    scheduler.add(Job(after, 5, collect.try_again, label="mend"))
    assert virtual(scheduler.co_run)
    assert [job.attempts for job in (base, load, collect, upload, merge, other)] == [
        2,
        2,
        2,
        2,
        2,
        1,
    ]


@pytest.mark.parametrize("is_needed", [False, True])
def test_a_group_that_is_tried_again_makes_a_dropped_result_that_is_needed(
    virtual: Virtual, is_needed: bool
) -> None:
    """A result that was dropped made its job run again in any case, though the group keeps what has succeeded."""
    base = Job(Counting(), label="base", keep_result=False)
    load = Job(Counting(), base, label="load", keep_result=False)
    other, broken = (
        Job(Counting(), load, label="other"),
        Job(Broken(1, 1), *[load] * is_needed, label="broken"),
    )
    group = Scheduler(base, load, other, broken, label="group")
    assert virtual(
        Scheduler(group, Job(after, 5, group.try_again, label="mend")).co_run
    )
    assert [job.attempts for job in (base, load, other, broken)] == [
        1 + is_needed,
        1 + is_needed,
        1,
        2,
    ]


def test_a_member_of_a_group_that_has_ended_runs_again_with_what_follows_it(
    virtual: Virtual,
) -> None:
    """The others that succeeded are kept, in groups at any depth; what requires the outermost group runs anew."""
    a, b, c = (Job(Counting(), label=label) for label in "abc")
    b.requires(a)
    x, y = Job(Counting(), label="x"), Job(Counting(), label="y")
    follows = Scheduler(y, label="follows")
    inner, beside = Scheduler(a, b, c, label="inner"), Job(Counting(), label="beside")
    follows.requires(inner)
    outer = Scheduler(inner, follows, beside, label="outer")
    user, before = (
        Scheduler(x, label="user", required=outer),
        Job(Counting(), label="before"),
    )
    assert virtual(
        Scheduler(outer, user, before, Job(after, 8, a.try_again, label="mend")).co_run
    )
    jobs = (a, b, c, y, beside, x, before)
    assert [job._args or job._function.calls for job in jobs] == [2, 2, 1, 2, 1, 2, 1]  # type: ignore[attr-defined]
    assert [job.attempts for job in (outer, inner, follows, user)] == [2, 2, 2, 2]


def test_a_group_that_succeeded_runs_again_whole(virtual: Virtual) -> None:
    a, b = Job(Counting(), label="a"), Job(Counting(), label="b")
    group, last = Scheduler(a, b, label="group"), Job(nap, label="last")
    last.requires(group)
    assert virtual(
        Scheduler(group, last, Job(after, 3, group.try_again, label="mend")).co_run
    )
    assert (a.result(), b.result(), last.attempts) == (2, 2, 2)


def test_a_winner_of_a_first_competes_again(virtual: Virtual) -> None:
    quick, slow = Job(Counting(1), label="quick"), Job(Counting(3), label="slow")
    first = First(quick, slow, label="first")
    user = Job(Counting(), first, label="user")
    group = Scheduler(
        user, label="group"
    )  # follows it because of an input of a job in it
    assert virtual(
        Scheduler(first, group, Job(after, 4, quick.try_again, label="mend")).co_run
    )
    assert (quick.result(), user.result(), slow.state) == (2, 2, JobState.CANCELLED)


def test_a_first_that_was_restored_as_a_whole_runs_anew_whole(
    virtual: Virtual, tmp_path: Path
) -> None:
    """Its winner was found in the journal with it, and was looked up again as the `First` ran."""
    quick = Job(Counting(), label="quick", key=1)
    first = First(quick, Job(Counting(3), label="slow", key=2), label="first")
    scheduler = Scheduler(first, journal=Journal(tmp_path / "j"))
    assert virtual(scheduler.co_run)
    scheduler.add(Job(after, 1, first.try_again, label="mend", save=None))
    assert virtual(scheduler.co_run)
    assert (quick.restored, first.result()) == (False, 2)


def test_a_callback_rejects_a_result(virtual: Virtual) -> None:
    """What requires the job has not begun yet, so it runs once, with the last result."""
    collect, seen = Job(Counting(), label="collect"), list[int]()
    upload = Job(Counting(), collect, label="upload")
    last = Job(nap, required=upload, label="last")

    def reject(job: Any) -> None:
        if job is collect:
            seen.append(job.result())
            if job.result() < 3:
                job.try_again()

    assert virtual(Scheduler(collect, upload, last, on_job_settled=reject).co_run)
    assert (seen, upload.attempts, last.finished_at) == ([1, 2, 3], 1, 5)


def test_a_success_is_taken_back_when_its_user_is_scheduled(
    virtual: Virtual, tmp_path: Path
) -> None:
    """The word was accepted, and came too late: the user ran with the old result."""
    path = tmp_path / "run.db"
    used = list[int]()

    async def use(result: int) -> None:
        used.append(result)

    def say(_: object, job: object) -> None:
        if job is user and make.attempts == 1:
            make.try_again()

    make = Job(Counting(), version=1)
    user = Job(use, make)
    scheduler = Scheduler(make, user)
    watch = hooked(job_scheduled=say)
    assert virtual(lambda: scheduler.co_run(journal=path, instruments=[watch]))
    assert (used, make.attempts) == ([2], 2)
    assert virtual(lambda: scheduler.co_run(journal=path))
    assert (used, make.restored) == ([2], True)


def test_a_success_is_taken_back_when_its_user_is_scheduled_for_another_try(
    virtual: Virtual, tmp_path: Path
) -> None:
    """The word was accepted, but had no effect: the user ran with the old result, which was in the journal no more."""
    path = tmp_path / "run.db"
    used = list[int]()

    async def use(result: int) -> None:
        used.append(result)
        if len(used) == 1:
            raise OSError

    def say(_: object, job: object) -> None:
        if job is user and len(used) == make.attempts == 1:
            make.try_again()

    make = Job(Counting(), version=1)
    user = Job(use, make)
    mend = Job(after, 5, lambda: user.try_again(), save=None)
    scheduler = Scheduler(make, user, mend)
    watch = hooked(job_scheduled=say)
    assert virtual(lambda: scheduler.co_run(journal=path, instruments=[watch]))
    assert (used, make.attempts) == ([1, 2], 2)
    scheduler.remove(mend)
    virtual(lambda: scheduler.co_run(journal=path))
    assert (used, make.restored) == ([1, 2], True)


def test_each_reader_is_told_each_end(virtual: Virtual) -> None:
    """Hooks hear each end, and that the jobs are reopened; an iterator yields only what has settled."""
    told: list[tuple[str, str]] = []
    collect = Job(Counting(), label="c")
    upload = Job(positive, collect, label="u")
    scheduler = Scheduler(collect, upload, Job(after, 3, collect.try_again, label="m"))
    yielded: list[tuple[str, str]] = []

    async def run() -> None:
        async with running(scheduler, instruments=[told_ends(told)]):
            async for job in scheduler.as_settled():
                yielded.append((job.label, job.state.name))

    virtual(run)
    assert not scheduler.failures()
    ends = [
        ("c", "SUCCEEDED"),
        ("u", "FAILED"),
        ("c", "reopened"),
        ("u", "reopened"),
        ("m", "SUCCEEDED"),
    ]
    ends += [("c", "SUCCEEDED"), ("u", "SUCCEEDED")]
    assert told == ends
    assert yielded == [end for end in ends if end[1] != "reopened"]


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("kind", ["plain", "group"])
def test_next_run_restores_the_later_success_alone(
    virtual: Virtual, tmp_path: Path, fails: bool, kind: str
) -> None:
    """What was taken back, and has not succeeded again, runs in the next run; no path counts as used twice."""
    calls: list[str] = []

    def make(mends: bool) -> tuple[Scheduler, Job[Any]]:
        async def collect() -> int:
            calls.append("collect")
            await anyio.sleep(1)
            if fails and calls.count("collect") == 2:
                raise OSError
            return calls.count("collect")

        async def upload(number: int) -> int:
            calls.append(f"upload {number}")
            return number

        first = Job(collect, label="collect", key=1)
        second = Job(upload, first, label="upload", key=2)
        kept = Job(nap, label="kept", key=3)
        jobs: list[Any] = [first, second, kept]
        members = [Scheduler(*jobs, label="group")] if kind == "group" else jobs
        scheduler = Scheduler(*members)
        if mends:
            scheduler.add(Job(after, 3, first.try_again, label="mend", save=None))
        return scheduler, second

    scheduler, second = make(mends=True)
    assert (
        virtual(lambda: scheduler.co_run(journal=Journal(tmp_path / "j"))) is not fails
    )
    assert calls == ["collect", "upload 1", "collect", "upload 2"][: 4 - fails]
    calls.clear()
    if fails:
        calls += ["collect", "collect"]
    scheduler, second = make(mends=False)
    assert virtual(lambda: scheduler.co_run(journal=Journal(tmp_path / "j")))
    assert calls[2 * fails :] == (["collect", "upload 3"] if fails else [])
    assert second.result() == (3 if fails else 2)


def test_what_cannot_be_taken_back_is_refused(virtual: Virtual) -> None:
    """What has run with a coroutine object, and what an open block or keep_jobs=False has released, are named."""
    problems: list[str] = []

    def ask(job: Any) -> None:
        try:
            job.try_again()
        except RuntimeError as error:
            problems.append(str(error).partition(": ")[2])

    a = Job(Counting(), label="a")
    once = Job(nap(), label="once", required=a)
    skipped = Job(nap, label="skipped", required=a, run_if="failed")
    scheduler = Scheduler(a, once, skipped)
    scheduler.add(Job(after, 3, lambda: ask(a), lambda: ask(skipped), label="mend"))
    assert virtual(scheduler.co_run)

    async def block() -> None:
        async with Scheduler(label="open") as scheduler:
            job = scheduler.add(Job(nap, label="j"))
            await job
            ask(job)
            failed = Job(Broken(1), label="failed")
            group = scheduler.add(Scheduler(failed, label="group"))
            with contextlib.suppress(Exception):
                await failed
            await group
            ask(failed)

    virtual(block)
    assert problems == [
        "the coroutine object of 'once' can run only once; give Job the async function",
        "it is skipped, and was not needed; try again what it requires",
        kept
        := "'open' keeps nothing that has succeeded to run it again; add another job",
        f"it is in 'group', of which try_again() says: {kept}",
    ]


def test_a_kept_member_waits_for_what_its_group_runs_again(virtual: Virtual) -> None:
    """It was linked to nothing as the group was tried again, because it had succeeded."""
    slow = Job(Broken(1, 3), label="slow", critical=False)
    user = Job(nap, label="user").requires(slow, settled=True)
    group = Scheduler(slow, user, Job(Broken(1, 1), label="fails"), label="group")
    scheduler = Scheduler(group, Job(after, 6, group.try_again, label="mend"))
    scheduler.add(Job(after, 7, user.try_again, label="mend more"))
    assert virtual(scheduler.co_run)
    assert (slow.finished_at, user.attempts, user.finished_at) == (9, 2, 10)


def test_what_waits_has_not_waited_for_a_failure_that_was_tried_again(
    virtual: Virtual,
) -> None:
    collect, broken = (
        Job(Counting(), label="collect"),
        Job(Broken(1, 4), label="broken"),
    )
    busy, last = (
        Job(anyio.sleep, 20, label="busy"),
        Job(nap, required=collect, label="last"),
    )
    last.requires(broken, settled=True)
    scheduler = Scheduler(collect, broken, busy, last, jobs_window=1)
    scheduler.add(
        Job(after, 8, broken.try_again, collect.try_again, label="mend", forever=True)
    )
    assert virtual(scheduler.co_run)
    assert (last.attempts, last.started_at) == (1, 30)


@pytest.mark.parametrize("end", ["", "drain", "cancel"])
def test_many_go_back_in_one_step_and_none_starts_with_the_old_result(
    backend: BackendName, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """Nor what is added after the word, or waits for something else, nor if the run is ended after it."""
    monkeypatch.setattr(_reopening, "CHUNK_SECONDS", 1e-5)
    used: list[int] = []

    async def use(*_: Any) -> None:
        used.append(collect.result())

    async def mend() -> None:
        for user in users:
            await user.wait_settled()
        collect.try_again()
        assert not any(user.is_settled() for user in users)
        gate.set()
        scheduler.add(Job(use, required=users[-1]))
        if end:
            getattr(scheduler, end)()

    gate = anyio.Event()
    collect = Job(Counting(0), label="collect")
    users = [Job(use, required=collect) for _ in range(500)]
    passes = Job(gate.wait)
    late = Job(use, required=[users[-1], passes])
    alarm = Job(use, required=[users[-1], passes], run_if="failed")
    scheduler = Scheduler(collect, *users, passes, late, alarm, Job(mend))
    told: list[JobState] = []
    watch = hooked(
        job_settled=lambda _, job: told.extend([collect.state] * (job is alarm))
    )
    assert scheduler.run(backend=backend, instruments=[watch]) is not bool(end)
    assert used == [1] * 500 + [2] * 502 * (not end)
    assert told == [JobState.SUCCEEDED] * (not end)
    assert all(job.attempts == 2 or not job.is_succeeded() for job in (collect, *users))


def test_what_runs_with_the_old_result_is_cancelled_for_it_in_one_step(
    virtual: Virtual,
) -> None:
    async def insist() -> None:
        with contextlib.suppress(anyio.get_cancelled_exc_class()):
            await anyio.sleep(9)

    collect = Job(Counting(), label="collect")
    upload, stubborn = (
        Job(Counting(9), collect, label="upload"),
        Job(insist, label="stubborn", required=collect),
    )
    service, member = (
        Service(serve, 1, label="service", required=collect),
        Job(Counting(9), label="member"),
    )
    group = Scheduler(member, label="group", required=service)
    last, alone = (
        Job(nap, required=[upload, group, stubborn], label="last"),
        Job(Counting(9), collect, label="alone"),
    )
    told: list[tuple[str, str]] = []
    scheduler = Scheduler(
        collect,
        upload,
        stubborn,
        service,
        group,
        last,
        alone,
        instruments=[told_ends(told)],
    )
    scheduler.add(
        Job(
            after, 4, lambda: _run_view.try_again([collect], cancels=True), label="mend"
        )
    )
    assert virtual(scheduler.co_run)
    attempts = [
        job.attempts for job in (collect, upload, stubborn, service, group, alone, last)
    ]
    assert (attempts, member._function.calls, last.finished_at) == (
        [2] * 6 + [1],
        2,
        16,
    )  # type: ignore[attr-defined]
    for label in ("upload", "stubborn", "service", "group", "alone"):
        words = [word for job, word in told if job == label]
        assert words == [
            "SUCCEEDED" if label == "stubborn" else "CANCELLED",
            "reopened",
            "SUCCEEDED",
        ]


@pytest.mark.parametrize("has_begun", [False, True])
def test_a_group_runs_anew_whole_if_it_has_used_the_result(
    virtual: Virtual, tmp_path: Path, has_begun: bool
) -> None:
    """So does one that waits for its next attempt. One that had not begun keeps later what has succeeded in it."""
    collect, slow = (
        Job(Counting(), label="collect", key=1),
        Job(anyio.sleep, 5, label="slow"),
    )
    part, broken = Job(Counting(), label="part", key=2), Job(Broken(1), label="broken")
    group = Scheduler(part, broken, label="group", required=collect)
    if has_begun:
        group.retry = Retry(1, first=5, jitter=False)
    else:
        group.requires(slow)
    scheduler = Scheduler(
        collect, slow, group, Job(after, 3, collect.try_again, label="mend")
    )
    scheduler.add(Job(after, 7, lambda: has_begun or group.try_again(), label="again"))
    assert virtual(lambda: scheduler.co_run(journal=Journal(tmp_path / "j")))
    assert (collect.attempts, part.result(), broken.result()) == (2, 1 + has_begun, 2)


@pytest.mark.parametrize("both_at_once", [False, True])
def test_two_members_of_a_group_that_has_ended_run_again(
    virtual: Virtual, both_at_once: bool
) -> None:
    a, b, kept = (Job(Counting(), label=label) for label in ("a", "b", "kept"))
    scheduler = Scheduler(Scheduler(a, b, kept, label="group"))

    def mend() -> None:
        if both_at_once:
            _run_view.try_again([a, b])
        else:
            a.try_again()
            b.try_again()

    def job_settled(scheduler: Any, job: Any) -> None:
        if job.label == "group" and job.attempts == 1:
            mend()

    assert virtual(
        lambda: scheduler.co_run(instruments=[hooked(job_settled=job_settled)])
    )
    assert (a.result(), b.result(), kept.result()) == (2, 2, 1)


def test_members_of_a_group_are_taken_back_one_after_the_other_while_it_waits(
    virtual: Virtual,
) -> None:
    """A failure in it, too. What has not ended in it is refused, with the reason."""
    a, b, kept = (Job(Counting(), label=label) for label in ("a", "b", "kept"))
    broken, blocked = Job(Broken(1), label="broken"), Job(nap, label="blocked")
    blocked.requires(broken)
    group = Scheduler(a, b, kept, broken, blocked, label="group")
    user = Job(nap, b, label="user")
    scheduler = Scheduler(group, user, label="s")
    seen: list[str] = []

    def mend() -> None:
        scheduler.pause()
        for job in (a, b, broken):
            job.try_again()
        seen.append(names(group) + user.state.name)
        with pytest.raises(
            RuntimeError,
            match="'group' has not begun in the run of 's', or waits for another attempt",
        ):
            a.try_again()
        scheduler.resume()

    scheduler.add(Job(after, 5, mend, label="mend"))
    assert virtual(scheduler.co_run)
    assert seen == ["IISIBIDLE"]
    assert [job.attempts for job in (a, b, kept, broken, blocked, user)] == [
        2,
        2,
        1,
        2,
        1,
        2,
    ]


@pytest.mark.parametrize("how", ["retry", "again"])
def test_what_a_job_has_done_counts_on_if_its_group_runs_again(
    virtual: Virtual, how: str
) -> None:
    job, fails = (
        Job(Counting(), label="job"),
        Job(Broken(how == "retry"), label="fails"),
    )
    fails.requires(job)
    group = Scheduler(job, fails, label="group", retry=1)
    scheduler = Scheduler(
        group, Job(after, 5, lambda: how == "retry" or group.try_again(), label="mend")
    )
    assert virtual(scheduler.co_run)
    assert (job.attempts, job.took, job.started_at, job.result()) == (2, 2, 0, 2)


@pytest.mark.parametrize("way", ["await", "wait_settled", "as_settled"])
def test_who_waits_sees_an_end_although_the_group_retries_at_once(
    virtual: Virtual, way: str
) -> None:
    calls: list[int] = []
    seen: list[Any] = []

    async def first_is_short() -> int:
        calls.append(1)
        await anyio.sleep(1 if len(calls) == 1 else 60)
        return len(calls)

    async def watch() -> None:
        if way == "await":
            seen.append(await job)
        elif way == "wait_settled":
            await job.wait_settled()
            seen.append(job.result())
        else:
            async for each in group.as_settled():
                seen.append(each.result())
                break

    job = Job(first_is_short, label="job")
    fails = Job(Broken(1, 0), label="fails", required=job)
    group = Scheduler(job, fails, label="group", retry=1)
    assert virtual(Scheduler(group, watching := Job(watch, label="watch")).co_run)
    assert (seen, watching.finished_at) == ([1], 1)


def test_an_order_is_no_use(virtual: Virtual) -> None:
    """What has run behind a job for the order alone stays; what waits, or was decided by it, waits for the next end."""
    a = Job(Broken(0), label="a")
    ran, skipped, waits, slow = (
        Job(nap, label=label) for label in ("ran", "skipped", "waits", "slow")
    )
    for job in (ran, skipped, waits):
        job.requires(a, order_only=True)
    skipped.run_if = "failed"
    slow._function = functools.partial(anyio.sleep, 9)  # type: ignore[attr-defined]
    waits.requires(slow)
    scheduler = Scheduler(
        a, ran, skipped, waits, slow, Job(after, 8.5, a.try_again, label="mend")
    )
    assert virtual(scheduler.co_run)
    assert (a.attempts, ran.attempts, skipped.state, waits.started_at) == (
        2,
        1,
        JobState.SKIPPED,
        9.5,
    )


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("asked", ["member", "group"])
def test_the_log_names_what_was_asked_for(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, asked: str, fails: bool
) -> None:
    """It named the group that runs again for the sake of a member. What has only waited has not used the result."""
    member, beside = (
        Job(Broken(int(fails)), label="member"),
        Job(Counting(), label="beside"),
    )
    group = Scheduler(member, beside, label="group", critical=False)
    used, waits = (
        Job(nap, required=group, label="used"),
        Job(nap, required=group, label="waits"),
    )
    waits.requires(Job(anyio.sleep, 9, label="long"))
    jobs = {"member": member, "group": group}
    scheduler = Scheduler(group, used, waits, waits.required, label="root")
    scheduler.add(Job(after, 5, jobs[asked].try_again, label="mend"))
    assert virtual(scheduler.co_run)
    (text,) = [
        message for message in caplog.messages if message.startswith("tried again")
    ]
    reason = "OSError: disk full" if fails else "it had succeeded"
    users = "" if fails else ", with 1 job that used it"
    assert text.startswith(f"tried again: {asked!r} ({reason})")
    assert text.endswith(users)
    assert [
        incident.job for incident in scheduler._incidents if incident.is_steering
    ] == [jobs[asked]]


def test_the_retry_of_what_waits_for_a_success_again_begins_anew(
    virtual: Virtual,
) -> None:
    """In its backoff it leaves the line; then it has as many attempts as a job that has not begun."""
    first = Job(Counting(), label="first")
    broken = Broken(9)
    retry = Retry(1, first=5, jitter=False)
    flaky = Job(broken, retry=retry, label="flaky", required=first)
    scheduler = Scheduler(first, flaky, Job(after, 3, first.try_again), log=False)
    assert not virtual(scheduler.co_run)
    assert (broken.calls, flaky.attempts) == (3, 3)


def test_in_a_clean_up_no_success_is_taken_back(virtual: Virtual) -> None:
    """The group that cleans up goes on, but the run around it stops."""
    said: list[str] = []

    def ask() -> None:
        with pytest.raises(RuntimeError) as caught:
            tidy.try_again()
        said.append(str(caught.value))

    bad = Job(Broken(1), critical=True)
    tidy = Job(Counting(), label="tidy")
    group = Scheduler(tidy, Job(after, 2, ask), run_if="failed", required=bad)
    scheduler = Scheduler(bad, group, label="outer", log=False)
    assert not virtual(scheduler.co_run)
    assert (said, tidy.attempts) == (["try_again() of 'tidy': 'outer' is stopping"], 1)


@pytest.mark.parametrize("how", ["drain", "cancel"])
def test_what_a_hook_takes_back_stays_so_if_the_run_ends(
    virtual: Virtual, how: str
) -> None:
    def job_settled(_: Any, job: Any) -> None:
        if job is first:
            first.try_again()
            getattr(scheduler, how)()

    first = Job(Counting(), label="first")
    scheduler = Scheduler(first, Job(nap, first), Job(anyio.sleep, 5))
    hooks = hooked(job_settled=job_settled)
    assert not virtual(lambda: scheduler.co_run(instruments=[hooks]))
    assert names(scheduler)[:2] == "II"
