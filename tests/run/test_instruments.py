"""Instruments: which hooks are called, with what, in which order, for whom, if one raises; and the parts of a run."""

import dataclasses
import functools
import math
from typing import Any
import pytest
from trioflow import AbstractJob, Job, JobState, Scheduler, Sequence, StopReason, Trace
from trioflow._core.base._states import RunPhase
from trioflow._core.run import _instruments, _steps
from trioflow._core.run._instruments import Part, with_parts
from trioflow._core.run._run import Run
from trioflow.abc import Instrument
from ..bodies import Closing, at_once, fail_now, hooked, nap, nothing, raising
from ..conftest import Virtual

HOOKS = [
    name
    for name, value in vars(Instrument).items()
    if not name.startswith("_") and callable(value)
]


def recorder() -> Any:
    """An instrument that overrides every hook, made on the spot: each hook must be a method of its class."""

    def hook(name: str) -> Any:
        def note(self: Any, scheduler: Any, *details: Any) -> None:
            told = [one.label for one in details if isinstance(one, AbstractJob)]
            self.events.append(" ".join([name, scheduler.label, *told]))

        return note

    made: Any = type("Made", (Instrument,), {name: hook(name) for name in HOOKS})()
    made.events = []
    return made


def test_job_added_comes_before_other_hooks_of_the_job(virtual: Virtual) -> None:
    watch = recorder()
    scheduler = Scheduler(
        Job(at_once, lambda: scheduler.add(Job(nap, label="new")), label="grower"),
        label="home",
        instruments=[watch],
    )
    virtual(scheduler.co_run)
    assert [event for event in watch.events if event.endswith("new")] == [
        f"{hook} home new"
        for hook in (
            "job_added",
            "job_scheduled",
            "job_started",
            "job_attempt",
            "job_settled",
        )
    ]
    assert sum(event.startswith("job_added") for event in watch.events) == 1


def test_state_is_written_before_the_hooks_are_called(virtual: Virtual) -> None:
    seen: list[object] = []
    virtual(
        Scheduler(
            Job(nap, 2, "value"),
            instruments=[
                hooked(
                    job_scheduled=lambda scheduler, job: seen.append(
                        job.is_scheduled()
                    ),
                    job_started=lambda scheduler, job: seen.append(
                        (job.is_running(), job.started_at)
                    ),
                    job_settled=lambda scheduler, job: seen.append(
                        (job.result(), job.elapsed)
                    ),
                    after_run=lambda scheduler: seen.append(scheduler.stop_reason),
                )
            ],
        ).co_run
    )
    assert seen == [True, (True, 0), ("value", 2), StopReason.COMPLETED]


class Counter(Instrument):
    def __init__(self) -> None:
        self.started: list[str] = []

    def job_started(self, scheduler: Any, job: Any) -> None:
        self.started.append(job.label)


def test_instruments_of_the_constructor_and_of_run_are_both_called(
    virtual: Virtual,
) -> None:
    own, once = Counter(), Counter()
    scheduler = Scheduler(Job(nap, label="a"), instruments=[own])
    virtual(functools.partial(scheduler.co_run, instruments=[once]))
    virtual(scheduler.co_run)
    assert own.started == ["a", "a"]
    assert once.started == ["a"]
    assert scheduler.instruments == (own,)


def test_same_instrument_given_twice_is_called_once(virtual: Virtual) -> None:
    """Those of a nested scheduler see it alone."""
    watch, own = Counter(), Counter()
    inner = Scheduler(Job(nap, label="a"), instruments=[watch, own], label="inner")
    outer = Scheduler(
        inner, Job(nap, label="b", required=inner), instruments=[watch, watch]
    )
    virtual(functools.partial(outer.co_run, instruments=[watch]))
    assert (watch.started, own.started) == (["inner", "a", "b"], ["a"])


