"""A job that awaits another: how the wait is shown, which waits are rejected, and how they end."""

import contextlib
import functools
import logging
from collections.abc import Callable
from typing import Any
import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
import trioflow
from trioflow import (
    Budget,
    CycleError,
    First,
    Job,
    JobNotDone,
    PerKey,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Service,
    StopReason,
    current_job,
    ref,
)
from trioflow._core.admission import _admission
from trioflow.abc import AbstractJob, WaitCause, incidents_of, waiting
from trioflow.view import listing
from ..bodies import (
    CANCELLED,
    SUCCEEDED,
    fail,
    flaky,
    give,
    hooked,
    later,
    nap,
    running,
    serve,
    turns,
)
from ..conftest import Virtual
from ..view.monitor.monitors import Terminal, drawn

Jobs = dict[str, Any]


def awaiting(
    jobs: Jobs, name: str, label: str, after: float = 0, **options: Any
) -> Job[Any]:
    async def wait() -> Any:
        await anyio.sleep(after)
        return await jobs[name]

    return Job(wait, label=label, **options)


async def in_a_task(jobs: Jobs, name: str) -> None:
    async def wait() -> None:
        await jobs[name]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)


def follower(jobs: Jobs) -> list[Any]:
    me = awaiting(jobs, "c", "me")
    b = Job(nap, label="b", required=me)
    jobs["c"] = Job(nap, label="c", required=b)
    return [me, b, jobs["c"]]


def behind_own_scheduler(jobs: Jobs) -> list[Any]:
    inner = Scheduler(awaiting(jobs, "b", "me"), label="inner")
    jobs["b"] = Job(nap, label="b", required=inner)
    return [inner, jobs["b"]]


def inside_a_follower(jobs: Jobs) -> list[Any]:
    me = awaiting(jobs, "b", "me")
    jobs["b"] = Job(nap, label="b")
    return [me, Scheduler(jobs["b"], label="inner", required=me)]


CYCLES: dict[str, Callable[[Jobs], list[Any]]] = {
    "'me' awaits 'me'": lambda jobs: [awaiting(jobs, "me", "me")],
    "'me' awaits 'me', in a child": lambda jobs: [Job(in_a_task, jobs, "me", label="me")],
    "'me' awaits 'b', which awaits 'me'": lambda jobs: [
        jobs.setdefault("b", awaiting(jobs, "me", "b")), awaiting(jobs, "b", "me", 1)
    ],
    "'me' awaits 'b', which awaits 'c', which awaits 'me'": lambda jobs: [
        jobs.setdefault("b", awaiting(jobs, "c", "b")), jobs.setdefault("c", awaiting(jobs, "me", "c")),
        awaiting(jobs, "b", "me", 1),
    ],
    "'me' awaits 'c', which requires 'b', which requires 'me'": follower,
    "'me' awaits 'inner', which contains 'me'": lambda jobs: [
        jobs.setdefault("inner", Scheduler(Scheduler(awaiting(jobs, "inner", "me"), label="inmost"), label="inner"))
    ],
    "'me' awaits 'b', which requires 'inner', which contains 'me'": behind_own_scheduler,
    "'me' awaits 'b', which is in 'inner', which requires 'me'": inside_a_follower,
    "'me' awaits 'inner', which waits for its job 'b', which awaits 'me'": lambda jobs: [
        jobs.setdefault("inner", Scheduler(awaiting(jobs, "me", "b"), Job(nap), label="inner")),
        awaiting(jobs, "inner", "me", 1),
    ],
}  # fmt: skip


@pytest.mark.parametrize("waits", CYCLES)
def test_a_cycle_of_waits_raises(virtual: Virtual, waits: str) -> None:
    """Jobs that await each other in a cycle once hung until a timeout; now the last wait raises with the cycle."""
    jobs: Jobs = {}
    scheduler = Scheduler(*CYCLES[waits](jobs), timeout=60)
    jobs["me"] = next(job for job in scheduler.iterate_jobs() if job.label == "me")
    assert not virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.FAILED
    error = jobs["me"].raised_exception()
    if isinstance(error, ExceptionGroup):
        (error,) = error.exceptions
    assert isinstance(error, RuntimeError)
    assert str(error) == f"'me' waits for itself: {waits.removesuffix(', in a child')}"


@pytest.mark.parametrize("other", ["another job", "the same job"])
def test_a_cycle_is_seen_through_each_wait_that_a_body_still_has(
    virtual: Virtual, other: str
) -> None:
    async def wait_in(seconds: float, job: Job[Any]) -> None:
        with anyio.move_on_after(seconds):
            await job.wait_settled()

    async def wait_twice() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_in, 99, me)
            tasks.start_soon(wait_in, 1, me if other == "the same job" else brief)

    brief, twice = Job(nap, 1), Job(wait_twice, label="twice")
    me = awaiting({"twice": twice}, "twice", "me", 3)
    assert not virtual(Scheduler(brief, twice, me, timeout=60).co_run)
    assert (
        str(me.raised_exception())
        == "'me' waits for itself: 'me' awaits 'twice', which awaits 'me'"
    )


