"""Each public call that changes a run may come from any thread, or is refused by an error that speaks of the thread."""

import inspect
from collections.abc import Callable
from typing import Any
import anyio
import pytest
from trioflow import (
    First,
    Job,
    PerKey,
    Pool,
    Retry,
    Scheduler,
    Service,
    current_job,
    current_scheduler,
    ref,
)
from trioflow.abc import AbstractJob
from ..bodies import in_threads, nap
from ..conftest import Virtual

REFUSED: dict[str, Callable[[Scheduler, Any, Any], object]] = {
    "add": lambda scheduler, job, status: scheduler.add(Job(nap)),
    "update": lambda scheduler, job, status: scheduler.update([Job(nap)]),
    "map": lambda scheduler, job, status: scheduler.map(nap, [1]),
    "requires": lambda scheduler, job, status: job.requires(next(iter(scheduler))),
    "jobs_window": lambda scheduler, job, status: setattr(scheduler, "jobs_window", 7),
    "room": lambda scheduler, job, status: anyio.run(scheduler.room, 3),
    "wait_settled": lambda scheduler, job, status: anyio.run(job.wait_settled),
    "started": lambda scheduler, job, status: status.started("early"),
}
REFUSED_IN_A_RUN: dict[str, Callable[[Scheduler, Any, Any], object]] = {
    "remove": lambda scheduler, job, status: scheduler.remove(job),
    "run": lambda scheduler, job, status: scheduler.run(),
    "a setting": lambda scheduler, job, status: setattr(scheduler, "timeout", 5),
}
"""In whatever thread, so their errors do not speak of it."""
IN_ANY_THREAD = {"cancel", "drain", "pause", "resume", "try_again", "progress", "used"}
NO_RUN_OF_THEIRS = {
    "run",
    "co_run",
    "run_as_settled",
    "close",
    "remove",
    "sanitize",
    "co_shutdown",
}
"""They are refused during a run, in whatever thread, or are of the run."""
ASK = {
    "as_settled", "debrief", "explain", "failures", "graph", "iterate_jobs", "list", "results",
    "raise_for_failures", "result", "raised_exception",
}  # fmt: skip


def test_each_method_has_its_threads() -> None:
    public = {
        name
        for name in dir(Scheduler)
        if name[0] != "_"
        and callable(inspect.getattr_static(Scheduler, name))
        and not name.startswith("is_")
    }
    assert public == {*REFUSED, *IN_ANY_THREAD, *NO_RUN_OF_THEIRS, *ASK} - {
        "jobs_window",
        "started",
    }


@pytest.mark.parametrize("call", [*REFUSED, *REFUSED_IN_A_RUN])
def test_what_only_the_thread_of_the_run_may_call_says_so(
    virtual: Virtual, call: str
) -> None:
    raised: list[BaseException] = []

    async def serve(*, task_status: Any) -> None:
        def call_it() -> None:
            try:
                (REFUSED | REFUSED_IN_A_RUN)[call](scheduler, last, task_status)
            except BaseException as error:
                raised.append(error)

        in_threads(call_it)
        assert not current_job().is_settled()
        task_status.started("value")
        await anyio.sleep_forever()

    service = Service(serve, label="home service")
    last = Job(nap, 1, required=service, label="home job")
    scheduler = Scheduler(service, last, label="home", jobs_window=3)
    assert virtual(scheduler.co_run)
    assert [type(error) for error in raised] == [RuntimeError]
    assert ("thread" in str(raised[0])) is (call in REFUSED)
    assert "'home" in str(raised[0])
    assert (
        len(scheduler),
        scheduler.jobs_window,
        service.result(),
        [*last.required],
    ) == (2, 3, "value", [service])


# --- what a run refuses before it begins, `add` refuses while it goes on, in the same words; and nothing is added then
class Unready(AbstractJob[None]):
    """A job that fails the check of its kind."""

    async def co_run(self) -> None:
        await nap()

    def check_before_run(self) -> None:
        raise ValueError(f"{self.label!r} is not ready")


