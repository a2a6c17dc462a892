"""Plans of explored runs: their text, all that is tried, the smallest that breaks, and the story; without any run."""

import asyncio
import random
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
import pytest
from trioflow.testing import FAULTS, _explore, pytest_plugin
from trioflow.testing._explore import Shrinker
from trioflow.testing._fault_plans import (
    END_PLACE,
    SHORT_DELAY,
    Change,
    Plan,
    PlanGenerator,
    RunOutcome,
    SteppedJob,
    read_plan,
)
from trioflow.testing._task_order import FIRST_TASK_NAME, TaskOrder, _ReadyQueueSorter

TEXTS = {
    "fail@end:a/b%20c=2": Change("fail", "a/b c", END_PLACE, 2.0),
    "fail@0:f(1)#2,[x]": Change("fail", "f(1)#2,[x]"),
    "late@12:%3D%40%3A%25=0.30000000000000004": Change("late", "=@:%", 12, 0.1 + 0.2),
    "late@1:a=moment": Change("late", "a", 1, SHORT_DELAY),
    "late@1:a=10": Change("late", "a", 1, 10.0),
    "rank@0:a=-1": Change("rank", "a", 0, -1.0),
    "turn@3:=4000000000": Change("turn", "", 3, 4e9),
    "first@3:a": Change("first", "a", 3),
    "cut@1:a=1": Change("cut", "a", 1, 1.0),
}


def test_the_text_of_a_plan_repeats_it() -> None:
    for text, change in TEXTS.items():
        assert str(change) == text
    for backend in ("trio", "asyncio"):
        plan = Plan(backend, tuple(TEXTS.values()))
        assert str(plan) == " ".join([backend, *TEXTS])
        assert read_plan(str(plan)) == plan
        assert read_plan(backend) == Plan(backend)


@pytest.mark.parametrize(
    "text",
    ["", "curio", "trio x", "trio odd@1:a", "trio fail@1", "trio fail@-1:a", "trio fail@-2:a", "trio fail@x:a",
     "trio late@1:a=-1", "trio late@1:a=nan", "trio rank@0:a=-inf", "trio late@1:a=x", "fail@1:a trio"],
)  # fmt: skip
def test_a_text_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give a number, or the text after 'seed='"):
        read_plan(text)


def outcome(plan: Plan | None = None, broken: str | None = None) -> RunOutcome:
    plan = plan or Plan("trio")
    made = RunOutcome(plan, TaskOrder(), broken)
    made.applied_changes.update(plan.changes)
    return made


def generator(*faults: str) -> PlanGenerator:
    """A generator that has seen two runs: `a` has a timeout, and waited once at most; `b` has retries."""
    made = PlanGenerator(1, faults or FAULTS)
    for waits, timeouts, retries in (
        ({"a": 1, "b": 0}, {"a"}, set[str]()),
        ({"a": 0, "b": 0}, set[str](), {"b"}),
    ):
        run = outcome()
        run.wait_counts, run.jobs_with_timeout = waits, timeouts
        run.jobs_with_retries = retries
        made.record(run)
    made.begin(8.0)
    return made


ANYWHERE = "cancel", "stop", "cut", "ctrl-c"
SINGLE = {
    "order": [f"late@{place}=moment" for place in ("0:a", "1:a", "0:b")],
    "timeouts": ["hang@0:a"],
    "failures": [
        *(f"fail@{at}:a" for at in ("0", "1", "end")),
        *(f"fail@{at}:b{count}" for at in ("0", "end") for count in ("", "=2", "=3")),
    ],
    "cancellation": [
        f"{kind}@{place}" for kind in ("cancel", "stop", "cut") for place in ("0:a", "1:a", "0:b")
    ],
    "ctrl-c": [f"ctrl-c@{place}" for place in ("0:a", "1:a", "0:b")],
    "crash": [f"crash@{place}" for place in ("0:a", "1:a", "end:a", "0:b", "end:b")],
}  # fmt: skip
SINGLE["durations"] = SINGLE["order"]


@pytest.mark.parametrize("fault", [*FAULTS, "all"])
def test_each_single_fault_is_tried_at_each_of_its_places_once(fault: str) -> None:
    """Up to the most waits that a run had; a job hangs if a timeout ends it, and fails often if it is tried again."""
    faults = FAULTS if fault == "all" else (fault,)
    expected = sorted({text for one in faults for text in SINGLE[one]})
    plans = generator(*faults)
    assert sorted(map(str, plans._iterate_single_faults())) == expected
    tried = [
        str(plan.changes[0])
        for plan, _ in (plans.next_plan("trio") for _ in range(3 * len(expected) + 20))
        if len(plan.changes) == 1
    ]
    # In half of the plans, until all were tried.
    assert {*expected} <= {*tried}


