"""A running scheduler accepts jobs and requirements, and rejects those that cannot be run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from trioflow import CycleError, Job, MissingRequirement, Scheduler, Sequence
from trioflow.abc import Instrument

from ..bodies import IDLE, SUCCEEDED, checked, fail, later, nap, timed

if TYPE_CHECKING:
    from ..conftest import Virtual


# --- added jobs start


def test_job_adds_a_job_that_starts_at_once(virtual: Virtual) -> None:
    """A job without requirements, added by a job, starts at once, and the run waits for it."""
    new = Job(nap, 5, "new")
    scheduler = Scheduler(Job(later, 1, lambda: scheduler.add(new)))
    assert virtual(checked(scheduler)) == (True, 6)
    assert new.started_at == 1
    assert new.result() == "new"


def test_another_task_of_the_thread_adds_a_job(virtual: Virtual) -> None:
    """Any code in the thread of the run may add a job, for example another task."""
    new = Job(nap, 5)
    scheduler = Scheduler(Job(nap, 2))

    async def main() -> Any:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(later, 1, lambda: scheduler.add(new))
            return await timed(scheduler)

    assert virtual(main) == (True, 6)
    assert new.started_at == 1


def test_instrument_adds_a_job(virtual: Virtual) -> None:
    """An instrument's hook is called in the thread of the run, so it may add jobs."""
    first, new = Job(nap, 1), Job(nap, 1)
    new.requires(first)

    class Grower(Instrument):
        def job_finished(self, scheduler: Any, job: Any) -> None:
            if job is first:
                scheduler.add(new)

    assert virtual(timed, Scheduler(first, instruments=[Grower()])) == (True, 2)
    assert new.state is SUCCEEDED


@pytest.mark.parametrize("ending", [nap, fail])
def test_added_job_waits_for_what_it_requires(virtual: Virtual, ending: Any) -> None:
    """An added job starts when all that it requires has settled, be that running, idle or settled already."""
    settled, running = Job(ending, 1), Job(ending, 3)
    idle = Job(ending, 4, required=running, run_if="settled")
    on_settled, on_running = Job(nap).requires(settled, settled=True), Job(nap).requires(running, settled, settled=True)
    on_idle = Job(nap).requires(idle, settled, running, settled=True)
    scheduler = Scheduler(settled, running, idle)
    scheduler.add(Job(later, 2, lambda: scheduler.update([on_settled, on_running, on_idle])))
    assert virtual(timed, scheduler) == (ending is nap, 8)
    assert [job.started_at for job in (on_settled, on_running, on_idle)] == [2, 3, 7]


def test_added_job_waits_for_a_slot_of_the_window(virtual: Virtual) -> None:
    """An added job waits for a slot like any other."""
    new = Job(nap, 1)
    scheduler = Scheduler(Job(later, 1, lambda: scheduler.add(new)), Job(nap, 5), Job(nap, 5), jobs_window=2)
    assert virtual(timed, scheduler) == (True, 6)
    assert new.started_at == 5


def test_update_accepts_jobs_that_require_each_other(virtual: Virtual) -> None:
    """Jobs of one `update()` may require each other, in any order, and a Sequence is accepted."""
    last, first, third = Job(nap, 1), Job(nap, 1), Job(nap, 1)
    last.requires(first)
    scheduler = Scheduler(Job(later, 1, lambda: scheduler.update([last, first, Sequence(third, Job(nap, 2))])))
    assert virtual(checked(scheduler)) == (True, 4)
    assert (first.started_at, last.started_at, third.started_at) == (1, 2, 1)


def test_scheduler_option_adds_a_job_during_a_run(virtual: Virtual) -> None:
    """During a run, `scheduler=` at the creation of a job is the same as `add()`."""
    scheduler = Scheduler(Job(later, 1, lambda: Job(nap, 2, scheduler=scheduler)))
    assert virtual(checked(scheduler)) == (True, 3)


def test_added_nested_scheduler_runs(virtual: Virtual) -> None:
    """A nested scheduler that is added during a run runs with all its jobs."""
    inside = Job(nap, 2, "inside")
    scheduler = Scheduler(Job(later, 1, lambda: scheduler.add(Scheduler(inside))))
    assert virtual(checked(scheduler)) == (True, 3)
    assert inside.result() == "inside"


def test_job_adds_to_a_nested_scheduler_that_runs(virtual: Virtual) -> None:
    """A nested scheduler that is running accepts jobs of its own, and waits for them."""
    new = Job(nap, 5)
    inner = Scheduler(Job(nap, 2))
    last = Job(nap, 1, required=inner)
    outer = Scheduler(inner, last, Job(later, 1, lambda: inner.add(new)))
    assert virtual(checked(outer)) == (True, 7)
    assert (new.started_at, last.started_at) == (1, 6)


# --- forever jobs