@pytest.mark.parametrize("way", ["await", "wait_settled"])
@pytest.mark.parametrize("state", ["succeeded", "cancelled", "skipped"])
def test_waiting_for_a_job_that_has_settled_is_a_checkpoint(
    virtual: Virtual, way: str, state: str
) -> None:
    passed = list[bool]()

    async def ask() -> None:
        with anyio.CancelScope() as scope:
            scope.cancel()
            await (job.wait_settled() if way == "wait_settled" else job)
            passed.append(True)

    job = Job(nap, run_if="failed" if state == "skipped" else "succeeded")
    scheduler = Scheduler(job, Job(ask).requires(job, settled=True))
    if state == "cancelled":
        scheduler.add(Job(later, 0.5, job.cancel))
    assert virtual(scheduler.co_run)
    assert not passed


@pytest.mark.parametrize("way", ["await", "wait_settled"])
def test_a_wait_that_is_given_up_leaves_nothing_behind(
    virtual: Virtual, way: str
) -> None:
    """Neither at the job nor at the groups around it that have not begun: a server may ask for a year."""
    job, start = Job(nap), Job(nap, 50)
    inner = Scheduler(job)
    outer = Scheduler(inner, required=start)

    async def ask() -> None:
        for _ in range(9):
            with anyio.move_on_after(1):
                await (job.wait_settled() if way == "wait_settled" else job)
        left = [
            each._extras.listeners
            for each in (job, inner, outer)
            if each._extras is not None
        ]
        assert not any(left)

    assert virtual(Scheduler(start, outer, Job(ask)).co_run)


@pytest.mark.parametrize("of_group", [False, True])
def test_a_requirement_that_closes_a_cycle_of_waits_raises(
    virtual: Virtual, of_group: bool
) -> None:
    """A scheduler cannot require a job that awaits one of its members; once, that wait raised a ValueError."""
    jobs: Jobs = {"b": Job(nap, label="b")}
    me, slow = awaiting(jobs, "b", "me"), Job(nap, 3)
    outer = Scheduler(jobs["b"], label="inner") if of_group else jobs["b"]
    late = Job(later, 1, lambda: outer.requires(me))
    assert not virtual(
        Scheduler(me, slow, outer.requires(slow), late, timeout=60).co_run
    )
    requires, inside = (
        f"'{outer.label}' requires 'me', which awaits 'b'",
        ", which is in 'inner'" if of_group else "",
    )
    assert (
        str(late.raised_exception())
        == f"'{outer.label}' waits for itself: {requires}{inside}"
    )
    assert me.state is SUCCEEDED


def test_a_job_that_awaits_its_outermost_scheduler_fails(virtual: Virtual) -> None:
    jobs: Jobs = {}
    me = awaiting(jobs, "s", "me")
    jobs["s"] = Scheduler(me, timeout=60, label="s")
    assert not virtual(jobs["s"].co_run)
    assert (
        str(me.raised_exception())
        == "'me' waits for itself: 'me' awaits 's', which contains 'me'"
    )


@pytest.mark.parametrize(
    "kind",
    ["sibling", "late", "nested", "inside", "from inside", "after a service", "again"],
)
def test_waits_that_form_no_cycle_are_allowed(virtual: Virtual, kind: str) -> None:
    jobs: Jobs = {"b": Job(nap, 2, "value", label="b")}

    async def late() -> Any:
        scheduler: Any = trioflow.current_job().scheduler
        first = scheduler.add(Job(nap, 1))
        return await scheduler.add(Job(nap, 1, "value", required=first))

    async def again() -> Any:
        for _ in range(2):
            with anyio.move_on_after(1):
                await jobs["b"]
        return await jobs["b"]

    async def serves(*, task_status: Any) -> None:
        task_status.started()
        jobs["heard"] = await jobs["b"]

    me = awaiting(jobs, "b", "me")
    members: list[Any] = [me, jobs["b"]]
    if kind == "late":
        members = [me := Job(late)]
    elif kind == "nested":
        jobs["b"] = Scheduler(jobs["b"], label="inner")
        members = [me, jobs["b"]]
    elif kind == "inside":
        members = [me, Scheduler(jobs["b"])]
    elif kind == "from inside":
        members = [Scheduler(me), jobs["b"]]
    elif kind == "after a service":
        service = Service(serves)
        members = [service, jobs["b"].requires(service)]
    elif kind == "again":
        members = [me := Job(again), jobs["b"]]
    assert virtual(Scheduler(*members, timeout=60).co_run)
    result = jobs["heard"] if kind == "after a service" else me.result()
    assert result in ("value", True)


# --- how a wait is shown
def test_explain_and_views_show_that_a_job_awaits_another(virtual: Virtual) -> None:
    jobs: Jobs = {name: Job(nap, 9, label=name) for name in "bc"}

    async def await_both() -> None:
        async with anyio.create_task_group() as tasks:
            for job in jobs.values():
                tasks.start_soon(job.wait_settled)

    me, both = awaiting(jobs, "b", "me"), Job(await_both, label="both")
    monitor = trioflow.Monitor(file=Terminal())
    scheduler = Scheduler(me, both, *jobs.values(), instruments=[monitor])
    seen: list[Any] = []

    async def look() -> None:
        await anyio.sleep(2)
        seen.extend(
            [
                scheduler.explain(me),
                waiting(me),
                waiting(jobs["b"]),
                listing(scheduler, details=True),
                drawn(monitor),
            ]
        )
        each = {f"awaits '{name}', which has been running for 2 s" for name in "bc"}
        assert {*scheduler.explain(both).split(", and ")[1:]} == each

    scheduler.add(Job(look, label="look"))
    assert virtual(scheduler.co_run)
    text, wait, other, listed, lines = seen
    assert (
        text
        == "'me' has been running for 2 s, and awaits 'b', which has been running for 2 s"
    )
    assert (wait.cause, wait.text, other) == (WaitCause.JOBS, "awaits 'b'", None)
    assert "awaits 'b'" in listed
    assert any("me" in line and "awaits 'b'" in line for line in lines)
    assert waiting(me) is None