def drawn(*faults: str) -> tuple[dict[str, set[tuple[int, float]]], list[Any]]:
    """Return the places and values of each kind in many plans, and the seeds of their orders."""
    plans = generator(*faults)
    found: dict[str, set[tuple[int, float]]] = {}
    seeds: list[Any] = []
    for _ in range(1500):
        plan, seed = plans.next_plan("asyncio")
        assert plan.backend == "asyncio"
        assert len({(c.kind, c.name, c.at) for c in plan.changes}) == len(plan.changes)
        ranks = sorted(change.value for change in plan.changes if change.kind == "rank")
        assert ranks in ([], [1, 2])
        seeds.append(seed)
        for change in plan.changes:
            found.setdefault(change.kind, set()).add((change.at, change.value))
    return found, seeds


def test_random_plans_have_all_that_their_faults_allow() -> None:
    found, seeds = drawn()
    delays = {SHORT_DELAY, 1.0, 4.0, 8.0, 17.0}
    anywhere = {(0, 0.0), (1, 0.0)}
    assert found == {
        "late": {(at, delay) for at in (0, 1) for delay in delays},
        "rank": {(0, 1.0), (0, 2.0)},
        "hang": {(0, 0.0)},
        "fail": {(at, times) for at in (-1, 0, 1) for times in (0.0, 2.0, 3.0)},
        "cancel": anywhere,
        "stop": anywhere,
        "cut": {(0, 0.0), (1, 0.0), (1, 1.0)},
        "ctrl-c": anywhere,
        "crash": {(-1, 0.0), *anywhere},
    }
    assert len({*seeds} - {None}) > 300
    assert seeds.count(None) > 300


@pytest.mark.parametrize(
    ("fault", "kinds", "is_ordered"),
    [
        ("order", {"late", "rank"}, True),
        ("durations", {"late"}, False),
        ("failures", {"fail"}, False),
        ("timeouts", {"hang"}, False),
    ],
)
def test_random_plans_have_only_what_their_faults_allow(
    fault: str, kinds: set[str], is_ordered: bool
) -> None:
    found, seeds = drawn(fault)
    assert {*found} == kinds
    assert ({*seeds} != {None}) is is_ordered
    if fault == "order":
        assert {value for _, value in found["late"]} == {SHORT_DELAY}


def test_failures_are_repeated_at_their_own_place_in_order() -> None:
    first, second, third = (Change("fail", "a", at, 2.0) for at in range(3))
    job: Any = None
    stepped = SteppedJob("a", job)
    stepped.pending_failures = [("x", first), ("y", second), ("x", third)]
    assert stepped.take_failures("x") == [first, third]
    assert stepped.pending_failures == [("y", second)]
    assert stepped.take_failures("x") == []
    assert stepped.take_failures("y") == [second]


# ---- the smallest plan that breaks
Breaks = Callable[[dict[tuple[str, str], float]], bool]


def smallest(
    plan: str, breaks: Breaks, order_seed: int | None = None
) -> tuple[str, int]:
    """Return the smallest plan whose changes, by kind and name, still break, and the number of runs to find it."""
    original = outcome(read_plan(plan), "it stalls")
    original.task_order.chosen_orders.update({4: ["b", None, "a"], 9: ["a", "b"]})
    original.wait_counts = {"a": 1, "b": 1}

    def run(plan: Plan) -> RunOutcome:
        values = {
            (change.kind, change.name or str(change.at)): change.value
            for change in plan.changes
        }
        done = outcome(plan, "it stalls" if breaks(values) else "another")
        done.task_order.chosen_orders.update(original.task_order.chosen_orders)
        done.wait_counts = original.wait_counts
        return done

    shrinker = Shrinker(original, order_seed, run)
    return str(shrinker.shrink().plan), shrinker.run_count


LONG = "trio fail@1:a=3 late@1:b=7.3 cut@1:c=1 rank@0:d=5 cancel@0:e hang@0:f"