def cycle() -> list[Job[Any]]:
    a = Job(nap, label="a")
    return [a.requires(b := Job(nap, label="b", required=a)), b]


def closed() -> Scheduler:
    (scheduler := Scheduler(Job(nap), label="closed")).close()
    return scheduler


def after_forever() -> list[Job[Any]]:
    forever = Job(nap, forever=True, label="forever")
    return [forever, Job(nap, required=forever, label="bad")]


MEMBERS: dict[str, Callable[[], Any]] = {
    "an unknown need": lambda: Job(nap, needs={"cpu": 1}, label="bad"),
    "too large a need": lambda: Job(nap, needs={"ram": 3}, label="bad"),
    "two keys": lambda: Job(nap, needs={"host": "a", "user": "b"}, label="bad"),
    "a need of a group": lambda: Scheduler(Job(nap), needs={"ram": 3}, label="bad"),
    "more than its group has": lambda: Scheduler(
        Job(nap, needs={"ram": 2}, label="bad"), needs={"ram": 1}
    ),
    "a coroutine with retry": lambda: Job(nap(), retry=Retry(2), label="bad"),
    "a coroutine in a group with retry": lambda: Scheduler(
        Job(nap(), label="bad"), retry=Retry(2)
    ),
    "a stray requirement": lambda: Job(
        nap, label="bad", required=Job(nap, label="stray")
    ),
    "a cycle": cycle,
    "a requirement on a forever job": after_forever,
    "a First of too few": lambda: First(Job(nap), enough=2, label="bad"),
    "a group that is held": lambda: Scheduler(Job(nap), hold=True, label="bad"),
    "a closed group": closed,
    "the check of its kind": lambda: Unready(label="bad"),
}
DEPTHS: dict[str, Callable[[Any], Any]] = {
    "": lambda members: members,
    "in a group": lambda members: Scheduler(members, label="inner"),
    "in a group of a First": lambda members: First(
        Scheduler(members, label="inner"), Job(nap, 9), label="outer"
    ),
}


@pytest.mark.parametrize("fault", MEMBERS)
def test_what_a_run_refuses_as_it_begins_it_refuses_while_it_goes_on(
    virtual: Virtual, fault: str
) -> None:
    pool = Pool(ram=2, host=PerKey(1), user=PerKey(1))
    for wrap in DEPTHS.values():
        before = Scheduler(wrap(MEMBERS[fault]()), label="home", pool=pool)
        with pytest.raises((ValueError, RuntimeError)) as refused:
            virtual(before.co_run)
        late = Scheduler(wrap(MEMBERS[fault]()), label="late")
        members = [*late]
        for job in members:
            late.remove(job)

        async def grow(members: list[Any] = members) -> BaseException:
            with pytest.raises((ValueError, RuntimeError)) as found:
                current_scheduler().update(members)
            assert len(current_scheduler()) == 1
            return found.value

        growing = Job(grow)
        assert virtual(Scheduler(growing, label="home", pool=pool).co_run)
        assert type(growing.result()) is refused.type
        assert str(growing.result()) == str(refused.value)
        assert [job.scheduler for job in members] == [None] * len(members)
        for job in (before, *members):
            job.close()


@pytest.mark.parametrize(
    "fault", [name for name in MEMBERS if "need" in name or "more than" in name]
)
def test_a_group_that_has_not_begun_refuses_needs_that_nothing_can_meet(
    virtual: Virtual, fault: str
) -> None:
    pool = Pool(ram=2, host=PerKey(1), user=PerKey(1))

    async def grow(group: Scheduler) -> None:
        for wrap in DEPTHS.values():
            bad = wrap(MEMBERS[fault]())
            with pytest.raises(ValueError, match="'bad' needs"):
                group.update(bad if isinstance(bad, list) else [bad])
        assert len(group) == 1

    group = Scheduler(Job(nap), label="later")
    growing = Job(grow, ref(group))
    group.requires(growing)
    assert virtual(Scheduler(growing, group, pool=pool).co_run)
