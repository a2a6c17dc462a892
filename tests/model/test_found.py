"""Faults of the engine that the model has found, each a scenario as small as it gets."""

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any
import pytest
from .scenario import Call, Group, Leaf, Resource, Retry, Scenario
from .shrink import found_in
from .steps import Add, Await, Cancel, Fail, Give, Nap, Started, Steer, Step, Throttle


def leaf(name: str, *calls: Step | tuple[Step, ...], **options: Any) -> Leaf:
    """Return a job whose body has these steps, or one whose further calls have these."""
    each = tuple(call for call in calls if isinstance(call, tuple))
    only = tuple(step for step in calls if isinstance(step, Step))
    return Leaf(name=name, bodies=each or (only,), **options)


def service(name: str, *steps: Step, **options: Any) -> Leaf:
    return leaf(name, *steps, service=True, forever=True, **options)


def group(name: str, *jobs: Leaf | Group, **options: Any) -> Group:
    return Group(name=name, jobs=jobs, **options)


def scenario(*jobs: Leaf | Group, **options: Any) -> Scenario:
    """Return a scenario of these jobs, with the options of its outermost scheduler and its own."""
    own = {field.name for field in fields(Scenario)}
    root = group(
        "root",
        *jobs,
        **{name: value for name, value in options.items() if name not in own},
    )
    return Scenario(
        root=root, **{name: value for name, value in options.items() if name in own}
    )