@pytest.mark.parametrize(
    ("breaks", "shown"),
    [
        (lambda found: True, "trio"),
        (lambda found: ("fail", "a") in found, "trio fail@1:a"),
        (lambda found: found.get(("fail", "a"), 0) >= 2, "trio fail@1:a=2"),
        (lambda found: found.get(("fail", "a"), 0) >= 3, "trio fail@1:a=3"),
        (lambda found: ("late", "b") in found, "trio late@1:b=moment"),
        (lambda found: found.get(("late", "b"), 0) >= 1, "trio late@1:b=1"),
        (lambda found: found.get(("late", "b"), 0) > 7, "trio late@1:b=8"),
        (lambda found: ("cut", "c") in found, "trio cut@1:c"),
        (lambda found: found.get(("cut", "c"), 0) > 0, "trio cut@1:c=1"),
        (lambda found: ("rank", "d") in found, "trio rank@0:d=-1"),
        (lambda found: found.get(("rank", "d"), 0) > 0, "trio rank@0:d=1"),
        (lambda found: found.get(("rank", "d"), 0) > 4, "trio rank@0:d=5"),
        (
            lambda found: {("fail", "a"), ("hang", "f")} <= {*found},
            "trio fail@1:a hang@0:f",
        ),
        (
            # The other change was needed beside the longer delay alone.
            lambda found: (
                found.get(("late", "b"), 0) == 1
                or (found.get(("late", "b"), 0) > 1 and ("cancel", "e") in found)
            ),
            "trio late@1:b=1",
        ),
    ],
)
def test_a_broken_plan_is_shrunk_to_what_still_breaks(
    breaks: Breaks, shown: str
) -> None:
    assert smallest(LONG, breaks)[0] == shown


@pytest.mark.parametrize(
    ("breaks", "shown"),
    [
        (
            lambda found: ("turn", "4") in found or ("first", "a") in found,
            "trio first@4:a",
        ),
        (lambda found: ("turn", "9") in found, "trio turn@9:=77"),
        (
            lambda found: ("turn", "4") in found or ("late", "b") in found,
            "trio late@0:b=moment",
        ),
        (lambda found: ("fail", "a") in found, "trio fail@1:a"),
        (
            lambda found: {("fail", "a"), ("turn", "9")} <= {*found},
            "trio turn@9:=77 fail@1:a",
        ),
        (lambda found: False, "trio fail@1:a=2 hang@0:b"),
    ],
)
def test_of_a_random_order_the_shrunk_plan_has_what_is_needed(
    breaks: Breaks, shown: str
) -> None:
    """If nothing repeats the broken run, its plan is told as it was."""
    assert smallest("trio fail@1:a=2 hang@0:b", breaks, 77)[0] == shown


def test_what_was_not_applied_is_left_out_first() -> None:
    original = outcome(read_plan("trio fail@1:a hang@0:b"), "it stalls")
    original.applied_changes.discard(original.plan.changes[1])
    tried: list[str] = []

    def run(plan: Plan) -> RunOutcome:
        tried.append(str(plan))
        return outcome(plan, "it stalls" if "fail" in str(plan) else None)

    assert str(Shrinker(original, None, run).shrink().plan) == "trio fail@1:a"
    assert tried[0] == "trio fail@1:a"
    assert not any("hang" in plan for plan in tried)


