"""Between two attempts a job holds nothing; another try is like any other, whoever has asked for it."""

import itertools
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any
import anyio
import pytest
from trioflow import (
    Budget,
    Job,
    JobState,
    Pool,
    Retry,
    Scheduler,
    Throttled,
    current_job,
)
from trioflow.abc import enclosing_schedulers, fraction_done, is_scheduler
from ..bodies import fail_now, nap
from ..conftest import Virtual


def test_a_function_decides_on_the_pause(virtual: Virtual) -> None:
    """The seconds that `on` returns take the place of the pause; False, None and a wrong value end the attempts."""

    class Busy(Exception):
        pass

    def retry_after(error: Exception) -> Any:
        return error.args[0] if isinstance(error, Busy) else False

    expected = [(7, 14), (0, 0), (False, 0), (None, 0), ("later", 0)]
    for value, elapsed in expected:
        job = Job(
            fail_now, Busy(value), retry=Retry(2, first=60, on=retry_after), label="job"
        )
        assert not virtual(Scheduler(job).co_run)
        assert (job.elapsed, job.attempts) == (elapsed, 3 if type(value) is int else 1)
    assert isinstance(job.raised_exception(), TypeError)
    assert str(job.raised_exception()).startswith(
        "on='later' of the Retry of 'job', which returned that: give a"
    )


@pytest.mark.parametrize(
    "retry",
    [
        2000,
        Retry(None, first=0),
        Retry(None, first=0, factor=9),
        Retry(None, first=1, cap=0),
    ],
)
def test_no_backoff_stays_none_whatever_the_number_of_the_attempt(
    virtual: Virtual, retry: Any
) -> None:
    """From the 1,025th retry on, the power of 2 has no float, and a job without backoffs once waited a minute."""

    async def poll() -> float:
        if current_job().attempts <= 1100:
            raise LookupError
        return anyio.current_time() - began[0]

    async def main() -> bool:
        began.append(anyio.current_time())
        return await Scheduler(job).co_run()

    began: list[float] = []
    job = Job(poll, retry=retry, log=False)
    assert virtual(main)
    assert job.result() == 0


def test_backoffs_grow_by_their_factor_up_to_their_cap(virtual: Virtual) -> None:
    for first, elapsed in ((2, 2 + 6 + 10 + 10), (20, 4 * 10)):
        job = Job(fail_now, retry=Retry(4, first=first, factor=3, cap=10, jitter=False))
        assert not virtual(Scheduler(job).co_run)
        assert (job.attempts, job.elapsed) == (5, elapsed)


@pytest.mark.parametrize("delays", [*itertools.permutations((0, 1, 2))])
@pytest.mark.parametrize("is_throttled", [False, True])
def test_each_job_starts_at_the_end_of_its_own_backoff(
    virtual: Virtual, delays: tuple[int, ...], is_throttled: bool
) -> None:
    """Whatever else is in one: with a longer backoff pending, the end of a shorter one did not wake the run."""
    pauses = {"k0": 50, "k1": 7, "k2": 30}
    starts: dict[str, float] = {}

    async def body(key: str, delay: float) -> None:
        if current_job().attempts == 1 and key not in starts:
            starts[key] = 0
            await nap(delay)
            raise Throttled(key, after=pauses[key]) if is_throttled else OSError
        starts[key] = anyio.current_time() - began[0]

    async def main() -> bool:
        began.append(anyio.current_time())
        return await Scheduler(
            *jobs, Job(nap, 1000), pool=Pool(k0=1, k1=1, k2=1)
        ).co_run()

    began: list[float] = []
    jobs = [
        Job(
            body,
            key,
            delay,
            needs={key: 1},
            retry=Retry(1, first=pauses[key], jitter=False),
            log=False,
        )
        for key, delay in zip(pauses, delays, strict=True)
    ]
    assert virtual(main)
    assert starts == {
        key: delay + pauses[key] for key, delay in zip(pauses, delays, strict=True)
    }


@pytest.mark.parametrize("policy", ["fifo", "critical-path"])
def test_a_retried_job_starts_after_those_that_were_ready_before(
    virtual: Virtual, policy: str
) -> None:
    """Without a pause, an attempt that failed makes the job ready anew, under any policy and in any window."""
    starts: list[str] = []

    async def fail_first(name: str) -> None:
        starts.append(name)
        if name not in starts[:-1]:
            raise OSError

    for window in (None, 1, 3, anyio.CapacityLimiter(1)):
        starts.clear()
        jobs = [
            Job(fail_first, name, retry=1, own_task=name > "b") for name in "abcdef"
        ]
        assert virtual(Scheduler(*jobs, policy=policy, jobs_window=window).co_run)
        assert "".join(starts) == "abcdef" * 2, window