SCENARIOS = {
    "a group goes on with what a function adds that is told of its last job": scenario(
        group("group",
            leaf("first", Nap(1.75)),
            leaf("last", requires=("first",)),
            calls=(
                Call("settled", "first", 0, Steer("first", "try_again")),
                Call("scheduled", "first", 1, Cancel("first")),
                Call("settled", "last", 0, Add((leaf("added", Nap(3.0)),))),
            ),
        ),
        leaf("next", Nap(1.0), requires=("group",)),
    ),
    "a group that keeps no jobs keeps what has succeeded though it was added jobs, which are dropped": scenario(
        group("group", leaf("adds", Nap(1.0), Add((leaf("added", Nap(1.0)),))), leaf("bad", Nap(4.0), Fail())),
        leaf("long", Nap(10.0), Steer("group", "try_again"), Nap(10.0)),
        keep_jobs=False,
    ),
    "two words of a function about one job try it again once": scenario(
        group("group",
            leaf("job", Nap(1.0)),
            calls=(
                Call("settled", "job", 0, Steer("job", "try_again")),
                Call("settled", "job", 0, Steer("job", "try_again")),
                Call("scheduled", "job", 1, Cancel("job")),
            ),
        ),
    ),
    "a question in vain is open until a service is ready for a job that waits for it": scenario(
        leaf("asks", answer=True),
        leaf("bad", Nap(1.0), Fail()),
        leaf("user", Nap(1.0), requires=("asks", "bad")),
        service("service", Nap(5.0), Started(), Nap(math.inf)),
        leaf("client", Nap(2.0), requires=("service",)),
        service("unused", Nap(math.inf)),
    ),
    "what a function adds to an open scheduler has the context of the job that ends": scenario(
        leaf("j19", Nap(2.0), Fail()),
        leaf("blocked", requires=("j19",)),
        calls=(Call("settled", "blocked", 0, Add((leaf("added", Nap(3.0)),))),),
        keep_jobs=False,
    ),
    "a group that a spent budget blocks before its second run fails with that": scenario(
        group("group",
            leaf("good", Nap(2.25), needs=(("budget", 2.0),)),
            leaf("cannot", Nap(1.0), needs=(("budget", 2.0),), requires=("good",)),
            leaf("bad", Nap(0.5), Fail(), needs=(("budget", 2.0),)),
            needs=(("budget", 4.0),),
        ),
        leaf("steers", Nap(6.75), Steer("good", "try_again"), Nap(3.125)),
        pool=(Resource(name="budget", kind="budget", total=4.0),),
    ),
    "a member of a group that is taken back waits for what the group requires": scenario(
        leaf("steers", Nap(12.0), Steer("before", "try_again")),
        leaf("before", Nap(6.5)),
        group("group", leaf("member", Nap(1.25)), requires=("before",)),
    ),
    "a failed job of a group that waits is tried again at once, though the scheduler keeps no jobs": scenario(
        group("group", leaf("fails", Nap(2.0), Fail())),
        leaf("steers", Nap(6.0), Steer("group", "try_again"), Nap(5.0), Steer("fails", "try_again"), Nap(6.5)),
        window=1, keep_jobs=False,
    ),
    "a group in one that was skipped accepts no other window": scenario(
        leaf("steers", Nap(4.0), Steer("inner", 4), Nap(1.25)),
        group("skipped", group("inner"), run_if="failed"),
    ),
    "an answer that only a job needs which will be blocked keeps no run alive": scenario(
        leaf("asks", answer=True), leaf("bad", Nap(5.0), Fail()), leaf("uses", inputs=("asks", "bad"))
    ),
    "an answer that only a cancelled forever job requires keeps no run alive": scenario(
        leaf("goes on", Nap(9.0), Cancel("uses"), Nap(0.5), forever=True),
        leaf("asks", answer=True),
        leaf("uses", Nap(0.5), requires=("asks",), forever=True),
    ),
    "an answer that a job needs of which another requirement is tolerated is waited for": scenario(
        leaf("asks", answer=True), leaf("bad", Nap(5.0), Fail(), critical=False),
        leaf("gives", Nap(7.0), Give("asks")), leaf("uses", requires=("asks", "bad")),
    ),
    "forever jobs alone end with the body of an open scheduler": scenario(
        leaf("forever", Nap(0.5), forever=True), keep_jobs=False
    ),
    "a token goes to the run that asked first, not to a job that the settled one made ready": scenario(
        leaf("first", Nap(2.0)),
        group("nested", leaf("asked before", Nap(15.5))),
        leaf("ready later", Nap(6.25), requires=("first",)),
        limiter=0, tokens=(1,),
    ),
    "clean-up jobs have no slot, and an adaptive window does not grow by their successes": scenario(
        leaf("succeeds", Nap(2.25)),
        leaf("critical", Nap(8.5), Fail(), critical=True),
        leaf("clean-up", Nap(3.125), requires=("critical",), run_if="failed"),
        leaf("longer", Nap(5.75), requires=("critical",), run_if="failed"),
        adaptive=(2, 6),
    ),
    "after Throttled, nothing starts on the key, what has it already included": scenario(
        leaf("throttled", (Throttle("api", 10.25),), (Nap(1.5),), needs=(("api", 1.0),)),
        leaf("call0", Nap(2.5), needs=(("api", 1.0),)),
        leaf("call1", Nap(3.5), needs=(("api", 1.0),)),
        leaf("call2", Nap(4.5), needs=(("api", 1.0),)),
        pool=(Resource(name="api", kind="amount", total=9.0),),
    ),
    "a ready service that cancel() has ended is CANCELLED, also if it outlasts the run": scenario(
        service("service", Nap(0.5), Started(), Nap(math.inf), linger=5.25),
        leaf("job", Nap(3.125)),
        shutdown_timeout=60.0625, cancels=((2.03125, "service"),),
    ),
    "what a failed attempt has used of a budget counts in a later run, too": scenario(
        leaf("pays", (Nap(1.25), Fail()), (Nap(1.5),), retry=Retry(times=1), needs=(("usd", 1.0),)),
        leaf("long", Nap(9.0625)),
        pool=(Resource(name="usd", kind="budget", total=4.0),), cut_at=500.5, killed_at=5.125,
    ),
    "what a failure and a cancel() have blocked counts": scenario(
        leaf("fails", Nap(1.25), Fail()),
        leaf("cancelled", Nap(9.5)),
        leaf("blocked", requires=("fails", "cancelled"), critical=True),
        leaf("long", Nap(20.0625)),
        cancels=((2.125, "cancelled"),),
    ),
    "what a stop cuts off has failed for the clean-up, however deep it stands": scenario(
        group("around", group("group", leaf("cut off", Nap(9.5)))),
        leaf("bad", Nap(1.25), Fail(), critical=True),
        group("clean-up",
            leaf("first", Nap(1.5)),
            leaf("blocked", requires=("first",), critical=True, inputs=("cut off",)),
            leaf("long", Nap(4.0625)),
            requires=("around", "bad"), run_if="failed",
        ),
    ),
    "what cancel() has ended has not failed for the clean-up, also if a stop comes as it unwinds": scenario(
        leaf("cancelled", Nap(9.5), linger=3.5),
        leaf("bad", Nap(1.25), Fail(), critical=True),
        group("clean-up",
            leaf("first", Nap(1.5)),
            leaf("blocked", requires=("first",), critical=True, inputs=("cancelled",)),
            leaf("long", Nap(4.0625)),
            requires=("cancelled", "bad"), run_if="failed",
        ),
        cancels=((1.03125, "cancelled"),),
    ),
    "a service ends before what it uses through jobs that were dropped": scenario(
        service("used", Nap(1.5), Started(), Nap(math.inf), linger=0.25),
        leaf("one", Nap(1.0625), requires=("used",)),
        leaf("other", Nap(1.125), requires=("one",)),
        service("user", Nap(1.0), Started(), Nap(math.inf), requires=("other",), linger=0.375),
        leaf("job", Nap(4.0625), requires=("user",)),
        keep_jobs=False,
    ),
    "a service ends before what it uses through one that has ended, and was dropped": scenario(
        service("used", Nap(1.5), Started(), Nap(math.inf), linger=0.25),
        service("between", Nap(1.0625), Started(), Nap(math.inf), requires=("used",)),
        service("user", Nap(1.125), Started(), Nap(math.inf), requires=("between",), linger=0.375),
        leaf("job", Nap(4.0625), requires=("user",)),
        cancels=((5.03125, "between"),), keep_jobs=False,
    ),
    "what ends with the clean-up gives nothing back to what ends with it": scenario(
        leaf("bad", Nap(3.125), Fail(), critical=True, needs=(("usd", 2.0),)),
        group("group", leaf("waits", Nap(1.5), needs=(("usd", 1.0),)), requires=("bad",), run_if="failed"),
        leaf("holds", Nap(2.25), requires=("bad",), run_if="failed", needs=(("usd", 1.0),)),
        pool=(Resource(name="usd", kind="budget", total=3.0),), cleanup_timeout=1.15625,
    ),
    "a forever group that the end of a run cuts off adds no failures to those of the run": scenario(
        group("group",
            group("forever", leaf("bad", Nap(6.5), Fail()), leaf("long", Nap(99.25)), forever=True),
            leaf("bad too", Nap(9.875), Fail()),
        ),
    ),
    "a service that ends by itself as the users of another one unwind is not ended again": scenario(
        service("used", Nap(1.9375), Started(), Nap(math.inf)),
        service("ends", Nap(1.25), Started(), Nap(4.0), requires=("used",)),
        service("user", Nap(1.125), Started(), Nap(math.inf), requires=("ends",), linger=2.8125),
        leaf("job", Nap(1.5), requires=("user",)),
        shutdown_timeout=60.0625,
    ),
    "a key has no pause after a job that has not started": scenario(
        leaf("holder", Nap(5.25)),
        leaf("waits", Nap(1.0625), needs=(("host", "a"),)),
        leaf("other", Nap(1.5), needs=(("host", "a"),)),
        limiter=0, pool=(Resource(name="host", kind="keys", total=1.0, gap=6.03125),), tokens=(1,),
        cancels=((2.125, "waits"),),
    ),
    "what ends with its group gives back before the forever jobs of that end": scenario(
        leaf("bad", Nap(1.25), Fail(), critical=True),
        group("group",
            group("forever",
                leaf("waits", Nap(4.25), needs=(("usd", 2.0),)),
                leaf("long", Nap(11.0625)),
                forever=True,
            ),
            leaf("spends", Nap(9.5), needs=(("usd", 5.0),)),
            pool=(Resource(name="usd", kind="budget", total=6.0),),
        ),
    ),
    "forever jobs that are ready as the last job of a run with needs ends start, and end with the run": scenario(
        group("group",
            leaf("last", Nap(4.5), needs=(("keys", "b"),)),
            leaf("first", requires=("last",), forever=True),
            leaf("other", Nap(1.75), requires=("last",), forever=True),
            pool=(Resource(name="keys", kind="keys", total=2.0, per=12.75, of_rates=True),),
        ),
    ),
    "a job that was cancelled in a pause, and is tried again, stands in the line of its limiter once": scenario(
        group("group", leaf("tried", Nap(3.5)), leaf("other", Nap(12.625))),
        limiter=0, tokens=(1,), cancels=((0.875, "other"),),
        steers=(
            (0.625, Steer("root", "pause")), (1.875, Steer("other", "try_again")), (4.5625, Steer("root", "resume")),
        ),
    ),
    "a group that cancel() has ended between two attempts keeps what succeeded as it is tried again": scenario(
        group("group",
            leaf("long", Nap(2.875)),
            leaf("fails", Nap(0.125), Fail()),
            retry=Retry(times=1, first=3.0625),
        ),
        leaf("cancels", Nap(4.75), Cancel("group"), Nap(20.0)),
        steers=((13.5625, Steer("fails", "try_again")),),
    ),
    "try_again() of a First tries again what has failed in a group of it, but no job of its own": scenario(
        leaf("steers", Nap(5.25), Steer("first", "try_again"), Nap(0.125)),
        group("first",
            leaf("own", (Nap(1.0625), Fail()), ()),
            group("group",
                leaf("long", Nap(8.5)),
                leaf("bad", (Nap(1.9375), Fail()), (Nap(9.03125),)),
            ),
            enough=1,
        ),
    ),
    "jobs that wait for a token stay before those that wait for a slot if a first duration comes late": scenario(
        group("group",
            leaf("adds", Nap(1.5), Add((leaf("late", Nap(1.25), expected=3.0),)), Nap(1.0), priority=1),
            leaf("waits for a token", Nap(2.125)),
            leaf("waits for a slot", Nap(3.0625)),
            window=2, policy="auto",
        ),
        limiter=0, tokens=(1,),
    ),
    "the first job with needs that is added leaves the ranks of all others as they are": scenario(
        leaf(
            "adds", Nap(2.125),
            Add((leaf("short", Nap(1.0), expected=0.5), leaf("long", Nap(1.25), needs=(("cpu", 1.0),)))), Nap(1.5),
            expected=8.0,
        ),
        leaf("old", Nap(1.0625), expected=5.0),
        window=1, pool=(Resource(name="cpu", kind="amount", total=1.0),), policy="critical-path",
    ),
    "what is in a group that has not begun its next run is as the last one has left it": scenario(
        group("around",
            group("group",
                leaf("bad", Nap(1.5), Fail()),
                leaf("user", requires=("bad",)),
                leaf("good", shutdown=0.25),
            ),
        ),
        cancels=((9.03125, "around"),),
        steers=((2.625, Steer("around", "pause")), (3.5625, Steer("around", "try_again"))),
    ),
    "resume() of a scheduler that cleans up lets the jobs of its forever groups start": scenario(
        leaf("bad", Nap(3.5), Fail(), critical=True),
        leaf("clean-up", Nap(4.25), requires=("bad",), run_if="failed"),
        group("group",
            leaf("long", Nap(4.5625)),
            leaf("user", Nap(0.875), requires=("long",)),
            forever=True,
        ),
        steers=((2.125, Steer("root", "pause")), (5.0625, Steer("root", "resume"))),
    ),
    "a forever job that will be retried waits for no resume if its run is held": scenario(
        leaf("bad", Nap(0.5), Fail()),
        leaf("forever", Nap(1.25), Fail(), forever=True, retry=Retry(times=3, first=2.5)),
        hold=True, cut_at=12.0625,
    ),
    "a group of lower priority does not pass what has become ready in the same turn": scenario(
        group("low", leaf("job", Nap(3.0625)), priority=-2),
        leaf("first", Nap(5.25)),
        group("after", leaf("answer", answer=True), requires=("first",)),
        adaptive=(1, 1), cut_at=20.0625, killed_at=0.3125,  # a question in a journal is looked for twice a second
    ),
    "a job that time has let start needs what another run has, as it becomes ready": scenario(
        group("other run",
            leaf("fails", Nap(0.25), Fail()),
            leaf("clean-up", Nap(3.0), requires=("fails",), run_if="failed", needs=(("shared", 1.0),)),
        ),
        group("run",
            leaf("first", Nap(4.25)),
            leaf("next", Nap(2.25), requires=("first",), needs=(("shared", 1.0),)),
            leaf("api", Nap(3.75), Throttle("rate", 0.5), needs=(("rate", 1.0),)),
        ),
        pool=(
            Resource(name="rate", kind="rate", total=2.0, per=9.0, burst=2.0, give_up=3.5),
            Resource(name="shared", kind="amount", total=1.0),
        ),
        apart=True,
    ),
    "a forever group that fails in the instant in which the run could end has failed": scenario(
        group("run",
            leaf("spends", Nap(8.04), needs=(("budget", 2.0),)),
            group("group", leaf("waits", Nap(math.inf), needs=(("budget", 3.0),)), forever=True),
        ),
        pool=(Resource(name="budget", kind="budget", total=4.0),), apart=True,
    ),
    "who cleans up after a drain awaits nothing that another attempt of the group would have reached": scenario(
        group("group",
            leaf("bad", Nap(4.5), Fail(), critical=True),
            leaf("long", Nap(9.25)),
            leaf("unreached", requires=("long",)),
            leaf("clean-up", Nap(1.125), Await("unreached"), requires=("bad",), run_if="failed"),
            retry=Retry(times=1),
        ),
        drains=((2.0625, "group"),),
    ),
    "what followed a job that was cancelled runs again once the job fails": scenario(
        leaf("holds", Nap(4.4), Nap(3.5)),
        leaf("ends", Nap(3.8)),
        leaf("fails", Nap(3.95), Fail()),
        leaf("cleans up", Nap(1.75), requires=("fails",), run_if="failed"),
        leaf("waits", Nap(3.2)),
        timeout=7.1, limiter=0, tokens=(2,), killed_at=12.6,
    ),
}  # fmt: skip