def test_forever_job_after_an_ordinary_one_does_not_keep_the_run_going(virtual: Virtual) -> None:
    """A forever job that requires an ordinary one is cancelled when that one has settled.

    The worker of the ordinary job continues with the forever job, but first reports to the run that the other settled.
    """
    first, forever = Job(nap, 1), Job(nap, 999, forever=True)
    forever.requires(first)
    assert virtual(timed, Scheduler(first, forever)) == (True, 1)


def test_run_of_forever_jobs_ends_when_the_ordinary_jobs_they_added_have_settled(virtual: Virtual) -> None:
    """A run of forever jobs alone goes on until ordinary jobs that they add have settled."""
    new = Job(nap, 2)
    scheduler: Scheduler

    async def forever() -> None:
        await anyio.sleep(3)
        scheduler.add(new)
        await anyio.sleep_forever()

    scheduler = Scheduler(Job(forever, forever=True))
    assert virtual(timed, scheduler) == (True, 5)
    assert new.state is SUCCEEDED


def test_forever_job_may_add_a_job_in_its_last_turns(virtual: Virtual) -> None:
    """A forever job may add a job when the run is about to end, which then goes on until that job has settled."""
    first, new = Job(nap, 1), Job(nap, 5)
    scheduler: Scheduler

    async def forever() -> None:
        await first.wait_settled()
        scheduler.add(new)
        await anyio.sleep_forever()

    scheduler = Scheduler(first, Job(forever, forever=True))
    assert virtual(timed, scheduler) == (True, 6)
    assert new.state is SUCCEEDED


def test_last_turns_of_forever_jobs_count_from_the_last_job_that_settled(virtual: Virtual) -> None:
    """Forever jobs get 16 turns of the loop after all other jobs have settled, even those added in such turns."""
    first, new = Job(nap, 1), Job(nap, 0)
    turns: list[int] = []
    scheduler: Scheduler

    async def forever() -> None:
        await first.wait_settled()
        for _ in range(8):
            await anyio.lowlevel.checkpoint()
        scheduler.add(new)
        await new.wait_settled()
        for turn in range(12):
            await anyio.lowlevel.checkpoint()
            turns.append(turn)
        await anyio.sleep_forever()

    scheduler = Scheduler(first, Job(forever, forever=True))
    assert virtual(timed, scheduler) == (True, 1)
    assert turns == list(range(12))


# --- requires during a run


def test_requires_of_an_idle_job_adds_requirements_during_a_run(virtual: Virtual) -> None:
    """An IDLE job may require more jobs during a run, and does not wait for those that have settled already."""
    settled, running, slow = Job(nap, 1), Job(nap, 3), Job(nap, 7)
    idle = Job(nap, required=running)
    scheduler = Scheduler(settled, running, slow, idle, Job(later, 2, lambda: idle.requires(slow, settled)))
    assert virtual(checked(scheduler)) == (True, 8)
    assert idle.started_at == 7
    assert list(idle.required) == [running, slow, settled]


@pytest.mark.parametrize("others", [0, 1, 3, 4, 9])
def test_a_job_with_an_added_requirement_starts_after_those_that_wait_already(virtual: Virtual, others: int) -> None:
    """A job that requires another one during a run starts after those that wait for that one already."""
    started: list[int] = []

    async def start(number: int) -> None:
        started.append(number)

    gate, slow = Job(nap, 3), Job(nap, 5)
    late = Job(start, others, required=gate)
    before = [Job(start, number, required=slow) for number in range(others)]
    behind = [Job(start, number, required=slow) for number in range(others + 1, 2 * others)]
    scheduler = Scheduler(gate, slow, before, late, behind, Job(later, 1, lambda: late.requires(slow)))
    assert virtual(checked(scheduler)) == (True, 5)
    assert started == [*(number for number in range(2 * others) if number != others), others]


@pytest.mark.parametrize("seconds", [1, 9])
def test_requires_of_a_job_that_has_started_raises(virtual: Virtual, seconds: float) -> None:
    """`requires()` of a job that runs or has settled raises an error with its state, and changes nothing."""
    job, other = Job(nap, seconds, label="late"), Job(nap, 20)

    def meddle() -> None:
        with pytest.raises(RuntimeError, match=r"'late'.*(succeeded|running)"):
            job.requires(other)

    virtual(checked(Scheduler(job, other, Job(later, 2, meddle))))
    assert list(job.required) == []


def test_requires_of_a_scheduled_job_raises(virtual: Virtual) -> None:
    """`requires()` of a job that only waits for a slot raises, because such a job is not IDLE either."""
    waiting = Job(nap, 1, label="late")

    def meddle() -> None:
        with pytest.raises(RuntimeError, match=r"'late'.*scheduled"):
            waiting.requires(other)

    meddler, other = Job(later, 1, meddle), Job(nap, 1)
    virtual(checked(Scheduler(meddler, waiting, other, jobs_window=1)))
    assert list(waiting.required) == []


