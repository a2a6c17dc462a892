"""The judgement on an explored run: what is left behind, which arguments a function takes, and errors in one line."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
import anyio
import pytest
from trioflow import Budget, Job, Pool, Scheduler
from trioflow.abc import AbstractJob
from trioflow.testing import explore
from trioflow.testing._explored_run import ExploredRun
from trioflow.testing._fault_plans import (
    SHORT_DELAY,
    Plan,
    RunOutcome,
    SteppedJob,
    read_plan,
)
from trioflow.testing._judge import (
    Judge,
    count_arguments,
    describe_delay,
    describe_error,
)
from trioflow.testing._task_order import TaskOrder
from ..bodies import idle, nothing


class Closing(AbstractJob[None]):
    """A job that has something to shut down."""

    async def co_run(self) -> None:
        """Do nothing."""

    async def co_shutdown(self) -> None:
        """Do nothing."""


def leftovers(
    scheduler: Scheduler, facts: dict[str, dict[str, Any]], *tasks: str
) -> list[str]:
    """Return what is said to be left, if jobs of these labels were stepped with these facts."""
    stepped = {}
    for job in scheduler.iterate_jobs():
        given = {"shutdown_count": 1, **facts.get(job.label, {})}
        stepped[job] = SteppedJob(job.path, job, **given)
    outcome = RunOutcome(Plan("trio"), TaskOrder())
    story: Any = SimpleNamespace(stepped_jobs=stepped, outcome=outcome)
    return [text for _, text in Judge(None, story)._find_leftovers(scheduler, [*tasks])]


def closing(**options: Any) -> Scheduler:
    group = Scheduler(Closing(label="inner"), label="group", **options)
    return Scheduler(Closing(label="own"), idle("plain"), group)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_each_job_is_shut_down_once_but_in_a_group_that_runs_again(count: int) -> None:
    said = "co_shutdown of {!r} was called " + f"{count} times"
    shut = {
        label: {"shutdown_count": count} for label in ("own", "inner", "plain", "group")
    }
    wrong = [said.format(path) for path in ("own", "group/inner")] * (count != 1)
    assert leftovers(closing(), shut) == wrong
    assert leftovers(closing(retry=2), shut) == wrong[:1]


def test_what_is_left_is_named() -> None:
    after = "after the run, "
    assert leftovers(closing(), {}, "b", "a") == [
        f"{after}these tasks are left running: a, b"
    ]
    running = {"plain": {"is_running": True}}
    assert leftovers(closing(), running) == [f"{after}'plain' is idle"]


def test_amounts_and_tokens_have_to_come_back_at_any_depth(virtual: Any) -> None:
    inner = Scheduler(
        Job(nothing, needs={"mem": 1}), label="inner", pool=Pool(mem=2, gpu=["a", "b"])
    )
    scheduler = Scheduler(inner, label="outer", pool=Pool(cpu=4))
    assert virtual(scheduler.co_run)
    assert leftovers(scheduler, {}) == []
    for level, name, free in ((scheduler, "cpu", 3), (inner, "mem", 1)):
        pool: Any = level.pool
        frees = {**pool.free, name: free}
        kept: Any = SimpleNamespace(total=pool.total, free=frees, budgets=pool.budgets)
        level_facts = SimpleNamespace(pool=kept)
        found = _leftovers_of_pool(level_facts)
        total = pool.total[name]
        assert found == [f"after the run, {free} of {name}={total} are free"]


def _leftovers_of_pool(level: Any) -> list[str]:
    story: Any = SimpleNamespace(
        stepped_jobs={}, outcome=RunOutcome(Plan("trio"), TaskOrder())
    )
    level.jobs_window = None
    return [text for _, text in Judge(None, story)._find_leftovers(level, [])]


def test_money_that_was_spent_is_not_left_behind() -> None:
    def make() -> Scheduler:
        jobs = [Job(nothing, needs={"usd": 2, "slot": 1}) for _ in range(2)]
        return Scheduler(jobs, pool=Pool(usd=Budget(5), slot=1))

    assert explore(make, runs=4, seed=1, faults=["order"]).runs == 4


FUNCTIONS: list[tuple[Callable[..., Any], int, int | None]] = [
    (lambda: 0, 1, 0),
    (lambda world: 0, 1, 1),
    (lambda world=1: 0, 1, 1),
    (lambda *all: 0, 1, 1),
    (lambda one, two: 0, 1, None),
    (lambda *, name: 0, 1, None),
    (lambda one: 0, 2, 1),
    (lambda one, two: 0, 2, 2),
    (lambda one, two=2: 0, 2, 2),
    (lambda: 0, 2, None),
    (lambda one, two, three: 0, 2, None),
]


@pytest.mark.parametrize(("function", "most", "count"), FUNCTIONS)
def test_a_function_gets_as_many_arguments_as_it_takes(
    function: Callable[..., Any], most: int, count: int | None
) -> None:
    if count is None:
        expected = [
            "no argument, or the world",
            "the scheduler, or the scheduler and the world",
        ]
        with pytest.raises(TypeError, match=f"let it take {expected[most - 1]}$"):
            count_arguments(function, "f", most)
    else:
        assert count_arguments(function, "f", most) == count
    with pytest.raises(TypeError, match="f=5: give a function"):
        count_arguments(5, "f", most)  # type: ignore[arg-type]


def test_an_error_is_one_line() -> None:
    def caught(error: BaseException) -> str:
        try:
            raise error
        except BaseException as raised:
            return describe_error(raised)

    line = describe_error(KeyError())
    assert line == "KeyError"
    assert describe_error(ValueError("a\n  b")) == "ValueError: a b"
    group = ExceptionGroup("g", [ExceptionGroup("h", [ValueError("x")])])
    assert describe_error(group) == "ValueError: x"
    two = ExceptionGroup("g", [ValueError("x"), KeyError("y")])
    assert describe_error(two) == "ExceptionGroup: g (2 sub-exceptions)"
    assert caught(ValueError("x")).startswith("ValueError: x (")
    assert "raise error" in caught(ValueError())
    assert "raise error" not in caught(ValueError("x"))
    delays = {SHORT_DELAY: "after all others", 1.0: "1 s later", 0.25: "0.25 s later"}
    assert {delay: describe_delay(delay) for delay in delays} == delays


def test_of_several_violations_the_first_is_that_of_the_run() -> None:
    outcome = RunOutcome(Plan("trio"), TaskOrder())
    told: list[Any] = []
    story: Any = SimpleNamespace(
        outcome=outcome, add_line=lambda *line: told.append(line)
    )
    judge = Judge(None, story)
    first, second = OSError("first"), OSError("second")
    judge.record_violation("stalls", "it stalls", first, 3.0)
    judge.record_violation("raises", "it raises", second)
    assert (outcome.violated_invariant, outcome.error) == ("stalls", first)
    assert told == [("it stalls", 3.0), ("it raises", None)]


def test_a_token_that_a_group_has_kept_is_left(virtual: Any) -> None:
    async def main() -> list[list[str]]:
        limiter = anyio.CapacityLimiter(3)
        limiter.acquire_on_behalf_of_nowait("x")
        inner = Scheduler(label="inner", jobs_window=limiter)
        return [leftovers(level, {}) for level in (Scheduler(inner), inner)]

    borrowed = ["after the run, 1 tokens of 'inner' are borrowed"]
    assert virtual(main) == [borrowed, borrowed]


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_a_run_tells_what_may_be_done_to_its_jobs(backend: str) -> None:
    def make() -> Scheduler:
        inner = Job(anyio.sleep, 2, label="b")
        group = Scheduler(inner, label="g", timeout=9, retry=1)
        late = Job(anyio.sleep, 1, label="a", timeout=5)
        again = Job(anyio.sleep, 1, label="c", retry=1)
        return Scheduler(late, group, again, Job(anyio.sleep, 1, label="d"))

    outcome = ExploredRun(make, None, Plan(backend), 1000, None).run()
    assert outcome.violated_invariant is None
    assert outcome.jobs_with_timeout == {"a", "g", "g/b"}
    assert outcome.jobs_with_retries == {"c", "g", "g/b"}
    assert outcome.wait_counts == {"a": 1, "g": 0, "g/b": 1, "c": 1, "d": 1}
    assert (outcome.end_time, outcome.total_wait_count) == (2.0, 4)


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_waits_are_counted_over_all_crashes(backend: str) -> None:
    worlds: list[dict[str, int]] = []

    def make(world: dict[str, int]) -> Scheduler:
        worlds.append(dict(world))
        world["starts"] = world.get("starts", 0) + 1

        async def nap() -> None:
            for _ in range(3):
                await anyio.sleep(1)

        return Scheduler(Job(nap, label="a"))

    plan = read_plan(f"{backend} crash@1:a crash@2:a")
    outcome = ExploredRun(make, None, plan, 1000, None).run()
    assert outcome.violated_invariant is None
    assert outcome.wait_counts == {"a": 1 + 1 + 3}
    assert outcome.applied_changes == {*plan.changes}
    assert worlds == [{}, {"starts": 1}, {"starts": 2}]