@pytest.mark.parametrize("most", [1, 2, 100])
def test_a_plan_is_shrunk_in_a_number_of_runs(
    monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(_explore, "MAX_SHRINK_RUNS", most)
    _, count = smallest(LONG, lambda found: ("fail", "a") in found)
    assert count == most if most < 100 else 2 < count < most


# ---- the story
def test_the_story_of_a_broken_run_is_told_whole() -> None:
    changes = "rank@0:a=-1 rank@0:b=1 first@3:a turn@4:=7 turn@5:=7 fail@1:c"
    broken = outcome(read_plan(f"asyncio {changes}"), "it stalls")
    broken.task_order.chosen_orders.update({4: ["b", None, "a"], 5: [None]})
    broken.event_lines = ["0.000  c fails", "1.000  nothing goes on"]
    broken.error = error = KeyError("x")
    made = _explore._make_broken_run(broken, "The heading:")
    pad = " " * 10
    assert str(made).splitlines() == [
        "The heading:",
        "",
        "on asyncio: it stalls",
        f"{pad}whenever several can resume, 'a' resumes before the others",
        f"{pad}whenever several can resume, 'b' resumes after the others",
        f"{pad}in iteration 3 of the loop, 'a' resumes before the others",
        f"{pad}in iteration 4 of the loop, the order is 'b', 'a'",
        f"{pad}in iteration 5 of the loop, the order is another one",
        "  0.000  c fails",
        "  1.000  nothing goes on",
        "",
        f"To repeat this run: explore(..., seed='asyncio {changes}')",
    ]
    assert made.__cause__ is error
    assert (made.story, made.seed) == (str(made), f"asyncio {changes}")
    kind, arguments, _ = made.__reduce__()
    assert str(kind(*arguments)) == str(made)
    plain = _explore._make_broken_run(outcome(None, "it stalls"), "")
    assert f"\n{pad}no fault was injected into this run\n" in str(plain)


# ---- the order of tasks
def tasks(*names: str) -> list[Any]:
    return [SimpleNamespace(name=name) for name in names]


def test_tasks_resume_by_seed_then_rank_then_first() -> None:
    changes = read_plan("trio turn@2:=5 rank@0:b=-1 rank@0:c=1 first@3:c").changes
    order = TaskOrder(changes)
    ready = tasks("c", "a", "b", "d")
    order.job_names.update({id(task): task.name for task in ready[:3]})
    found = []
    for _ in range(4):
        some = list(ready)
        order.shuffle(some)
        found.append("".join(task.name for task in some))
    assert found[0] == "badc"
    assert (found[1][0], found[1][-1]) == ("b", "c")
    assert found[2:] == ["cbad", "badc"]
    assert order.iteration == 4
    assert [*order.chosen_orders] == [2]
    seeded = TaskOrder(changes[:1], 5)
    for iteration in range(1, 4):
        some = tasks(*"abcdef")
        numbers = random.Random(5 + (iteration << 32))
        keys = {task.name: numbers.random() for task in some}
        seeded.shuffle(some)
        assert [task.name for task in some] == sorted(keys, key=keys.__getitem__)
    alone = tasks("a")
    seeded.shuffle(alone)
    assert seeded.iteration == 3
    outside = [*tasks("a", "b"), SimpleNamespace(name=FIRST_TASK_NAME)]
    seeded.is_first_task_pending = True
    seeded.shuffle(outside)
    assert outside[0].name == FIRST_TASK_NAME
    assert not seeded.is_first_task_pending


def test_only_steps_of_tasks_change_their_places() -> None:
    """All other callbacks, and a second step of a task, stay where they are."""

    async def main() -> list[str]:
        made = [asyncio.ensure_future(asyncio.sleep(0)) for _ in range(3)]
        names = {id(task): f"t{number}" for number, task in enumerate(made)}
        order: Any = SimpleNamespace(sort_tasks=list.reverse)
        steps = [made[0], None, made[1], made[0], made[2]]
        ready: list[Any] = [
            SimpleNamespace(_callback=SimpleNamespace(__self__=step)) for step in steps
        ]
        _ReadyQueueSorter(order).sort_handles(ready)
        await asyncio.gather(*made)
        return [names.get(id(each._callback.__self__), "-") for each in ready]

    assert asyncio.run(main()) == ["t2", "-", "t1", "t0", "t0"]


# ---- the fixture
SEED = zlib.crc32(b"test.py::test_it") % 10**6


@pytest.mark.parametrize(
    ("runs", "seed", "given", "passed"),
    [
        (None, None, {}, {"seed": SEED}),
        (None, None, {"seed": 5, "runs": 7}, {"seed": 5, "runs": 7}),
        (30, None, {"runs": 7}, {"seed": SEED, "runs": 30}),
        (None, "12", {"seed": 5, "runs": 7}, {"seed": 12, "runs": 7}),
        (1, "trio fail@1:a", {"seed": 5}, {"seed": "trio fail@1:a", "runs": 1}),
    ],
)
def test_options_of_the_command_line_come_before_those_of_a_test(
    monkeypatch: pytest.MonkeyPatch, runs: Any, seed: Any, given: Any, passed: Any
) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(
        pytest_plugin,
        "explore_scenario",
        lambda *scenario, **options: calls.append((scenario, options)),
    )
    options = {"--explore-runs": runs, "--explore-seed": seed}
    request: Any = SimpleNamespace(
        config=SimpleNamespace(getoption=options.__getitem__),
        node=SimpleNamespace(nodeid="test.py::test_it"),
    )
    fixture: Any = pytest_plugin.explore
    fixture.__wrapped__(request)("scenario", **given)
    assert calls == [(("scenario",), passed)]
    assert pytest_plugin._parse_run_count("1") == 1