OPEN = {
    "a nested scheduler takes no time": scenario(
        leaf("long", Nap(5.8)),
        leaf("fails", Nap(1.5), Fail()),
        leaf("awaits", Nap(0.75), Await("fails"), Nap(3.5)),
        leaf("forever", Nap(1.25), forever=True),
        group("group", leaf("all", Nap(8.75), needs=(("budget", 4.0),))),
        leaf("some", Nap(1.0), needs=(("budget", 1.0),)),
        window=3, pool=(Resource(name="budget", kind="budget", total=4.0),),
    ),
    "a group of a First ends as another decides": scenario(
        group("staggered",
            group("first",
                leaf("fails", Fail(), needs=(("rate", 1.0),)),
                leaf("wins", needs=(("rate", 1.0),)),
                enough=1,
            ),
            leaf("rival", Nap(12.7)),
            enough=1, stagger=5.0,
        ),
        pool=(Resource(name="rate", kind="rate", total=1.0, per=8.25, burst=1.0),),
        steers=((2.0, Steer("root", "pause")), (65.5, Steer("root", "resume"))),
    ),
    "a nested scheduler takes no time, though it was decided before it was tried again": scenario(
        leaf("steers", Nap(10.25), Steer("lingers", "try_again"), Nap(4.25)),
        group("group", group("first", leaf("lingers", Nap(10.75), linger=7.75), leaf("wins", Nap(1.0)), enough=1)),
        cancels=((6.5, "group"),),
    ),
    "a group with a journal asks for what a job gives back as it starts": scenario(
        group("group", leaf("waits", Nap(8.1), needs=(("token", 1.0),)), leaf("starts", Nap(0.2))),
        leaf("takes no time", needs=(("token", 1.0),)),
        pool=(Resource(name="token", kind="named", total=1.0),), killed_at=15.6,
    ),
    "two schedulers ask for a token at one instant": scenario(
        group("first",
            group("group", leaf("inner", Nap(4.75))),
            leaf("long", Nap(12.625)),
            leaf("other", Nap(6.125)),
            enough=2,
        ),
        leaf("takes no time"),
        leaf("next", Nap(6.25), requires=("takes no time",)),
        limiter=0, tokens=(3,),
    ),
    "a service fails as jobs that require it start": scenario(
        service("service", Nap(3.1), Started(), Fail()),
        leaf("user", Nap(1.4), requires=("service",)),
        critical_jobs=True,
    ),
}  # fmt: skip
"""Scenarios whose outcome the contract leaves open in one instant, by what the model says about them."""

ORDERS = 6
"""How many orders of tasks are tried for each scenario, beside the usual one."""


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize(
    "orders",
    [(None, 0), pytest.param(range(1, ORDERS), marks=pytest.mark.ci)],
    ids=["few", "more"],
)
def test_scenario_ends_as_the_model_predicts(
    name: str, orders: Iterable[int | None], backend: str
) -> None:
    """A scenario in which the engine once differed from the contract ends as predicted, in any order of tasks."""
    scenario = SCENARIOS[name]
    for order in orders:
        expected, found = found_in(scenario, backend, order=order)
        assert found == [], order
        assert expected is not None
        assert {*expected.doubts} <= {
            "two calls in one instant",
            "a shield of anyio does not hold",
        }


@pytest.mark.parametrize("name", OPEN)
def test_the_model_says_where_the_contract_leaves_the_outcome_open(
    name: str, backend: str
) -> None:
    expected, found = found_in(OPEN[name], backend)
    assert found == []
    assert expected is not None
    assert {*expected.doubts} <= {
        name.partition(",")[0],
        "a shield of anyio does not hold",
    }
    assert expected.doubts