def test_instruments_are_called_from_the_inside_out(virtual: Virtual) -> None:
    told: list[str] = []

    def named(name: str) -> Instrument:
        return hooked(job_settled=lambda _, job: told.append(f"{name} {job.label}"))

    inner = Scheduler(
        Job(nap, label="a"), label="group", instruments=[named("own"), named("other")]
    )
    outer = Scheduler(inner, instruments=[named("around")])
    virtual(functools.partial(outer.co_run, instruments=[named("run")]))
    assert told == [
        "own a",
        "other a",
        "around a",
        "run a",
        "around group",
        "run group",
    ]


def test_a_hook_may_be_an_attribute_of_the_object(virtual: Virtual) -> None:
    """It takes the place of the method of the class, as any attribute in Python."""
    told: list[str] = []
    plain, counter = Instrument(), Counter()
    for one in (plain, counter):
        vars(one)["job_started"] = lambda scheduler, job: told.append(job.label)
    virtual(Scheduler(Job(nap, label="a"), instruments=[plain, counter]).co_run)
    assert (told, counter.started) == (["a", "a"], [])


def test_instruments_are_distinguished_by_identity(virtual: Virtual) -> None:
    """Two instruments that compare equal are both called, and an instrument need not have a hash."""

    @dataclasses.dataclass
    class Count(Instrument):
        number: int = 0

        def job_started(self, scheduler: Any, job: Any) -> None:
            self.number += 1

    one, other = Count(), Count()
    virtual(Scheduler(Job(nap), instruments=[one, other]).co_run)
    assert (one.number, other.number) == (1, 1)


class Grumpy(Counter):
    def job_started(self, scheduler: Any, job: Any) -> None:
        super().job_started(scheduler, job)
        raise OSError("full disk")


@pytest.mark.parametrize("first", ["outer", "inner"])
def test_a_broken_instrument_is_logged_once(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, first: str
) -> None:
    grumpy, fine = Grumpy(), Counter()
    inner = Scheduler(Job(nap, label="a"), label="inner")
    jobs = (
        [Job(nap, label="b"), inner]
        if first == "outer"
        else [inner, Job(nap, label="b")]
    )
    assert virtual(Scheduler(Sequence(jobs), instruments=[grumpy, fine]).co_run) is True
    assert len(fine.started) == 3
    assert len(grumpy.started) == 1
    assert ["Grumpy" in record.getMessage() for record in caplog.records] == [True]


def test_an_instrument_that_raises_in_a_nested_run_is_removed_from_the_outer_run(
    virtual: Virtual,
) -> None:
    class Inside(Counter):
        def job_started(self, scheduler: Any, job: Any) -> None:
            super().job_started(scheduler, job)
            if job.label == "a":
                raise OSError

    watch = Inside()
    inner = Scheduler(Job(nap, label="a"), label="inner")
    virtual(Scheduler(Sequence(inner, Job(nap, label="b")), instruments=[watch]).co_run)
    assert watch.started == ["inner", "a"]


def test_instruments_that_raised_are_called_again_in_the_next_run(
    virtual: Virtual,
) -> None:
    grumpy = [Grumpy(), Grumpy()]
    scheduler = Scheduler(Job(nap, label="a"), instruments=grumpy)
    for _ in range(2):
        assert virtual(scheduler.co_run)
    assert [each.started for each in grumpy] == [["a", "a"]] * 2


@pytest.mark.parametrize(
    "instruments", [[object()], [Counter], Counter, Counter(), 42, [None]]
)
def test_an_object_that_is_no_instrument_is_rejected_by_run(
    virtual: Virtual, instruments: Any
) -> None:
    job = Job(nap())
    scheduler = Scheduler(job)
    with pytest.raises(TypeError, match=r"give a list of instruments|give objects of"):
        virtual(functools.partial(scheduler.co_run, instruments=instruments))
    assert job.is_idle()
    scheduler.close()


def test_an_async_hook_is_rejected() -> None:
    """An async hook, which nothing would await, raises a TypeError where its class is defined."""
    with pytest.raises(
        TypeError, match=r"Async\.job_started\(\) is async, and nothing would await it"
    ):

        class Async(Instrument):
            async def job_started(self, scheduler: Any, job: Any) -> None: ...  # type: ignore[override]


