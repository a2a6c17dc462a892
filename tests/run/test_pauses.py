"""`pause()`, `resume()` and a new `jobs_window` during a run, on virtual time: what starts when, and what goes on."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal
import anyio
import pytest
from trioflow import (
    Budget,
    First,
    Job,
    JobState,
    JobTimeout,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Service,
    StopReason,
)
from trioflow._core.run._steering import MAX_RECORDED
from trioflow._core.words._run_view import run_steering
from trioflow.abc import WaitCause, current_run, waiting
from ..bodies import at_once, fail, later, nap, noted, nothing, running, serve
from ..conftest import Virtual


async def at(when: float, *steps: Callable[[], object]) -> None:
    await anyio.sleep(when)
    for step in steps:
        step()
        await anyio.sleep(1)


def steered(virtual: Virtual, scheduler: Scheduler, **calls: float) -> None:
    for name, when in calls.items():
        scheduler.add(Job(at, when, getattr(scheduler, name), forever=True, label=name))
    virtual(scheduler.co_run)


WINDOWS: dict[str, Callable[[], dict[str, Any]]] = {
    "no window": dict,
    "a window": lambda: {"jobs_window": 2},
    "a limiter": lambda: {"jobs_window": anyio.CapacityLimiter(2)},
    "a pool": lambda: {"pool": Pool(cpu=2)},
    "a policy": lambda: {"policy": "critical-path", "jobs_window": 2},
}


@pytest.mark.parametrize("window", WINDOWS)
def test_nothing_starts_in_a_pause_and_what_runs_goes_on(
    virtual: Virtual, window: str
) -> None:
    """From `pause()` to `resume()` no job starts, whatever limits there are; afterwards the order is as before."""

    async def main() -> None:
        needs = {"cpu": 1} if window == "a pool" else None
        jobs = [
            Job(nap, 2, needs=needs, expected_duration=9 - number)
            for number in range(6)
        ]
        follower = Job(nap, 1, required=jobs[0], needs=needs, expected_duration=1)
        scheduler = Scheduler(jobs, follower, **WINDOWS[window]())
        scheduler.add(Job(at, 1, scheduler.pause, forever=True, needs=None))
        scheduler.add(Job(at, 5.5, scheduler.resume, forever=True))
        assert await scheduler.co_run()
        found = [*(job.started_at for job in jobs), follower.started_at]
        if window == "no window":
            assert found == [0] * 6 + [5.5]
        else:
            assert found == [0, 0, 5.5, 5.5, 7.5, 7.5, 9.5]
            assert [job.finished_at for job in jobs[:2]] == [2, 2]

    virtual(main)


@pytest.mark.parametrize("window", [1, 2, 3])
def test_what_a_pause_takes_back_comes_before_all_that_waited(
    virtual: Virtual, window: int
) -> None:
    """Jobs that had slots when the first one paused the run, and had not begun, have kept their places."""
    order: list[str] = []

    async def body(name: str) -> None:
        order.append(name)
        if name == "a":
            scheduler.pause()
            await nap(1)
            scheduler.resume()
        await nap(1)

    scheduler = Scheduler([Job(body, name) for name in "abcdef"], jobs_window=window)
    assert virtual(scheduler.co_run)
    assert order == [*"abcdef"]


def test_a_pause_holds_for_all_that_is_nested(virtual: Virtual) -> None:
    """A pause holds at any depth, for forever jobs and for jobs that are added; a paused group stays so."""
    inner = Scheduler(Job(nap, 2), Job(nap, 1, label="x"), jobs_window=1, label="inner")
    outer = Scheduler(inner, label="outer")
    added = Job(nap, 1)
    seen: list[tuple[bool, bool]] = []

    def look() -> None:
        seen.append((outer.is_paused(), inner.is_paused()))

    first, second = inner
    steps = [
        look,
        outer.pause,
        look,
        lambda: outer.add(added),
        inner.pause,
        outer.resume,
        look,
        inner.resume,
        look,
    ]
    outer.add(Job(at, 0.5, *steps))
    assert virtual(outer.co_run)
    assert seen == [(False, False), (True, True), (False, True), (False, False)]
    assert (first.finished_at, added.started_at, second.started_at) == (2, 5.5, 7.5)


def test_all_groups_of_a_run_go_on_when_it_is_resumed(virtual: Virtual) -> None:
    lasts = [Job(nap, 1) for _ in range(4)]
    scheduler = Scheduler(
        [Scheduler(Job(nap, 1), last, jobs_window=1) for last in lasts], Job(nap, 9)
    )
    scheduler.add(Job(at, 0.5, scheduler.pause, lambda: None, scheduler.resume))
    assert virtual(scheduler.co_run)
    assert [last.started_at for last in lasts] == [2.5] * 4


def test_what_waits_in_a_pause_holds_nothing(virtual: Virtual) -> None:
    """Admitted jobs that have not begun give back slots, needs and amounts: another run takes them meanwhile."""

    async def main() -> None:
        pool = Pool(cpu=1, usd=Budget(10), api=Rate(requests=1, per=100))
        needs: Any = {"cpu": 1, "usd": 5, "api": 1}
        job = Job(nap, 1, needs=needs)
        one = Scheduler(Job(at_once, lambda: one.pause()), job, pool=pool, label="one")
        other = Scheduler(Job(nap, 1, needs=needs), pool=pool)
        async with running(one, 1):
            assert (pool.free["cpu"], pool.free["usd"], pool.free["api"]) == (
                1,
                10,
                {"requests": 1},
            )
            assert await other.co_run()
            assert job.is_scheduled()
            one.resume()
        assert job.is_succeeded()

    virtual(main)


def test_what_waits_for_a_token_in_a_pause_keeps_its_place(virtual: Virtual) -> None:
    """With a limiter, a job that has taken amounts and one that needs none start in the order in which they were."""

    async def main() -> None:
        jobs = [
            Job(nap, 1, needs=needs)
            for needs in (None, {"usd": 2}, None, {"usd": 1}, None)
        ]
        scheduler = Scheduler(
            jobs, jobs_window=anyio.CapacityLimiter(1), pool=Pool(usd=Budget(9))
        )
        scheduler.add(
            Job(at, 0.5, scheduler.pause, nothing_now, scheduler.resume, forever=True)
        )
        assert await scheduler.co_run()
        assert [job.started_at for job in jobs] == [0, 2.5, 3.5, 4.5, 5.5]

    virtual(main)


@pytest.mark.sampled
@pytest.mark.parametrize("needy", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("tokens", [1, 2, 3])
@pytest.mark.parametrize(
    ("order", "are_taken"),
    [("0101", 0), ("1010", 0), ("1100", 0), ("0011", 0), ("1010", 1)],
)
def test_after_a_pause_runs_get_tokens_in_the_order_in_which_their_jobs_became_ready(
    virtual: Virtual, order: str, are_taken: bool, tokens: int, needy: tuple[int, ...]
) -> None:
    """Jobs of a run and of one in it that become ready in a pause get tokens in this order, free ones or later ones."""

    async def main() -> None:
        limiter, borrowers = (
            anyio.CapacityLimiter(tokens),
            [object() for _ in range(tokens * are_taken)],
        )
        jobs: list[Job[None]] = []

        async def add() -> None:
            for borrower in borrowers:
                await limiter.acquire_on_behalf_of(borrower)
            outer.pause()
            for home in map(int, order):
                await anyio.sleep(1)
                jobs.append(Job(nap, 1, needs={"cpu": 1} if home in needy else None))
                (outer, inner)[home].add(jobs[-1])
            outer.resume()
            await anyio.sleep(1)
            for borrower in borrowers:
                limiter.release_on_behalf_of(borrower)

        inner = Scheduler(Job(anyio.sleep_forever, forever=True))
        outer = Scheduler(
            inner, Job(add, forever=True), jobs_window=limiter, pool=Pool(cpu=9)
        )
        assert await outer.co_run()
        assert [job.started_at for job in jobs] == [
            4 + are_taken + number // tokens for number in range(4)
        ]

    virtual(main)


@pytest.mark.parametrize("priorities", [(0, 5), (5, 0), (-1, 0), (0, 0)])
def test_after_a_pause_the_token_goes_to_the_higher_priority(
    virtual: Virtual, priorities: tuple[int, int]
) -> None:
    async def main() -> None:
        jobs = [Job(nap, 1, priority=priority) for priority in priorities]
        groups = [Scheduler(job) for job in jobs]
        scheduler = Scheduler(Job(nap, 2), groups, jobs_window=anyio.CapacityLimiter(1))
        scheduler.add(
            Job(at, 1, scheduler.pause, nothing_now, scheduler.resume, forever=True)
        )
        assert await scheduler.co_run()
        first = priorities[1] > priorities[0]
        assert (jobs[first].started_at, jobs[not first].started_at) == (3, 4)

    virtual(main)


def test_after_a_pause_a_job_without_a_token_passes_none_that_gets_one(
    virtual: Virtual,
) -> None:
    started: list[int] = []

    async def add() -> None:
        scheduler.pause()
        for number in range(3):
            scheduler.add(Job(noted, started, number, forever=number == 1))
        scheduler.resume()

    scheduler = Scheduler(Job(add, forever=True), jobs_window=anyio.CapacityLimiter(2))
    assert virtual(scheduler.co_run)
    assert started == [0, 1, 2]


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("drain", StopReason.DRAINED),
        ("cancel", StopReason.CANCELLED),
        ("timeout", StopReason.TIMEOUT),
    ],
)
def test_a_paused_run_ends_as_any(
    virtual: Virtual, end: str, reason: StopReason
) -> None:
    service, first = Service(serve), Job(nap, 1)
    late = Job(nap, 1, required=first)
    scheduler = Scheduler(
        service, Job(nap, 3, required=service), first, late, timeout=9, log=False
    )
    steered(virtual, scheduler, pause=0.5, **({} if end == "timeout" else {end: 2}))
    assert scheduler.stop_reason is reason
    assert not scheduler.is_paused()
    assert late.state is JobState.CANCELLED
    assert service.is_succeeded()


def test_a_clean_up_is_not_paused(virtual: Virtual) -> None:
    bad = Job(fail, 2, critical=True)
    alarm = Job(nap, 1, required=bad, run_if="failed")
    scheduler = Scheduler(bad, alarm, log=False)
    steered(virtual, scheduler, pause=1)
    assert (scheduler.stop_reason, alarm.started_at) == (StopReason.CRITICAL, 2)


@pytest.mark.parametrize("kind", [Scheduler, First])
@pytest.mark.parametrize(
    "hindrance", ["a pause", "a pause around", "no token", "no needs"]
)
def test_nothing_holds_back_a_group_that_cleans_up(
    virtual: Virtual, hindrance: str, kind: type[Scheduler]
) -> None:
    async def main() -> None:
        limiter = anyio.CapacityLimiter(2)
        inside = (
            Job(nap, 1, needs={"cpu": 1})
            if hindrance == "no needs" and kind is Scheduler
            else Job(nap, 1)
        )
        needs = {"cpu": 1} if hindrance == "no needs" else {}
        bad = Job(fail, 2, critical=True)
        tidy = kind(inside, required=bad, run_if="failed", needs=needs, label="tidy")
        group = Scheduler(bad, tidy, critical=False, label="group")
        other = Job(nap, 9, needs={"cpu": 1}, label="other")
        scheduler = Scheduler(
            group, other, jobs_window=limiter, pool=Pool(cpu=1), log=False
        )
        async with running(scheduler, 1):
            if hindrance.startswith("a pause"):
                (scheduler if hindrance == "a pause around" else group).pause()
            elif hindrance == "no token":
                limiter.total_tokens = 1  # `other` has it
            await anyio.sleep(2.5)
            assert (inside.started_at, inside.state, tidy.state) == (
                2,
                JobState.SUCCEEDED,
                JobState.SUCCEEDED,
            )

    virtual(main)


def test_timeouts_backoffs_and_rates_count_on_in_a_pause(virtual: Virtual) -> None:
    slow = Job(nap, 9, timeout=2, critical=False)
    again = Job(fail, 0.5, retry=Retry(1, first=1, jitter=False), critical=False)
    paid = [Job(nothing, needs={"api": 1}) for _ in range(2)]
    scheduler = Scheduler(
        slow, again, paid, pool=Pool(api=Rate(requests=1, per=4, burst=1)), log=False
    )
    steered(virtual, scheduler, pause=1, resume=5)
    assert isinstance(slow.raised_exception(), JobTimeout)
    assert (slow.finished_at, again.finished_at) == (2, 5.5)
    assert [job.started_at for job in paid] == [0, 5]


def test_the_turns_of_a_first_wait_for_resume(virtual: Virtual) -> None:
    first = First(Job(nap, 9), Job(nap, 1), stagger=2)
    steered(virtual, Scheduler(first), pause=1, resume=6)
    assert [job.started_at for job in first] == [0, 6]


def test_a_pause_is_no_standstill_and_is_named(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """A paused run waits as long as it takes; the log, `explain`, `waiting` and the view of the run say since when."""
    job = Job(nap, 1, label="job", required=Job(nap, 1))
    scheduler = Scheduler(job, job.required)
    said: list[object] = []

    async def main() -> None:
        async with running(scheduler, 0.5):
            scheduler.pause()
            await anyio.sleep(100)
            wait, view = waiting(job), current_run(scheduler)
            assert wait is not None
            assert view is not None
            since, _ = run_steering(scheduler).pauses[0]
            said.extend(
                [wait.cause, wait.text, view.pause_text, scheduler.explain(job), since]
            )
            scheduler.resume()
            said.append((view.pause_text, run_steering(scheduler).pauses))

    virtual(main)
    text = "paused 1 min 40 s ago"
    waits = f"'job' waits for a resume: its run was {text}"
    assert said == [WaitCause.PAUSE, text, text, waits, 0.5, ("", ((0.5, 100.5),))]
    assert caplog.messages == [
        "no job of 'Scheduler' runs: 'job' waits for a resume: its run was paused 1.5 s ago"
    ]


def test_pause_beside_the_rate_of_another_run_is_named_once(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    pool, need = Pool(api=Rate(requests=1, per=2)), {"api": {"requests": 1}}
    busy = Scheduler([Job(nap, 1, needs=need) for _ in range(8)], pool=pool)
    retried = Job(fail, 0.5, critical=False, retry=Retry(1, first=99), log=False)
    paused = Scheduler(
        Job(nap, 1, needs=need, label="job"), retried, pool=pool, label="paused"
    )

    async def main() -> None:
        async with running(busy) as tasks:
            tasks.start_soon(paused.co_run)
            await anyio.sleep(1)
            paused.pause()
            await anyio.sleep(4)
            said.extend(caplog.messages)
            await anyio.sleep(20)
            said.extend(caplog.messages[1:])
            paused.resume()

    said: list[str] = []
    virtual(main)
    assert len(said) == 1
    assert said[0].startswith(
        "no job of 'paused' runs: 'job' waits for a resume: its run was paused "
    )


def test_a_groups_pause_is_named_before_what_waits_for_it(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    group = Scheduler(
        Job(nap, 1, needs={"cpu": 1}, label="job"), needs={"cpu": 1}, label="group"
    )
    group.add(Job(nap, 1, needs={"cpu": 1}, label="paused"))
    other, pause = (
        Job(nap, 1, needs={"cpu": 1}, label="other"),
        Job(later, 0.5, group.pause, label="pause"),
    )
    virtual(
        Scheduler(group, other, pause, pool=Pool(cpu=1), timeout=9, label="s").co_run
    )
    assert (
        caplog.messages[0]
        == "no job of 's' runs: 'paused' waits for a resume: its run was paused 1.5 s ago"
    )


def test_of_two_pauses_the_inner_one_is_named(virtual: Virtual) -> None:
    """That of the group itself, whichever came first; after its end, the pause around it."""
    inside = Job(nap, 1, label="inside", required=Job(nap, 0.5))
    outside = Job(nap, 1, label="outside", required=Job(nap, 1.5))
    group = Scheduler(inside.required, inside, label="group")
    scheduler = Scheduler(group, outside.required, outside)
    said: list[str] = []

    async def steer() -> None:
        await anyio.sleep(0.25)
        for steps in (
            "group.pause",
            "scheduler.pause",
            "group.resume group.pause",
            "group.resume",
            "scheduler.resume",
        ):
            for step in steps.split():
                home, word = step.split(".")
                getattr(group if home == "group" else scheduler, word)()
            await anyio.sleep(1)
            said.append(
                " | ".join(
                    wait.text if (wait := waiting(job)) else ""
                    for job in (inside, outside)
                )
            )

    scheduler.update([Job(steer, forever=True), Job(nap, 6)])
    virtual(scheduler.co_run)
    assert said == [
        "paused 1 s ago | ", "paused 2 s ago | paused 1 s ago", "paused 1 s ago | paused 2 s ago",
        "paused 3 s ago | paused 3 s ago", " | ",
    ]  # fmt: skip


def test_resume_while_a_run_ends_lets_its_forever_groups_go_on(
    virtual: Virtual,
) -> None:
    """They are alive during the clean-up, and had taken the pause of the run."""
    waits = Job(nap, 1, required=Job(nap, 2))
    failing = Job(fail, 3, critical=True)
    cleans_up = Job(
        at,
        1,
        lambda: scheduler.resume(),
        lambda: None,
        lambda: None,
        required=failing,
        run_if="failed",
    )
    scheduler = Scheduler(
        Scheduler(waits.required, waits, Job(nap, 50), forever=True), failing, cleans_up
    )
    steered(virtual, scheduler, pause=1)
    assert waits.started_at == 4


def test_a_timeout_in_a_pause_names_the_pause(virtual: Virtual) -> None:
    group = Scheduler(
        Job(nap, 1),
        Job(nap, 3),
        jobs_window=1,
        timeout=4,
        label="group",
        critical=False,
    )
    scheduler = Scheduler(
        group, Job(nap, 1, required=Job(nap, 2, label="first")), timeout=9, label="s"
    )
    scheduler.update(
        [*list(scheduler)[1].required, pause := Job(later, 0.5, scheduler.pause)]
    )
    with pytest.raises(JobTimeout, match="of 9 s; 1 of 4 jobs waited for a resume"):
        virtual(lambda: scheduler.co_run(check=True))
    assert pause.state is JobState.SUCCEEDED
    assert str(group.raised_exception()).endswith(
        "of 4 s; 1 of 2 jobs waited for a resume"
    )


def test_pause_outside_of_a_run_is_an_error(virtual: Virtual) -> None:
    scheduler = Scheduler(Job(nap, 1), label="home")
    for call in (scheduler.pause, scheduler.resume):
        with pytest.raises(RuntimeError, match=r"'home': it is not running"):
            call()
    steered(virtual, scheduler, resume=0.1, pause=0.2)
    assert not scheduler.is_paused()
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(scheduler.pause).exception() is None


def test_a_pause_from_another_thread(virtual: Virtual) -> None:
    job = Job(nap, 1, required=Job(nap, 1))
    scheduler = Scheduler(job, job.required)

    with ThreadPoolExecutor(1) as threads:
        words = [
            lambda call=call: threads.submit(call).result()
            for call in (scheduler.pause, scheduler.resume)
        ]  # type: ignore[misc]
        scheduler.add(Job(at, 0.5, words[0], nothing_now, nothing_now, words[1]))
        assert virtual(scheduler.co_run)
    assert job.started_at == 3.5


@pytest.mark.parametrize("word", ["pause", "resume", "drain"])
def test_a_word_from_another_thread_means_the_attempt_in_which_it_is_heard(
    virtual: Virtual, word: str
) -> None:
    async def fail_once() -> None:
        if group.attempts == 1:
            if word == "resume":
                group.pause()
            with ThreadPoolExecutor(1) as threads:
                threads.submit(getattr(group, word)).result()
            raise OSError

    group = Scheduler(
        Job(fail_once, critical=True),
        label="group",
        retry=Retry(1, first=1),
        critical=False,
    )
    seen = []
    watch = Job(
        at,
        0.5,
        lambda: seen.append(group.is_paused()),
        nothing_now,
        lambda: group.resume() if seen[0] else None,
    )
    virtual(Scheduler(group, watch).co_run)
    assert seen == [word == "pause"]
    assert (group.attempts, group.state) == (
        (1, JobState.CANCELLED) if word == "drain" else (2, JobState.SUCCEEDED)
    )


@pytest.mark.both_backends
@pytest.mark.parametrize("in_thread", [False, True])
def test_a_group_that_has_settled_is_resumed_before_it_is_tried_again(
    virtual: Virtual, in_thread: bool
) -> None:
    """Its pause lasts for the whole run, so whoever has paused it can end that, whatever became of it."""

    def resume() -> None:
        if in_thread:
            with ThreadPoolExecutor(1) as threads:
                threads.submit(group.resume).result()
        else:
            group.resume()

    job = Job(nap, 1.5)
    group = Scheduler(job)
    words = [group.pause, resume, group.try_again]
    assert virtual(Scheduler(group, Job(at, 1, *words), timeout=50).co_run)
    assert (job.attempts, job.finished_at) == (2, 4.5)


def nothing_now() -> None:
    """Let a second pass."""


# --- windows
@pytest.mark.parametrize("kind", ["plain", "needs", "policy"])
def test_a_new_window_takes_effect_at_once(virtual: Virtual, kind: str) -> None:
    """A larger window starts more jobs at once; with a smaller one nothing starts until enough have ended."""
    needs = {"cpu": 1} if kind == "needs" else None
    jobs = [
        Job(nap, 2, needs=needs, expected_duration=1 if kind == "policy" else None)
        for _ in range(9)
    ]
    scheduler = Scheduler(jobs, jobs_window=2, pool=Pool(cpu=9))

    def resize(size: int) -> None:
        scheduler.jobs_window = size
        assert scheduler.window_size == size

    scheduler.add(
        Job(at, 1, lambda: resize(4), nothing_now, lambda: resize(1), forever=True)
    )
    assert virtual(scheduler.co_run)
    # at 1 two more start, at 2 the first two are replaced, at 3 the window is 1, so one starts when all have ended
    assert [job.started_at for job in jobs] == [0, 0, 1, 1, 2, 2, 4, 6, 8]
    assert scheduler.jobs_window == 1


@pytest.mark.usefixtures("many_pauses")
def test_a_new_window_is_that_of_a_run_which_is_still_being_checked(
    virtual: Virtual,
) -> None:
    """A large run yields to the loop while it is being checked; a window that is set meanwhile is its first one."""
    jobs = [Job(nap, 1) for _ in range(60)]
    scheduler = Scheduler(jobs, jobs_window=len(jobs))

    async def run() -> None:
        async with running(scheduler):
            while not scheduler.is_running():
                await anyio.lowlevel.checkpoint()
            scheduler.jobs_window = 30

    virtual(run)
    assert [job.started_at for job in jobs] == [0] * 30 + [1] * 30


def test_a_smaller_window_takes_back_what_has_not_begun(virtual: Virtual) -> None:
    """Jobs that were admitted and have not begun return to the line, in their order."""

    jobs = [
        Job(at_once, lambda: setattr(scheduler, "jobs_window", 1)),
        *[Job(nap, 1) for _ in range(4)],
    ]
    scheduler = Scheduler(jobs, jobs_window=5)
    assert virtual(scheduler.co_run)
    assert [job.started_at for job in jobs] == [0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    "kind",
    [functools.partial(Job, nap, 1, forever=True), functools.partial(Service, serve)],
)
@pytest.mark.parametrize("priority", [0, 1])
def test_a_smaller_window_keeps_what_takes_no_slot_from_no_start(
    virtual: Virtual, kind: Any, priority: int
) -> None:
    async def steer() -> None:
        scheduler.jobs_window = 1
        await nap(1)

    lasting = kind(priority=priority)
    jobs = [Job(nap, 1, priority=priority) for _ in range(2)]
    scheduler = Scheduler(
        Job(steer, priority=2 * priority),
        jobs[0],
        lasting,
        jobs[1],
        jobs_window=4,
        timeout=9,
    )
    assert virtual(scheduler.co_run)
    assert (lasting.started_at, [job.started_at for job in jobs]) == (0, [1, 2])


@pytest.mark.parametrize("value", [None, 0, "limiter"])
def test_only_a_number_may_replace_a_number(virtual: Virtual, value: Any) -> None:
    async def change() -> None:
        other = anyio.CapacityLimiter(1) if value == "limiter" else value
        for home, size in ((scheduler, other), (unlimited, 2)):
            with pytest.raises(
                RuntimeError,
                match="during a run a number can only be replaced by a number from 1 up",
            ):
                home.jobs_window = size

    unlimited = Scheduler(Job(nap, 1), label="unlimited")
    scheduler = Scheduler(unlimited, Job(change), label="home", jobs_window=2)
    assert virtual(functools.partial(scheduler.co_run, check=True))
    assert (scheduler.jobs_window, unlimited.jobs_window) == (2, None)


def test_a_group_that_has_not_begun_takes_a_new_window(virtual: Virtual) -> None:
    """During the run around it, the window of a group is a setting, of any kind, until the group begins."""

    first = Job(at_once, lambda: setattr(inner, "jobs_window", 1))
    inner = Scheduler(Job(nap, 1), Job(nap, 1), required=first)
    assert virtual(Scheduler(first, inner).co_run)
    assert [job.started_at for job in inner] == [0, 1]


def put_back(scheduler: Scheduler, steering: str) -> None:
    """Have what was admitted put back three times, by a pause or by a smaller window, and admitted again."""
    for _ in range(3):
        if steering == "pause":
            scheduler.pause()
            scheduler.resume()
        else:
            scheduler.jobs_window = 1
            scheduler.jobs_window = 2


@pytest.mark.parametrize(
    ("kind", "steering"),
    [("window", "pause"), ("limiter", "pause"), ("window", "window")],
)
def test_a_job_put_back_keeps_its_place_among_equals_alone(
    virtual: Virtual, kind: str, steering: str
) -> None:
    """A pause, or a smaller window, puts back what has not begun: ahead of what waits, but not of higher priorities."""
    order: list[str] = []

    async def main() -> None:
        window = 2 if kind == "window" else anyio.CapacityLimiter(2)
        async with Scheduler(jobs_window=window) as scheduler:
            for name in ("first", "second", "third"):
                scheduler.add(Job(noted, order, name))
            put_back(scheduler, steering)
            scheduler.pause()
            scheduler.add(Job(noted, order, "urgent", priority=10))
            scheduler.resume()

    virtual(main)
    assert order == ["urgent", "first", "second", "third"]


@pytest.mark.parametrize("steering", ["pause", "window"])
def test_a_job_that_was_put_back_has_not_started(
    virtual: Virtual, steering: str
) -> None:
    """The number of starts, by which "depth-first" orders, does not grow by jobs that were admitted, and put back."""

    async def main() -> int:
        async with Scheduler(jobs_window=2, policy="depth-first") as scheduler:
            scheduler.add([Job(nap, 1, label=label) for label in "ab"])
            put_back(scheduler, steering)
            await anyio.sleep(0.5)
            assert scheduler._run is not None
            assert scheduler._run.line.order is not None
            return scheduler._run.line.order.starts

    assert virtual(main) == 2


@pytest.mark.parametrize(
    ("steering", "window"),
    [("pause", None), ("pause", 2), ("pause", "limiter"), ("window", 2), ("both", 2)],
)
def test_steering_that_was_undone_leaves_nothing_behind(
    virtual: Virtual, steering: str, window: Literal["limiter"] | int | None
) -> None:
    """After one pause, or one smaller window, each further job of a run went through a heap: up to 2.4 times the cost.
    Its jobs wait again in the places in which they would wait without it, in the same order."""
    kinds: list[list[str]] = []
    jobs = [Job(nap, 1, label=str(number)) for number in range(6)]

    async def steer() -> None:
        line = scheduler._run.line  # type: ignore[union-attr]
        before = type(line.places)
        if steering != "window":
            scheduler.pause()
        if steering != "pause":
            scheduler.jobs_window = 1
        await anyio.sleep(1)
        if steering != "pause":
            scheduler.jobs_window = 2
        scheduler.resume()
        assert type(line.places) is before
        waiting = line.in_order() + (
            [] if line.tokens is None else line.tokens.in_order()
        )
        kinds.append([job.label for job in waiting])

    async def main() -> bool:
        scheduler.jobs_window = (
            anyio.CapacityLimiter(2) if window == "limiter" else window
        )
        return await scheduler.co_run()

    scheduler = Scheduler(Job(steer, forever=True), jobs)
    assert virtual(main)
    starts = [job.started_at for job in jobs]
    assert starts == sorted(starts)
    assert kinds == [[str(number) for number in range(6 if window is None else 2, 6)]]


def test_a_smaller_window_returns_what_has_not_begun_to_cheap_places(
    virtual: Virtual,
) -> None:
    """Jobs that had slots when the window shrank, and had not begun, come first again, in their order."""
    most = 0

    async def work(is_first: bool) -> None:
        nonlocal most
        if is_first:
            scheduler.jobs_window = 1
        line = scheduler._run.line  # type: ignore[union-attr]
        most = max(most, sum(job.is_running() for job in scheduler))
        assert type(line.places).__name__ == "FifoPlaces"
        await anyio.sleep(1)

    jobs = [Job(work, number == 0, label=str(number)) for number in range(6)]
    scheduler = Scheduler(jobs, jobs_window=3)
    assert virtual(scheduler.co_run)
    assert (most, [job.started_at for job in jobs]) == (1, [0, 1, 2, 3, 4, 5])


def test_the_record_of_a_window_that_is_set_for_a_year_is_bounded(
    virtual: Virtual,
) -> None:
    async def steer() -> None:
        for number in range(MAX_RECORDED + 10):
            scheduler.jobs_window = 2 + number % 2
            scheduler.pause()
            scheduler.resume()

    scheduler = Scheduler(Job(steer), jobs_window=2)
    assert virtual(scheduler.co_run)
    record = run_steering(scheduler)
    assert (len(record.window_sizes), len(record.pauses)) == (
        MAX_RECORDED,
        MAX_RECORDED,
    )
    assert record.window_sizes[-1][1] == 3


def test_the_record_of_a_run_has_the_pause_in_which_it_began(virtual: Virtual) -> None:
    async def steer() -> None:
        group.pause()
        await anyio.sleep(2)
        group.resume()

    group = Scheduler(Job(nap, 1), label="group", required=(first := Job(nap, 1)))
    scheduler = Scheduler(Job(steer), first, group)
    assert virtual(scheduler.co_run)
    assert run_steering(group).pauses == ((1, 2),)
    assert run_steering(scheduler).pauses == ()
