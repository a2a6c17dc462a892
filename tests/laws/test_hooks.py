"""The grammar of hooks: what each instrument is told of each job of any kind, in which state it is, and after what.

An instrument of its own group, of the scheduler around it and of the run is told the same."""

import contextlib
import re
from collections import defaultdict
from typing import Any
import anyio
import pytest
from trioflow import (
    First,
    Job,
    JobState,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Service,
    Throttled,
    current_job,
)
from trioflow.abc import Instrument
from ..bodies import Flaw, Odd, nap, serve
from ..conftest import Virtual

ATTEMPTS = "(scheduled (started attempt )?)*"
TRY = f"{ATTEMPTS}(ready )?settled "
SENTENCE = re.compile(
    f"(added )?(({TRY}|{ATTEMPTS}scheduled )reopened )*{TRY}|(added )?{ATTEMPTS}$|"
)
"""What an instrument may be told of one job: an attempt is ready before it starts, and starts before it is made.

A job that has settled is reopened, or one that waits to start.
"""
STATES = {
    "added": {JobState.IDLE}, "scheduled": {JobState.SCHEDULED}, "started": {JobState.RUNNING},
    "attempt": {JobState.RUNNING}, "ready": {JobState.RUNNING},
    "settled": {state for state in JobState if state.is_settled}, "reopened": {JobState.IDLE},
}  # fmt: skip