def test_the_incident_hook_gets_scheduler_job_message_and_exception(
    virtual: Virtual,
) -> None:
    error = OSError("no route")
    told: list[Any] = []
    watch = hooked(
        incident=lambda run, job, message, raised: told.append(
            (run, job, "'bad'" in message, raised)
        )
    )
    job = Closing(functools.partial(fail_now, error), label="bad")
    inner = Scheduler(job)
    virtual(Scheduler(inner, instruments=[watch]).co_run)
    assert told == [(inner, job, True, error)]


@pytest.mark.parametrize("hook", ["job_started", "job_attempt"])
@pytest.mark.parametrize("removed", [False, True])
def test_interruption_in_a_hook_leaves_no_job_running(
    virtual: Virtual, hook: str, removed: bool
) -> None:
    """A SystemExit from a hook ends the run, and the job of that event has FAILED with it. Once the job stayed RUNNING
    forever; later, it went on running if another instrument had been removed before."""
    instruments = [hooked(before_run=raising(OSError("broken")))] * removed
    instruments.append(hooked(**{hook: raising(SystemExit(3))}))
    job = Job(nap)
    scheduler = Scheduler(job, instruments=instruments)
    with pytest.raises(SystemExit):
        virtual(scheduler.co_run)
    assert (job.state, scheduler.stop_reason) == (
        JobState.FAILED,
        StopReason.INTERRUPTED,
    )
    assert isinstance(job.raised_exception(), SystemExit)


def test_a_job_of_a_group_that_was_stopped_before_it_began_is_not_reached(
    virtual: Virtual,
) -> None:
    """Nothing of such a run is linked or counted: a job in it that is cancelled while the run ends stays as it is."""

    class Slow(Job[None]):
        async def co_shutdown(self) -> None:
            await nap(0.5)

    async def meddle() -> None:
        await nap(0.25)
        assert group.is_running()
        member.cancel()

    def stop(scheduler: Any) -> None:
        if scheduler is group:
            group.cancel()

    member = Slow(nothing, label="member")
    group = Scheduler(member, label="group", critical=False)
    home = Scheduler(group, Job(meddle), label="home")
    watch = hooked(before_run=stop)
    assert virtual(lambda: home.co_run(instruments=[watch]))
    assert member.state is JobState.IDLE


@pytest.mark.parametrize("number", [1, 2])
def test_jobs_cancelled_before_the_run_has_linked_them_settle_once(
    virtual: Virtual, number: int
) -> None:
    """Jobs that `before_run` cancels settle once each; once the second, an input's user, settled twice, and it hung."""
    settled: list[AbstractJob[Any]] = []
    watch = hooked(
        before_run=lambda scheduler: [job.cancel() for job in list(scheduler)[:number]],
        job_settled=lambda _, job: settled.append(job),
    )
    first = Job(nap)
    second = Job(nap, 1, first)
    assert virtual(Scheduler(first, second, timeout=9, instruments=[watch]).co_run)
    assert (first.state, second.state) == (JobState.CANCELLED, JobState.BLOCKED)
    assert settled == [first, second]


@pytest.mark.parametrize("stop", ["cancel", "drain"])
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_starts_after_an_instrument_stops_the_run_at_an_end(
    virtual: Virtual, stop: str, fails: bool
) -> None:
    """After `cancel()` or `drain()` in `job_settled`, no successor starts; once the next in the same turn did."""
    watch = hooked(job_settled=lambda scheduler, _: getattr(scheduler, stop)())
    first = Job(fail_now if fails else nothing)
    blocked = Job(nap, 1, first)  # settles at once, if the first one fails
    others = [Job(nap, required=first), Job(nap, required=blocked)]
    scheduler = Scheduler(first, blocked, *others)
    assert not virtual(functools.partial(scheduler.co_run, instruments=[watch]))
    assert [job.state for job in (blocked, *others)] == [JobState.IDLE] * 3