# --- waits for what the waiting job holds itself
Made = tuple[list[Any], dict[str, Any]]


def needs(jobs: Jobs, name: str = "b") -> Made:
    jobs["b"].needs = {"cpu": 2}
    return [awaiting(jobs, name, "me", needs={"cpu": 1}), jobs[name]], {
        "pool": Pool(cpu=2)
    }


BLOCKING: dict[str, Callable[[Jobs], Made]] = {
    "slot": lambda jobs: ([awaiting(jobs, "b", "me"), jobs["b"]], {"jobs_window": 1}),
    "slot_of_a_scheduler": lambda jobs: (
        [Scheduler(awaiting(jobs, "b", "me")), jobs["b"]],
        {"jobs_window": 1},
    ),
    "needs": needs,
}


@pytest.mark.parametrize("make", BLOCKING)
def test_awaiting_what_caller_blocks_is_logged(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, make: str
) -> None:
    """Awaiting a job that needs what the awaiting job holds is allowed, but logged once as a warning."""
    jobs: Jobs = {"b": Job(nap, label="b")}
    members, options = BLOCKING[make](jobs)
    scheduler = Scheduler(*members, timeout=60, **options)
    with caplog.at_level(logging.WARNING, "trioflow"):
        assert not virtual(scheduler.co_run)
    told = [
        record.getMessage()
        for record in caplog.records
        if "holds what 'b' needs" in record.getMessage()
    ]
    assert len(told) == 1
    assert told[0].startswith(
        "'me' awaits 'b', but holds what 'b' needs: 'b' waits for "
    )
    assert scheduler.stop_reason is StopReason.TIMEOUT