def test_a_retry_that_waits_for_a_slot_is_not_denied(virtual: Virtual) -> None:
    explained: list[str] = []

    async def look() -> None:
        await anyio.sleep(2)
        explained.extend(scheduler.explain(job) for job in (flaky, last))

    flaky = Job(
        fail_now,
        OSError("broken"),
        label="flaky",
        retry=Retry(3, first=1, jitter=False),
        critical=False,
    )
    last = Job(anyio.sleep, 0, label="last", required=flaky)
    scheduler = Scheduler(flaky, Job(look, label="look"), last, jobs_window=1)
    virtual(scheduler.co_run)
    assert explained == [
        "'flaky' waits for a slot: the window is full, with 'look'; it is attempt 2 of 4, after OSError: broken",
        "'last' waits for 'flaky': 'flaky' waits for attempt 2, after OSError: broken",
    ]


def test_what_is_said_during_a_pause(virtual: Virtual) -> None:
    """`explain` names the rest of the pause, the number of the attempt and the last failure; `cancel()` ends it."""
    explained: list[str] = []

    async def look() -> None:
        await anyio.sleep(2)
        explained.append(scheduler.explain(job))
        assert (job.attempts, job.is_scheduled()) == (1, True)
        job.cancel()

    job = Job(
        fail_now, OSError("broken"), label="job", retry=Retry(4, first=5, jitter=False)
    )
    scheduler = Scheduler(job, Job(look))
    assert virtual(scheduler.co_run)
    assert explained == [
        "'job' will be retried in 3 s, attempt 2 of 5, after OSError: broken"
    ]
    assert (job.state.name, job.attempts, job.elapsed) == ("CANCELLED", 1, 2)


def test_what_is_said_of_an_attempt_after_another_try_counts_on(
    virtual: Virtual,
) -> None:
    explained: list[str] = []

    async def again() -> None:
        await job.wait_settled()
        job.try_again()
        await anyio.sleep(2)
        explained.append(scheduler.explain(job))

    job = Job(fail_now, label="job", retry=Retry(2, first=5, factor=1, jitter=False))
    scheduler = Scheduler(job, Job(again))
    assert not virtual(scheduler.co_run)
    assert explained == [
        "'job' will be retried in 3 s, attempt 5 of 6, after OSError: broken"
    ]
    assert job.attempts == 6


# --- another try: what counts on counts on, all else is new
@pytest.mark.parametrize(
    "way",
    [
        "retry",
        "the job",
        "its group",
        "all",
        "the job in an ended group",
        "on_job_settled",
    ],
)
def test_a_job_in_its_second_try_says_the_same_in_whatever_way_it_has_come_to_it(
    virtual: Virtual, way: str
) -> None:
    seen: dict[str, Any] = {}

    async def work(_: object) -> str:
        job = current_job()
        if job.attempts == 1:
            job.progress(0.5)
            job.used(usd=2)
            await anyio.sleep(9)
        seen.update(
            fraction=fraction_done(job), timed_out=job.timed_out, attempts=job.attempts, granted=dict(job.granted),
            started_at=job.started_at, state=job.state.name, restored=job.restored,
        )  # fmt: skip
        job.used(usd=4)
        return "done"

    async def again() -> None:
        await (group if "group" in way else job).wait_settled()
        {
            "the job": job,
            "its group": group,
            "all": scheduler,
            "the job in an ended group": job,
        }[way].try_again()

    def tell(ended: Any) -> None:
        if ended is job and job.attempts == 1:
            job.try_again()

    source = Job(nap, 1)
    job = Job(
        work,
        source,
        timeout=1,
        needs={"usd": 1},
        retry=int(way == "retry"),
        label="job",
    )
    told = tell if way == "on_job_settled" else None
    goes_on = [] if "group" in way else [Job(nap, 5)]
    group = Scheduler(
        source, job, Job(nap, required=job), goes_on, label="group", on_job_settled=told
    )
    pool = Pool(usd=Budget(9))
    scheduler = Scheduler(
        group,
        [] if way in ("retry", "on_job_settled") else Job(again),
        pool=pool,
        log=False,
    )
    assert virtual(scheduler.co_run)
    assert seen == {
        "fraction": None, "timed_out": True, "attempts": 2, "granted": {"usd": 1}, "started_at": 1, "state": "RUNNING",
        "restored": False,
    }  # fmt: skip
    assert (pool.budgets, job.result(), job.timed_out) == ({"usd": 3}, "done", True)


# --- A law over random trees of jobs: `try_again()` does what is promised, or nothing, and no result stays out of date
WORDS_OF_TREE = 12
TREES = 10
MANY_TREES = 420