class Listener(Instrument):
    """Notes each hook, with the job and its state, and the beginning and the end of each run."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.by_job: defaultdict[Any, list[str]] = defaultdict(list)
        self.wrong: list[str] = []

    def before_run(self, scheduler: Any) -> None:
        self.told.append(("begins", scheduler))

    def after_run(self, scheduler: Any) -> None:
        self.told.append(("ends", scheduler))


def hook(name: str) -> Any:
    def tell(self: Listener, scheduler: Any, job: Any) -> None:
        self.told.append((name, job))
        self.by_job[job].append(name)
        if job.state not in STATES[name] or scheduler is not job.scheduler:
            self.wrong.append(
                f"{name} of {job.label}, which is {job.state.value} in {scheduler.label}"
            )

    return tell


for each in STATES:
    setattr(Listener, "service_ready" if each == "ready" else f"job_{each}", hook(each))


class Scene:
    """Jobs of all kinds, with an instrument of each level."""

    def __init__(self, end: str) -> None:
        self.end = end
        self.own, self.around, self.of_run = Listener(), Listener(), Listener()
        service = Service(self.serve, label="service")
        user = Job(nap, 1, required=service, label="user")
        self.flaky = Job(self.fail, 1, label="flaky")
        blocked = Job(nap, 1, required=self.flaky, label="blocked")
        self.late = Job(self.fail, 1, label="late", required=user)
        inner = [
            service,
            user,
            self.late,
            Job(self.fail, 2, retry=Retry(3), label="retried"),
            self.flaky,
            blocked,
        ]
        self.group = Scheduler(*inner, label="group", instruments=[self.own])
        fine = Job(nap, 1, label="fine")
        self.scheduler = Scheduler(
            self.group, fine, Job(nap, required=fine, run_if="failed", label="skipped"),
            First(Job(nap, 1), Job(nap, 9), label="first"),
            Job(self.throttle, needs={"api": 1}, label="throttled"),
            Job(anyio.sleep_forever, forever=True, label="forever"),
            Job(self.steer, label="steers"),
            Job(nap, 1, required=self.group, run_if="failed", label="clean-up"),
            log=False, pool=Pool(api=Rate(requests=9, per=1)), label="outer", instruments=[self.around],
        )  # fmt: skip

    async def serve(self, *, task_status: Any) -> None:
        await anyio.sleep(0.5)
        task_status.started()
        await anyio.sleep_forever()

    async def fail(self, times: int) -> None:
        await anyio.sleep(0.25)
        if current_job().attempts <= times:
            raise Flaw("broken")

    async def throttle(self) -> None:
        if not self.around.by_job[current_job()].count("scheduled") > 1:
            raise Throttled("api", after=1)

    async def steer(self) -> None:
        """Add jobs, try a member again while its group runs, and the group after its end; then end the run."""
        self.scheduler.update(
            [
                Job(nap, label="added"),
                Scheduler(Job(nap, label="x"), label="added group"),
            ]
        )
        await self.flaky.wait_settled()
        await anyio.sleep(0.1)
        self.flaky.try_again()
        await self.group.wait_settled()
        await anyio.sleep(0.1)
        self.late.try_again()
        await anyio.sleep(5)
        if self.end == "cancelled":
            self.scheduler.cancel()
        elif self.end == "drained":
            self.scheduler.drain()
        elif self.end == "interrupted":
            raise Odd
        elif self.end == "critical":
            current_job().scheduler.add(Job(self.fail, 9, critical=True))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "end", ["completed", "cancelled", "drained", "interrupted", "critical", "timeout"]
)
def test_each_instrument_is_told_of_each_job_in_whole_sentences(
    virtual: Virtual, end: str
) -> None:
    scene = Scene(end)
    scheduler = scene.scheduler

    async def main() -> None:
        await scheduler.co_run(
            instruments=[scene.of_run, scene.of_run],
            timeout=4 if end == "timeout" else None,
        )

    if end == "interrupted":
        with pytest.raises(Odd):
            virtual(main)
    else:
        virtual(main)
    assert scene.of_run.told == scene.around.told
    inside = [
        each
        for each in scene.around.told
        if each[1] is scene.group or each[1].scheduler is scene.group
    ]
    assert scene.own.told == [
        each
        for each in inside
        if each[1] is not scene.group or each[0] in ("begins", "ends")
    ]
    assert [*scene.own.wrong, *scene.around.wrong] == []
    for job, words in scene.around.by_job.items():
        assert SENTENCE.fullmatch(" ".join([*words, ""])), f"{job.label}: {words}"
    causes = set[Any]()
    for word, job in scene.around.told:
        causes |= {job} if word in ("ready", "settled") else set()
        assert word != "scheduled" or causes.issuperset(job.required), (
            f"{job.label} is told before its cause"
        )
    assert (scene.around.told[0], scene.around.told[-1]) == (
        ("begins", scheduler),
        ("ends", scheduler),
    )


class Meddler(Listener):
    """At one call of a hook, by its number, ends a job; it has it tried again then, or at the next call that may."""

    def __init__(self, number: float, job: Any) -> None:
        super().__init__()
        self.number, self.job, self.has_tried, self.had_succeeded = (
            number,
            job,
            False,
            False,
        )

    def meddle(self) -> None:
        if len(self.told) == self.number:
            self.job.cancel()
        if len(self.told) >= self.number > 0 and not self.has_tried:
            self.had_succeeded = self.job.is_succeeded()
            # It runs, or what has used its result; or it ends when this step is over.
            with contextlib.suppress(RuntimeError):
                self.job.try_again()
                self.has_tried = True


def meddling(name: str) -> Any:
    def tell(self: Meddler, scheduler: Any, job: Any) -> None:
        getattr(Listener, f"job_{name}")(self, scheduler, job)
        self.meddle()

    return tell


for each in STATES:
    setattr(Meddler, f"job_{each}", meddling(each))


@pytest.mark.sampled
@pytest.mark.parametrize("line", ["none", "window", "limiter", "policy", "needs"])
def test_a_hook_may_end_a_job_and_have_it_tried_again_at_any_call(
    virtual: Virtual, line: str
) -> None:
    """It and all that follows it then start when what they require has settled; the other jobs run as they would."""
    options: dict[str, Any] = {
        "none": {}, "window": {"jobs_window": 2}, "limiter": {}, "needs": {"pool": Pool(cpu=2)},
        "policy": {"jobs_window": 2, "policy": "critical-path"},
    }[line]  # fmt: skip
    needs = {"cpu": 1} if line == "needs" else {}

    async def meddle(number: int, place: int) -> tuple[Meddler, list[int]]:
        failed: set[str] = set()

        async def fail_once(label: str) -> None:
            await anyio.sleep(0.25)
            if label not in failed:
                failed.add(label)
                raise Flaw("once")

        service, slow = (
            Service(serve, 0.5, label="service"),
            Job(nap, 2, label="slow", needs=needs),
        )
        flaky = Job(fail_once, "flaky", label="flaky", retry=1, needs=needs)
        later = Job(
            fail_once,
            "later",
            label="later",
            retry=Retry(1, first=0.5, jitter=False),
            needs=needs,
        )
        one = Job(nap, label="one", required=[service, flaky, later], needs=needs)
        two = Job(nap, label="two", required=[service, flaky, later, slow], needs=needs)
        jobs: list[Any] = [flaky, slow, later, one, two]
        limits = (
            {"jobs_window": anyio.CapacityLimiter(2)} if line == "limiter" else options
        )
        scheduler, meddler = (
            Scheduler(service, *jobs, **limits),
            Meddler(number, jobs[place]),
        )
        result = await scheduler.co_run(timeout=60, instruments=[meddler])
        where = f"at call {number}, {meddler.told[number - 1]}, of {meddler.job.label}"
        assert meddler.wrong == [], where
        assert all(
            SENTENCE.fullmatch(" ".join([*words, ""]))
            for words in meddler.by_job.values()
        ), where
        assert not meddler.has_tried or (
            result and all(job.is_succeeded() for job in jobs)
        ), where
        assert scheduler.pool is None or "cpu=2 of 2 free" in repr(scheduler.pool), (
            where
        )
        return meddler, [job.attempts for job in jobs]

    async def main() -> None:
        meddler, usual = await meddle(0, 0)
        calls, tried = len(meddler.told), 0
        for place in range(len(usual)):
            for number in range(1 + place % 2, calls + 1, 2):
                meddler, attempts = await meddle(number, place)
                if meddler.has_tried:
                    tried += 1
                    attempts[place] = usual[place]
                    runs_once = attempts == usual or meddler.had_succeeded
                    assert runs_once, (number, meddler.told[number - 1], meddler.job)
        assert tried > calls / 2

    virtual(main)