def test_awaiting_a_job_that_lacks_callers_token_is_logged(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    jobs: Jobs = {"b": Job(nap, label="b")}

    async def main() -> None:
        limiter = anyio.CapacityLimiter(1)
        await Scheduler(
            awaiting(jobs, "b", "me"), jobs["b"], jobs_window=limiter, timeout=60
        ).co_run()

    with caplog.at_level(logging.WARNING, "trioflow"):
        virtual(main)
    assert (
        "'me' awaits 'b', but holds what 'b' needs: 'b' waits for a token"
        in caplog.text
    )


def member(jobs: Jobs) -> Made:
    jobs["n"] = Scheduler(jobs["b"], label="n")
    return needs(jobs, "n")


def requirement(jobs: Jobs) -> Made:
    jobs["c"] = Job(nap, label="c", required=jobs["b"])
    members, options = needs(jobs, "c")
    return [*members, jobs["b"]], options


def crossed(jobs: Jobs) -> Made:
    jobs["b"].needs, jobs["x"] = {"f": 1}, Job(nap, needs={"g": 1}, label="x")
    first = awaiting(jobs, "x", "me", 0.1, needs={"f": 1})
    other = awaiting(jobs, "b", "other", 0.2, needs={"g": 1})
    return [first, other, jobs["b"], jobs["x"]], {"pool": Pool(f=1, g=1)}


def crossed_with_a_requirement(jobs: Jobs) -> Made:
    jobs["b"].needs, jobs["c"] = {"g": 1}, Job(nap, label="c")
    first = awaiting(jobs, "b", "me", 0.2)
    other = awaiting(jobs, "c", "other", 0.1, needs={"g": 1})
    return [first, other, jobs["b"], jobs["c"].requires(first)], {"pool": Pool(g=1)}


def behind_a_reservation(jobs: Jobs) -> Made:
    jobs["x"] = Job(nap, needs={"cpu": 1}, label="x", required=(later := Job(nap, 0.5)))
    members, options = needs(jobs, "x")
    return [*members, jobs["b"], later], options


def waiting_for_a_token(jobs: Jobs, pool: Pool) -> Made:
    """`c` has what `b` needs, and waits for the token that the caller holds."""
    name = next(iter(pool.total))
    jobs["b"].needs, jobs["c"] = {name: 1}, Job(nap, label="c", needs={name: 1})
    first = awaiting(jobs, "b", "me", 0.1)
    return [first, jobs["c"], jobs["b"]], {
        "pool": pool,
        "jobs_window": anyio.CapacityLimiter(1),
    }


TOKEN = "'me' awaits 'b', which needs what is held by 'c', but holds what 'c' needs: 'c' waits for a token"
INDIRECT: list[tuple[Callable[[Jobs], Made], str]] = [
    (lambda jobs: waiting_for_a_token(jobs, Pool(x=1)), TOKEN),
    (lambda jobs: waiting_for_a_token(jobs, Pool(x=Rate(requests=1, per=1))), TOKEN),
    (
        behind_a_reservation,
        "'me' awaits 'x', which may not overtake 'b', but holds what 'b' needs: 'b' waits for cpu",
    ),
    (
        member,
        "'me' awaits 'n', which waits for its job 'b', but holds what 'b' needs: 'b' waits for cpu",
    ),
    (
        requirement,
        "'me' awaits 'c', which requires 'b', but holds what 'b' needs: 'b' waits for cpu",
    ),
    (
        lambda jobs: (
            [awaiting(jobs, "b", "me"), Scheduler(jobs["b"], label="n")],
            {"jobs_window": 1},
        ),
        "'me' awaits 'b', which is in 'n', but holds what 'n' needs: 'n' waits for a slot",
    ),
    (
        crossed,
        "'me' awaits 'x', which needs what is held by 'other', which awaits 'b', but holds what 'b' needs: 'b' waits",
    ),
    (
        crossed_with_a_requirement,
        "'me' awaits 'b', which needs what is held by 'other', which awaits 'c', which requires 'me': 'b' waits for g",
    ),
]


@pytest.mark.parametrize(("make", "said"), INDIRECT)
def test_an_indirect_wait_for_oneself_is_logged(
    virtual: Virtual,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    make: Any,
    said: str,
) -> None:
    """A wait for a job behind which another needs what the awaiting job holds is logged; once it hung in silence."""
    monkeypatch.setattr(_admission.OrderedPlaces, "max_overtakes", 0)
    jobs: Jobs = {"b": Job(nap, label="b")}
    members, options = make(jobs)
    with caplog.at_level(logging.WARNING, "trioflow"):
        assert not virtual(Scheduler(*members, timeout=60, **options).co_run)
    assert any(record.getMessage().startswith(said) for record in caplog.records), (
        caplog.text
    )


# --- waits for jobs that may last as long as their run
def incidents(virtual: Virtual, scheduler: Scheduler) -> list[str]:
    """Run a scheduler for 60 seconds, and return the messages of its incidents, those of nested ones included."""
    virtual(lambda: scheduler.co_run(timeout=60))
    return [
        incident.message
        for level in [
            scheduler,
            *(job for job in scheduler.iterate_jobs() if isinstance(job, Scheduler)),
        ]
        for incident in incidents_of(level)
    ]


LASTS = "may run until the end of 's', which waits for 'me': unless 'f' ends by itself, this wait does not end"


@pytest.mark.parametrize(
    "kind",
    ["forever job", "service", "in a nested scheduler", "behind another", "awaited"],
)
def test_awaiting_a_job_that_lasts_as_long_as_the_run_logs_a_warning(
    virtual: Virtual, kind: str
) -> None:
    """A job that awaited a forever job, which ends with the run, which waits for the job, once stood without a word."""
    jobs: Jobs = {"f": Job(anyio.sleep_forever, label="f", forever=True)}
    me = awaiting(jobs, "f", "me")
    members: list[Any] = [jobs["f"], me]
    expected = f"'me' awaits 'f', which {LASTS}"
    if kind == "service":
        jobs["f"] = Service(serve, label="f")
        members = [jobs["f"], me.requires(jobs["f"])]
        expected += "; to use a service when it is ready, require it"
    elif kind == "in a nested scheduler":
        members = [Scheduler(jobs["f"], label="n", forever=True), me]
        expected = expected.replace(
            "which may", "which may run until the end of 'n', which may"
        )
    elif kind == "behind another":
        jobs["b"] = awaiting(jobs, "f", "b")
        members = [
            Scheduler(jobs["b"], label="n"),
            jobs["f"],
            me := awaiting(jobs, "b", "me", 0.5),
        ]
        expected = f"'me' awaits 'b', which awaits 'f', which {LASTS}"
    elif kind == "awaited":
        jobs["f"] = awaiting(jobs, "x", "f", forever=True)
        jobs["x"] = Job(anyio.sleep_forever, forever=True)
        members = [jobs["f"], jobs["x"], me]
    scheduler = Scheduler(*members, label="s")
    assert expected in incidents(virtual, scheduler)
    assert me.state is CANCELLED


def test_a_job_that_waits_again_and_again_is_named_once(virtual: Virtual) -> None:
    """A job that awaits a forever job for some seconds at a time does not fill the log; another run names it again."""
    f = Job(anyio.sleep_forever, label="f", forever=True)

    async def wait() -> None:
        for _ in range(5):
            with anyio.move_on_after(3):
                await f

    scheduler = Scheduler(f, Job(wait, label="me"), label="s")
    for _ in range(2):
        assert incidents(virtual, scheduler) == [f"'me' awaits 'f', which {LASTS}"]


@pytest.mark.parametrize(
    "kind",
    [
        "ends soon",
        "forever waiter",
        "forever scheduler",
        "of another run",
        "waits inside",
    ],
)
def test_waits_for_forever_jobs_that_end_log_nothing(
    virtual: Virtual, kind: str
) -> None:
    jobs: Jobs = {"f": Job(anyio.sleep_forever, label="f", forever=True)}
    members: list[Any] = [jobs["f"], Job(nap, 9)]
    if kind == "ends soon":
        jobs["f"] = Job(nap, 0.9, forever=True)
        members = [jobs["f"], awaiting(jobs, "f", "me")]
    elif kind == "forever waiter":
        members.append(awaiting(jobs, "f", "me", forever=True))
    elif kind == "forever scheduler":
        jobs["f"] = Scheduler(Job(nap, 5), label="f", forever=True)
        members = [jobs["f"], awaiting(jobs, "f", "me")]
    elif kind == "of another run":
        members = [
            Scheduler(*members),
            awaiting(jobs, "f", "me", critical=False),
        ]  # it gets a JobCancelled
    elif kind == "waits inside":
        members.append(Scheduler(awaiting(jobs, "f", "me"), forever=True))
    scheduler = Scheduler(*members)
    assert incidents(virtual, scheduler) == []
    assert scheduler.stop_reason is StopReason.COMPLETED


async def iterate(jobs: Jobs, name: str = "") -> list[str]:
    scheduler = trioflow.current_scheduler()
    chosen = [jobs[name]] if name else scheduler
    return [
        job.label
        async for job in (
            scheduler.as_settled(chosen) if name else scheduler.as_settled()
        )
    ]


@pytest.mark.parametrize("kind", ["slot", "awaits it", "awaits chosen", "needs"])
def test_an_iteration_over_jobs_that_wait_for_it_logs_a_warning(
    virtual: Virtual, kind: str
) -> None:
    """A job that iterates over `as_settled()` in the only slot, or is awaited by the others, once stood in silence."""
    jobs: Jobs = {}
    it = jobs["it"] = Job(
        iterate, jobs, "b" if kind == "awaits chosen" else "", label="it"
    )
    b = jobs["b"] = (
        awaiting(jobs, "it", "b") if kind.startswith("awaits") else Job(nap, label="b")
    )
    scheduler = Scheduler(it, b, label="s", pool=Pool(cpu=1))
    expected = "'it' iterates over as_settled() until the end of 'b', but holds what 'b' needs: 'b' waits for "
    if kind == "slot":
        scheduler.jobs_window = 1
    elif kind == "needs":
        it.needs = b.needs = {"cpu": 1}
    else:
        expected = (
            "'it' iterates over as_settled() until the end of 'b', which awaits 'it'"
        )
    found = incidents(virtual, scheduler)
    assert len([message for message in found if message.startswith(expected)]) == 1
    if kind.startswith("awaits"):
        assert (
            "'b' awaits 'it', which iterates over as_settled() until the end of 'b': unless 'it' leaves"
            in "".join(found)
        )


def test_an_iteration_that_goes_on_logs_nothing(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    """As long as one of the jobs can settle, the iteration waits for a job, however many wait for its own slot."""
    it = Job(iterate, {}, label="it")
    assert virtual(
        Scheduler(
            it, [Job(nap, 9, label=str(number)) for number in range(4)], jobs_window=2
        ).co_run
    )
    assert it.result() == ["0", "1", "2", "3"]
    assert caplog.text == ""


def test_explain_says_that_the_awaited_job_is_a_forever_job(virtual: Virtual) -> None:
    jobs: Jobs = {"f": Job(anyio.sleep_forever, label="f", forever=True)}
    me = awaiting(jobs, "f", "me")
    scheduler = Scheduler(
        jobs["f"], me, look := Job(later, 2, lambda: scheduler.explain(me)), timeout=3
    )
    virtual(scheduler.co_run)
    assert look.result() == (
        "'me' has been running for 2 s, and awaits the forever job 'f', which has been running for 2 s"
    )


# --- waits for what others hold
@pytest.mark.parametrize("held", ["a slot", "an amount, under a limiter"])
def test_awaiting_a_job_that_lacks_what_others_hold_logs_nothing(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, held: str
) -> None:
    """The wait ends when they do. The holders of a limiter's tokens are not those of a resource: a token of the
    awaiting job is in nobody's way."""
    jobs: Jobs = {"b": Job(nap, label="b")}
    me, other, options = awaiting(jobs, "b", "me", 1), Job(nap, 9), dict[str, Any]()
    members: list[Any] = [other, jobs["b"]]
    if held == "a slot":
        members = [Scheduler(members, jobs_window=1)]
    else:
        other.needs = jobs["b"].needs = {"cpu": 1}
        options = {"jobs_window": anyio.CapacityLimiter(3), "pool": Pool(cpu=1)}
    assert virtual(Scheduler(members, me, **options).co_run)
    assert me.state is SUCCEEDED
    assert caplog.text == ""


# --- before the run
@pytest.mark.parametrize("fails", [False, True])
def test_await_before_the_run_waits_for_it(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, fails: bool
) -> None:
    """`await job` may come before its run: it gets the result, or takes the failure, which then does not count."""
    job: Job[Any] = Job(fail if fails else nap, 2, label="b")
    scheduler = Scheduler(job, log=False)
    got: list[object] = []

    async def wait() -> None:
        try:
            got.append(await job)
        except OSError as error:
            got.append(error)

    async def main() -> bool:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(0.5)
            return await scheduler.co_run()

    assert virtual(main) is True
    assert got == [job.raised_exception() if fails else job.result()]
    assert caplog.text == ""


@pytest.mark.parametrize("end", ["the run ends", "close"])
def test_await_before_a_run_that_does_not_reach_the_job_raises(
    virtual: Virtual, end: str
) -> None:
    job = Job(nap, required=Job(nap, 9), label="b")
    scheduler = Scheduler(
        next(iter(job.required)), job, timeout=1, log=False, label="home"
    )
    why = "is idle" if end == "close" else r"w.*reached: .*'home' .*\(timeout\)"

    async def wait() -> None:
        with pytest.raises(JobNotDone, match=f"'b' {why}.*; no run will reach it"):
            await job

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(0.5)
            if end == "close":
                scheduler.close()
            else:
                assert not await scheduler.co_run()

    virtual(main)


def test_await_before_a_run_in_another_thread_waits_for_it(backend: Any) -> None:
    """The run may begin in another thread: its end wakes the loop of whoever waits."""
    job = Job(nap, 0, label="b")
    scheduler = Scheduler(job)

    async def run() -> None:
        await anyio.sleep(0.01)
        assert await anyio.to_thread.run_sync(scheduler.run)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await job.wait_settled()

    anyio.run(main, backend=backend)
    assert job.is_succeeded()


# --- the end of the run
@pytest.mark.parametrize("run_if", ["failed", "succeeded", "cancelled"])
def test_awaiting_a_job_in_a_scheduler_that_never_runs_raises_job_not_done(
    virtual: Virtual, run_if: str
) -> None:
    """Awaiting a job in a scheduler that never runs raises JobNotDone; once the awaiting job and the run hung."""
    jobs: Jobs = {"b": Job(nap, label="b")}
    source = Job(nap if run_if == "failed" else fail, 2)
    inner = Scheduler(
        Scheduler(jobs["b"]),
        required=source,
        run_if="settled" if run_if == "cancelled" else run_if,
    )
    me = awaiting(jobs, "b", "me")

    async def cancel() -> None:
        await anyio.sleep(1)
        if run_if == "cancelled":
            inner.cancel() if inner.is_running() else AbstractJob.cancel(inner)

    scheduler = Scheduler(source, inner, me, Job(cancel), timeout=60)
    assert not virtual(scheduler.co_run)
    assert scheduler.stop_reason is StopReason.FAILED
    assert isinstance(me.raised_exception(), JobNotDone)
    assert me.finished_at == (1 if run_if == "cancelled" else 2)


@pytest.mark.parametrize("when", [2, 4, 7.5])
@pytest.mark.parametrize("end", ["retry", "failure"])
def test_awaiting_a_job_that_a_later_attempt_may_reach_waits(
    virtual: Virtual, end: str, when: float
) -> None:
    calls: list[float] = []

    async def first() -> None:
        calls.append(anyio.current_time())
        await anyio.sleep(1)
        if len(calls) == 1:
            raise OSError("broken")

    async def linger() -> None:
        try:
            await anyio.sleep(2)
        finally:
            if len(calls) == 1:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(2)

    async def wait() -> float:
        await anyio.sleep(when)
        await awaited
        return anyio.current_time()

    awaited = Job(nap, 1, required=(bad := Job(first, critical=True)))
    retry = Retry(1, first=4, jitter=False) if end == "retry" else None
    group = Scheduler(bad, awaited, Job(linger), retry=retry)
    assert virtual(Scheduler(group, waiter := Job(wait), log=False).co_run) is (
        end == "retry"
    )
    if end == "retry":
        assert (calls, waiter.result()) == ([0, 7], 9)
    else:
        assert isinstance(waiter.raised_exception(), JobNotDone)


def test_awaiting_a_job_from_another_thread_raises(backend: str) -> None:
    """Awaiting a job from another thread raises; once nothing woke the event loop there, and it waited forever."""
    told: list[str] = []

    async def wait(job: Job[None]) -> None:
        await job

    def elsewhere(job: Job[None]) -> None:
        with pytest.raises(RuntimeError, match="runs in another thread") as caught:
            anyio.run(wait, job, backend=backend)
        told.append(str(caught.value))

    async def main() -> None:
        told_there = anyio.Event()
        async with Scheduler(job := Job(told_there.wait, label="b")):
            await anyio.to_thread.run_sync(elsewhere, job)
            told_there.set()

    anyio.run(main, backend=backend)
    assert told[0].startswith("await of 'b'")


def limits_and_options(shared: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of a scheduler for one job at a time, and those of its jobs. Needs a loop."""
    limits: dict[str, Callable[[], dict[str, Any]]] = {
        "amount": lambda: {"pool": Pool(x=1)},
        "budget": lambda: {"pool": Pool(x=Budget(1))},
        "key": lambda: {"pool": Pool(x=PerKey(1))},
        "limiter": lambda: {"jobs_window": anyio.CapacityLimiter(1)},
    }
    return limits[shared](), {} if shared == "limiter" else {
        "needs": {"x": "k" if shared == "key" else 1}
    }


@pytest.mark.parametrize("shared", ["amount", "budget", "key", "limiter"])
def test_a_wait_between_two_runs_is_named(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, shared: str
) -> None:
    """A job that awaits one of another run, which lacks what it holds, is named in the log, whatever both share."""

    async def wait_for(job: Job[Any]) -> None:
        await anyio.sleep(0.5)
        await job

    async def main() -> None:
        limits, options = limits_and_options(shared)
        b = Job(nap, 1, label="b", **options)
        a = Job(wait_for, ref(b), label="a", **options)
        async with running(Scheduler(a, **limits), 0.1, timeout=9) as group:
            group.start_soon(
                functools.partial(Scheduler(Scheduler(b), **limits).co_run, timeout=9)
            )

    virtual(main)
    assert any(
        "'a' awaits 'b', but holds what 'b' needs" in message
        for message in caplog.messages
    )


@pytest.mark.usefixtures("many_pauses")
@pytest.mark.parametrize("turns", range(1, 8))
@pytest.mark.parametrize("is_refused", [False, True])
def test_a_wait_that_begins_while_a_second_run_prepares_is_for_the_ends_of_that_run(
    virtual: Virtual, turns: int, is_refused: bool
) -> None:
    """A large scenario is reset in several turns of the loop, and waits of these turns took the old ends for new."""
    numbers = iter(range(200))

    async def count() -> int:
        await anyio.sleep(1)
        return next(numbers)

    jobs = [Job(count) for _ in range(50)]
    scheduler = Scheduler(jobs)
    settled = list[int]()
    awaited = list[int]()
    had_room_at = list[float]()

    async def iterate() -> None:
        async for job in scheduler.as_settled():
            settled.append(job.result())

    async def wait() -> None:
        awaited.append(await jobs[-1])

    async def ask() -> None:
        with contextlib.suppress(JobNotDone):
            await scheduler.room(1)
            had_room_at.append(anyio.current_time())

    async def run() -> None:
        with contextlib.suppress(CycleError):
            await scheduler.co_run()

    async def main() -> None:
        await run()
        if is_refused:
            jobs[0].requires(jobs[1])
            jobs[1].requires(jobs[0])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            if scheduler.is_running():
                tasks.start_soon(iterate)
                tasks.start_soon(wait)
                tasks.start_soon(ask)
            else:
                assert is_refused
                await wait()

    virtual(main)
    if is_refused:
        # The run may have been refused before they began.
        assert settled in ([], [*range(50)])
        assert (awaited, had_room_at) == ([49], [])
    else:
        assert sorted(settled) == [*range(50, 100)]
        assert awaited == [99]
        assert set(had_room_at) <= {2}


@pytest.mark.parametrize("nested", [False, True])
def test_a_wait_for_a_turn_that_needs_what_the_caller_holds_is_named(
    virtual: Virtual, nested: bool
) -> None:
    jobs: Jobs = {"b": Job(nap, label="b")}
    turns = [
        Job(nap, label="a", needs={"cpu": 1}),
        Scheduler(jobs["b"], label="group") if nested else jobs["b"],
    ]
    members = [
        awaiting(jobs, "b", "me", needs={"cpu": 1}),
        First(*turns, stagger=1, label="first"),
    ]
    group = "which is in 'group', " if nested else ""
    found = incidents(virtual, Scheduler(*members, pool=Pool(cpu=1)))
    assert [message.partition(": ")[0] for message in found] == [
        f"'me' awaits 'b', {group}which has its turn after 'a', but holds what 'a' needs"
    ]


@pytest.mark.parametrize("shared", ["amount", "budget", "key", "limiter"])
def test_bodies_that_run_what_needs_what_the_other_holds_are_named(
    virtual: Virtual, shared: str
) -> None:
    """Two bodies each ran a scheduler whose job needed what the other held, and once stood still without a word."""

    async def main() -> list[str]:
        (limits, options), (other_limits, _) = (
            limits_and_options(shared),
            limits_and_options(shared),
        )

        async def run(name: str, limits: dict[str, Any]) -> None:
            await nap(1)
            await Scheduler(
                Job(nap, 1, label=f"in {name}", **options),
                label=f"run {name}",
                **limits,
            ).co_run()

        groups = [
            Scheduler(Job(run, "a", other_limits, label="a", **options), **limits),
            Scheduler(Job(run, "b", limits, label="b", **options), **other_limits),
        ]
        await Scheduler(*groups).co_run(timeout=60)
        return [
            incident.message for group in groups for incident in incidents_of(group)
        ]

    for message, (name, other) in zip(virtual(main), ["ab", "ba"], strict=True):
        assert message.startswith(
            f"'{name}' runs 'run {name}', which waits for its job 'in {name}', which needs what is held by '{other}', "
            f"which runs 'run {other}', which waits for its job 'in {other}', but holds what 'in {other}' needs: "
        )


@pytest.mark.parametrize("wait", ["need", "await"])
def test_a_body_that_runs_what_waits_for_it_is_named(
    virtual: Virtual, wait: str
) -> None:
    jobs: Jobs = {}
    pool = Pool(cpu=1)

    async def run() -> None:
        inner = (
            Job(nap, label="in", needs={"cpu": 1})
            if wait == "need"
            else awaiting(jobs, "a", "in")
        )
        await Scheduler(inner, label="inner", pool=pool).co_run()

    jobs["a"] = Job(run, label="a", needs={"cpu": 1})
    assert [
        message.partition(": ")[0]
        for message in incidents(virtual, Scheduler(jobs["a"], pool=pool))
    ] == [
        "'a' runs 'inner', which waits for its job 'in', "
        + ("but holds what 'in' needs" if wait == "need" else "which awaits 'a'")
    ]


def test_a_body_that_runs_what_goes_on_logs_nothing(
    virtual: Virtual, caplog: pytest.LogCaptureFixture
) -> None:
    pool = Pool(cpu=2)

    async def run() -> None:
        jobs = [Job(nap, 9, needs={"cpu": 1}) for _ in range(3)]
        assert await Scheduler(*jobs, pool=pool, jobs_window=1).co_run()

    assert virtual(Scheduler(Job(run), Job(nap, 9, needs={"cpu": 2}), pool=pool).co_run)
    assert caplog.text == ""


def test_a_failure_counts_if_the_await_for_it_was_cancelled(virtual: Virtual) -> None:
    """A failure belongs to whoever awaits it only if that job sees it: one that is cancelled meanwhile does not."""

    def job_settled(_: object, job: object) -> None:
        if job is fails:
            waits.cancel()

    async def wait() -> None:
        await fails

    fails, waits = Job(fail, 1), Job(wait)
    scheduler = Scheduler(fails, waits)
    assert (
        virtual(
            functools.partial(
                scheduler.co_run, instruments=[hooked(job_settled=job_settled)]
            )
        )
        is False
    )
    assert scheduler.stop_reason is StopReason.FAILED
    if (
        waits.state is CANCELLED
    ):  # which comes first in one instant is not promised: it may have got the failure before
        assert scheduler.culprit is fails
    else:
        assert (scheduler.culprit, waits.raised_exception()) == (
            waits,
            fails.raised_exception(),
        )


@pytest.mark.both_backends
@pytest.mark.parametrize("who", ["a hook", "the other"])
def test_a_failure_that_one_job_has_got_does_not_count_because_another_was_cancelled(
    backend: Any, who: str
) -> None:
    """An `await` that was cancelled gave back what another had raised. Which of them comes first is not promised."""

    def run_once() -> None:
        got: list[BaseException] = []

        def settled(job: object) -> None:
            if job is fails and who == "a hook":
                second.cancel()

        async def take() -> None:
            try:
                await fails
            except OSError as error:
                got.append(error)
                for other in (first, second):
                    if not (other.is_settled() or other is current_job()):
                        other.cancel()

        fails, first, second = Job(fail, 0.001), Job(take), Job(take)
        scheduler = Scheduler(first, second, fails, on_job_settled=settled)
        assert scheduler.run(backend=backend)
        assert fails.raised_exception() in got

    for _ in range(12):
        run_once()


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("begins_after", [0, 3])
def test_a_job_of_a_group_that_will_be_tried_again_is_awaited(
    virtual: Virtual, depth: int, begins_after: int
) -> None:
    """The next attempt reaches it, however deep in the group it is: from before the failure, or from the backoff on."""
    first = Job(flaky(), critical=True)
    jobs: Jobs = {"later": Job(nap, 0, required=first)}
    group = Scheduler(first, jobs["later"], critical=True)
    for _ in range(depth - 1):
        group = Scheduler(group, critical=True)
    group = Scheduler(group, retry=Retry(1, first=5, jitter=False))
    waits = awaiting(jobs, "later", "waits", begins_after)
    assert virtual(Scheduler(group, waits, awaiting(jobs, "later", "other")).co_run)
    assert waits.state is SUCCEEDED


@pytest.mark.parametrize("begins_after", [0, 3])
def test_an_await_of_a_job_ends_with_the_last_attempt_of_its_group(
    virtual: Virtual, begins_after: int
) -> None:
    first = Job(fail, 1, critical=True)
    jobs: Jobs = {"later": Job(nap, 0, required=first, label="later")}
    group = Scheduler(
        Scheduler(first, jobs["later"], critical=True),
        retry=Retry(1, first=5, jitter=False),
    )
    waits = awaiting(jobs, "later", "waits", begins_after)
    virtual(Scheduler(group, waits).co_run)
    assert isinstance(waits.raised_exception(), JobNotDone)
    assert waits.finished_at == 7


@pytest.mark.both_backends
@pytest.mark.parametrize("iterates", [False, True])
def test_a_failure_that_is_awaited_as_the_next_attempt_begins_was_counted_by_the_last(
    virtual: Virtual, iterates: bool
) -> None:
    """The group has failed with it already, and its next attempt, which succeeds, has not counted it."""
    wrong = Job(flaky(), label="wrong")
    group = Scheduler(wrong, retry=1)

    async def take() -> None:
        if iterates:
            async for _ in group.as_settled():
                break
        else:
            await wrong.wait_settled()
        with contextlib.suppress(OSError):
            await wrong

    scheduler = Scheduler(group, Job(take, label="take"), log=False)
    assert virtual(scheduler.co_run), scheduler.failures()


@pytest.mark.both_backends
@pytest.mark.parametrize("number", range(5))
def test_whoever_awaits_what_is_tried_again_gets_one_of_its_ends(
    virtual: Virtual, number: int
) -> None:
    """The job is cancelled, and tried again a number of turns later: while the cancellation is told, or after that."""

    async def steer() -> None:
        await anyio.sleep(1)
        awaited.cancel()
        while awaited.is_running():
            await turns(1)
        await turns(number)
        awaited.try_again()

    awaited: Job[Any] = Job(give, "anew", 3)
    waits = Job(lambda: awaited.wait_settled())
    ends = awaiting({"awaited": awaited}, "awaited", "ends", 0)
    virtual(Scheduler(awaited, waits, ends, Job(steer), log=False).co_run)
    assert isinstance(ends.raised_exception(), trioflow.JobCancelled | None)
    assert (waits.state, awaited.result()) == (SUCCEEDED, "anew")


# --- members of a group that waits for another attempt
@pytest.mark.parametrize("ends", [False, True])
def test_a_failure_is_awaited_until_the_next_attempt_has_settled(
    virtual: Virtual, ends: bool
) -> None:
    """The group was about to run again, and kept the states of its members: `await` raised the old failure at once.

    If the run ends before that attempt, all waits end, with the failure.
    """

    async def wait() -> Any:
        try:
            return await job
        except OSError:
            return anyio.current_time()

    async def iterate_group() -> None:
        read.extend([each.label async for each in group.as_settled()])

    async def main() -> Any:
        async with running(scheduler, 2):
            scheduler.pause()
            job.try_again()
            assert group.is_scheduled()
            async with anyio.create_task_group() as tasks:
                word = scheduler.cancel if ends else scheduler.resume
                tasks.start_soon(later, 1, word)
                tasks.start_soon(iterate_group)
                return await wait()

    read: list[str] = []
    job = Job(flaky(), label="job")
    group = Scheduler(job, label="group")
    scheduler = Scheduler(group, Job(nap, 9))
    assert virtual(main) == (3 if ends else 2)
    assert read == ["job"]