class Tree:
    """A run of jobs and groups, some of which fail, in which a job says `try_again()` of one after the other."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"tree {seed}")
        self.calls, self.words = Counter[str](), Counter[str]()
        self.began: dict[str, float] = {}
        self.scheduler = Scheduler(
            label="root", jobs_window=self.random.choice([None, 2, 4]), log=False
        )
        self.fill(self.scheduler, "", 0)
        self.jobs: list[Any] = [*self.scheduler.iterate_jobs()]
        self.scheduler.add(Job(self.say_words))

    def fill(self, home: Scheduler, prefix: str, depth: int) -> None:
        made: list[Any] = []
        for number in range(self.random.randint(2, 5)):
            label = f"{prefix}{number}"
            if depth < 2 and self.random.random() < 0.3:
                job: Any = Scheduler(
                    label=label, jobs_window=self.random.choice([None, 1])
                )
                self.fill(job, f"{label}.", depth + 1)
            else:
                inputs = [
                    each
                    for each in made
                    if not is_scheduler(each) and self.random.random() < 0.3
                ]
                job = Job(self.body(label), *inputs, label=label)
            job.requires(
                [
                    each
                    for each in made
                    if self.random.random() < 0.25 and each not in job.required
                ]
            )
            made.append(job)
        home.update(made)

    def body(self, label: str) -> Callable[..., Any]:
        fails, seconds = (
            self.random.choice([0, 0, 0, 1, 2, 9]),
            self.random.choice([0, 0.5, 1, 3]),
        )

        async def work(*values: Any) -> tuple[str, int, tuple[Any, ...]]:
            self.calls[label] += 1
            call, self.began[label] = self.calls[label], anyio.current_time()
            await anyio.sleep(seconds)
            if call <= fails:
                raise OSError(label, call)
            return label, call, values

        return work

    async def say_words(self) -> None:
        for _ in range(WORDS_OF_TREE):
            await anyio.sleep(self.random.randint(0, 8) / 4 + 0.1)
            # A group that runs would try again all that has failed in it.
            self.say(
                self.random.choice(
                    [
                        job
                        for job in self.jobs
                        if not (is_scheduler(job) and job.is_running())
                    ]
                )
            )

    def say(self, job: Any) -> None:
        """Try a job again, and compare what waits then, and what does not, with what is promised."""
        levels = [
            level
            for level in (job, *enclosing_schedulers(job))
            if level is not self.scheduler
        ]
        member = [
            *itertools.takewhile(
                lambda level: level is job or not level.is_running(), levels
            )
        ][-1]
        if job.is_succeeded():
            waits = self.users_of(job)
        else:
            waits = self.blocked_by(member) if member.is_settled() else [job]
        before = self.facts()
        try:
            job.try_again()
        except RuntimeError:
            self.words["refused"] += 1
            assert self.facts() == before
            return
        self.words["done"] += 1
        after = self.facts()
        assert [
            each.label
            for each in waits
            if each.state not in (JobState.IDLE, JobState.SCHEDULED)
        ] == []
        assert {each.label for each in self.jobs if after[each] != before[each]} <= {
            each.label for each in waits
        }

    def blocked_by(self, job: Any) -> list[Any]:
        """Return a job, and all members beside it that it has blocked, at any distance."""
        found = [job]
        for each in found:
            users = [
                user
                for user in job.scheduler
                if each in user.required and user not in found
            ]
            found += [user for user in users if user.state is JobState.BLOCKED]
        return found

    def users_of(self, job: Any) -> list[Any]:
        """Return a job, all jobs that use it or a group with it, for themselves or for a group around them, and so on.

        What has a run is left out: groups around the job, and what else runs has it refused.
        """
        found = {job, *(job.iterate_jobs() if is_scheduler(job) else ())}
        number = 0
        while number < len(found):
            number = len(found)
            groups = {
                level for each in found for level in enclosing_schedulers(each)
            } - {self.scheduler}
            for each in self.jobs:
                if any(
                    not (found | groups).isdisjoint(level.required)
                    for level in (each, *enclosing_schedulers(each))
                ):
                    found.add(each)
        groups = {level for each in found for level in enclosing_schedulers(each)} - {
            self.scheduler
        }
        return [each for each in found | groups if not each.is_running()]

    def facts(self) -> dict[Any, Any]:
        return {
            job: (
                job.state,
                job.attempts,
                job.started_at,
                job.finished_at,
                job.raised_exception(),
            )
            for job in self.jobs
        }

    def check_end(self) -> None:
        """Check that all has been decided, and that nothing was made from, or before, an older end than the last."""
        for job in self.jobs:
            around = enclosing_schedulers(job)
            assert job.is_settled() or any(
                level.state is JobState.BLOCKED for level in around
            ), job.label
            if is_scheduler(job) or not job.is_succeeded():
                continue
            required = [each for level in (job, *around) for each in level.required]
            assert [
                each.label
                for each in required
                if each.finished_at > self.began[job.label]
            ] == [], job.label
            label, call, values = job.result()
            assert (label, call) == (job.label, self.calls[job.label])
            current = {
                each.label: each.result()
                for each in job.required
                if not is_scheduler(each)
            }
            assert [value for value in values if value != current[value[0]]] == [], (
                job.label
            )


@pytest.mark.parametrize(
    "count", [TREES, pytest.param(MANY_TREES, marks=pytest.mark.soak)]
)
def test_each_word_takes_effect_as_promised_or_changes_nothing(
    virtual: Virtual, count: int
) -> None:
    words = Counter[str]()
    for seed in range(count):
        tree = Tree(seed)
        virtual(tree.scheduler.co_run)
        tree.check_end()
        words += tree.words
    assert words.total() == count * WORDS_OF_TREE
    assert min(words["done"], words["refused"]) > words.total() / 5