# --- a run asks its parts at the points that `Part` names, and does not end before they are done
class Seen(Part, Instrument):
    """A part that records what it hears, holds back one job until `wakes_at`, and is busy for as long."""

    def __init__(self, run: Run, held: Job[None], wakes_at: float) -> None:
        self._run, self.held, self.wakes_at = (
            run,
            held,
            run.backend.clock()() + wakes_at,
        )
        self.told: list[str] = []

    def enter(self, phase: RunPhase) -> None:
        self.told.append(phase.name)

    def on_added(self) -> None:
        self.told.append("added")

    def may_start(self, job: Any) -> bool:
        return job is not self.held

    def settled(self, job: Any) -> None:
        self.told.append(f"{job.label} settled")

    def job_settled(self, scheduler: Any, job: Any) -> None:
        self.told.append(f"{job.label} finished")

    def is_busy(self) -> bool:
        return self.wakes_at < math.inf

    def due_at(self) -> float:
        return self.wakes_at

    def act(self) -> None:
        if self._run.clock() >= self.wakes_at:
            self.wakes_at = math.inf
            _steps.schedule(self._run, [self.held])
            self._run.crew.ensure_searcher()


def test_a_run_asks_its_parts_in_order(
    virtual: Virtual, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part hears of the phases and of each job, before instruments; one that it holds back starts in its turn."""
    made: list[Seen] = []
    held = Job(nothing, label="held")

    def make_parts(run: Run, window: Any) -> tuple[Part, ...]:
        made.append(Seen(run, held, 3.0))
        return tuple(made)

    monkeypatch.setattr(
        "trioflow._core.scheduler._base_scheduler.make_parts", make_parts
    )
    scheduler = Scheduler(
        held,
        adder := Job(
            at_once, lambda: scheduler.add(Job(nothing, label="added")), label="adder"
        ),
    )
    assert virtual(scheduler.co_run)
    jobs = [
        f"{label} {what}"
        for label in ("adder", "added", "held")
        for what in ("settled", "finished")
    ]
    assert made[0].told == ["LINKING", "RUNNING", "added", *jobs, "STOPPING"]
    assert (held.started_at or 0) - (adder.started_at or 0) == 3.0


class Late(Part):
    def __init__(self, run: Run) -> None:
        self._run = run
        self.told: list[tuple[str, str]] = []

    def may_start(self, job: Any) -> bool:
        self.told.append(("may start", job.label))
        return True

    def settled(self, job: Any) -> None:
        self.told.append(("settled", job.label))


def test_a_part_that_joins_late_hears_all_that_is_still_to_come(
    virtual: Virtual,
) -> None:
    """It was asked about added jobs alone, and heard of none that settled: what a run asks was fixed as it began."""
    late: list[Late] = []

    async def join() -> None:
        assert scheduler._run is not None
        late.append(scheduler._run.add_part(Late(scheduler._run)))

    first = Job(join, label="first")
    scheduler = Scheduler(first, Job(nothing, required=first, label="after"))
    assert virtual(scheduler.co_run)
    assert late[0].told == [
        ("settled", "first"),
        ("may start", "after"),
        ("settled", "after"),
    ]


def test_a_run_without_parts_calls_nothing_when_a_job_settles() -> None:
    assert with_parts((), None) is None


def test_of_instruments_that_block_the_loop_only_those_of_users_are_named(
    virtual: Virtual, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can mend those of the package."""

    class Slow(Instrument):
        def job_settled(self, scheduler: Any, job: Any) -> None:
            pass

        def __repr__(self) -> str:
            return "Slow()"

    monkeypatch.setattr(_instruments, "MIN_BLOCKING_SECONDS", -1.0)
    for own in ([], [Slow()]):
        caplog.clear()
        assert virtual(Scheduler(Job(nap), instruments=[Trace(), *own]).co_run)
        lines = [text for text in caplog.messages if "blocked the event loop" in text]
        assert [text.split(" blocked")[0] for text in lines] == ["Slow()"] * len(own)