def test_requirement_that_closes_a_cycle_during_a_run_raises_at_the_call(virtual: Virtual) -> None:
    """A requirement that closes a cycle during a run raises a CycleError at the call, and the run goes on."""
    first = Job(nap, 1)
    a, b, c = (Job(nap, 1, label=label) for label in "abc")
    Sequence(first, a, b, c)

    def meddle() -> None:
        with pytest.raises(CycleError, match="c requires b requires a requires c") as caught:
            a.requires(c)
        assert set(caught.value.cycle) == {a, b, c}

    assert virtual(checked(Scheduler(first, a, b, c, Job(later, 0.5, meddle)))) == (True, 4)
    assert list(a.required) == [first]


def test_requirement_that_closes_a_cycle_through_a_cancelled_job_raises(virtual: Virtual) -> None:
    """A requirement that closes a cycle through a cancelled job raises, because the next run could not start."""
    first = Job(nap, 1)
    a, b = Job(nap, 1, label="a", required=first), Job(nap, 1, label="b")
    b.requires(a)

    def meddle() -> None:
        b.cancel()
        with pytest.raises(CycleError):
            a.requires(b)

    scheduler = Scheduler(first, a, b, Job(later, 0.5, meddle))
    virtual(checked(scheduler))
    assert scheduler.is_runnable() is True


# --- rejected


def growing(virtual: Virtual, error: type[Exception], match: str, change: Callable[[Scheduler], object]) -> Scheduler:
    """Run a scheduler in which `change` is rejected with `error`, and nothing has changed by it."""

    def meddle() -> None:
        with pytest.raises(error, match=match):
            change(scheduler)

    scheduler = Scheduler(
        Job(later, 1, meddle, label="member"), Job(nap, 9, forever=True, label="monitor"), label="home"
    )
    members = list(scheduler)
    assert virtual(checked(scheduler)) == (True, 1)
    assert list(scheduler) == members
    return scheduler


def test_added_job_that_requires_a_nonmember_is_rejected(virtual: Virtual) -> None:
    """An added job that requires one outside the scheduler raises an error with both jobs and the scheduler."""
    stray = Job(nap, label="stray")
    new = Job(nap, label="new", required=stray)
    growing(virtual, MissingRequirement, r"'new'.*'stray'.*'home'", lambda scheduler: scheduler.add(new))
    assert new.scheduler is None


def test_added_job_that_requires_a_forever_job_is_rejected(virtual: Virtual) -> None:
    """A job that is added during a run cannot require a forever job."""
    growing(
        virtual, ValueError, r"'new'.*'monitor'.*ever",
        lambda scheduler: scheduler.add(Job(nap, label="new", required=list(scheduler)[1])),
    )  # fmt: skip


def test_update_with_a_requirement_on_a_forever_job_of_the_update_is_rejected(virtual: Virtual) -> None:
    """A requirement on a forever job of the same update is rejected as such, not because that job is missing."""
    monitor = Job(nap, label="new monitor", forever=True)
    user = Job(nap, label="new", required=monitor)
    growing(virtual, ValueError, r"'new'.*'new monitor'.*ever", lambda scheduler: scheduler.update([monitor, user]))


def test_update_with_one_bad_job_adds_none_during_a_run(virtual: Virtual) -> None:
    """During a run, `update()` adds no job at all if one of them is rejected."""
    good, stray = Job(nap), Job(nap)
    bad = Job(nap, required=stray)
    growing(virtual, MissingRequirement, "requires", lambda scheduler: scheduler.update([good, bad]))
    assert good.scheduler is bad.scheduler is None
    assert good.state is IDLE


def test_update_with_a_cycle_raises(virtual: Virtual) -> None:
    """Jobs of one `update()` that require each other in a cycle raise a CycleError."""
    a, b = Job(nap, label="a"), Job(nap, label="b")
    Sequence(a, b)
    a.requires(b)
    growing(virtual, CycleError, "a requires b requires a", lambda scheduler: scheduler.update([a, b]))


def test_nested_scheduler_is_checked_before_it_is_added(virtual: Virtual) -> None:
    """A nested scheduler that is added during a run is rejected if it has a fault inside, at any depth."""
    a, b = Job(nap, label="a"), Job(nap, label="b")
    Sequence(a, b)
    a.requires(b)
    growing(virtual, CycleError, "a requires b", lambda scheduler: scheduler.add(Scheduler(Scheduler(a, b))))


def test_stopping_scheduler_rejects_jobs_and_requirements(virtual: Virtual) -> None:
    """While a run unwinds, `add` and `requires` raise RuntimeErrors that name the scheduler."""
    told: list[str] = []

    async def adds_when_cancelled() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            for change in (lambda: scheduler.add(Job(nap)), lambda: idle.requires(running)):
                with pytest.raises(RuntimeError, match="'home' is stopping") as caught:
                    change()
                told.append(str(caught.value))

    running = Job(adds_when_cancelled)
    idle = Job(nap, required=running)
    scheduler = Scheduler(running, idle, label="home", timeout=1)
    assert virtual(timed, scheduler) == (False, 1)
    assert len(told) == 2
