"""The suite's part of the scenarios whose times are drawn from a grid."""

from __future__ import annotations

import pytest

from .generator import scenario_of
from .scenario import Cancel, Fail, Group, Leaf, Nap, Resource, Retry, Scenario
from .ties import STEPS, differs_between_loops, with_ties

PARTS = 8
COUNT = 10


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("step", STEPS)
def test_what_comes_in_one_instant_comes_in_one_order_on_both_loops(step: float, part: int) -> None:
    """A scenario with times on a grid, which the model predicts alike for both loops, ends alike on both."""
    found = {
        seed: differs_between_loops(with_ties(scenario_of(("ties", seed)), step))
        for seed in range(part * COUNT, (part + 1) * COUNT)
    }
    assert not any(found.values()), found
    assert sum(apart is not None for apart in found.values()) >= COUNT / 3


FOUND = {
    "a backoff ends before a job is tried again that fails in the same instant": Scenario(
        root=Group(
            name="root",
            jobs=(
                Leaf(name="at once", retry=Retry(times=2), bodies=((Nap(1.0), Fail()),)),
                Leaf(name="later", retry=Retry(times=1, first=1.0), bodies=((Nap(1.0), Fail()),)),
                Leaf(name="first", priority=2, bodies=((Nap(31.0),),)),
            ),
            limiter=0,
        ),
        tokens=(2,),
    ),
    "a job whose backoff ends asks for a token before one of another group that fails in the same instant": Scenario(
        root=Group(
            name="root",
            jobs=(
                Group(name="group", jobs=(Leaf(name="at once", retry=Retry(times=2), bodies=((Nap(1.0), Fail()),)),)),
                Leaf(name="later", retry=Retry(times=1, first=1.0), bodies=((Nap(1.0), Fail()),)),
                Leaf(name="first", priority=2, bodies=((Nap(31.0),),)),
            ),
            limiter=0,
        ),
        tokens=(2,),
    ),
    "the turn of a First comes before a cancel() in the same instant": Scenario(
        root=Group(
            name="root",
            jobs=(
                Group(
                    name="first",
                    jobs=tuple(Leaf(name=f"call{number}", bodies=((Nap(1.0),),)) for number in range(2)),
                    enough=2,
                    stagger=0.25,
                ),
                Leaf(name="other", bodies=((Nap(0.25), Cancel("root"), Nap(1.25)),)),
            ),
        ),
    ),
    "a clean-up job whose backoff ends as another job does passes on no token of that": Scenario(
        root=Group(
            name="root",
            jobs=(
                Group(
                    name="group",
                    jobs=(
                        Leaf(name="bad", critical=True, bodies=((Nap(1.0), Fail()),)),
                        Leaf(
                            name="clean-up",
                            requires=("bad",),
                            run_if="failed",
                            retry=Retry(times=2, first=1.0),
                            bodies=((Nap(2.0), Fail()),),
                        ),
                    ),
                    cleanup_timeout=10.0,
                ),
                Leaf(name="first", bodies=((Nap(4.0),),)),
                Leaf(name="after first", requires=("first",), bodies=((Nap(1.0),),)),
                Leaf(name="one", needs=(("pool", 1.0),), bodies=((Nap(8.0),),)),
                Leaf(name="two", needs=(("pool", 2.0),), bodies=((Nap(7.0),),)),
                Leaf(name="three", needs=(("pool", 1.0),), bodies=((Nap(8.0),),)),
            ),
            limiter=0,
            pool=(Resource(name="pool", kind="amount", total=2.0, per=15.0),),
            backfill=0,
        ),
        tokens=(1, 3),
    ),
    "a forever job that ends as the time of the clean-up is over has ended": Scenario(
        root=Group(
            name="root",
            jobs=(
                Leaf(name="bad", critical=True, bodies=((Nap(5.0), Fail()),)),
                Leaf(name="clean-up", requires=("bad",), run_if="failed", bodies=((Nap(10.0),),)),
                Leaf(name="forever", forever=True, bodies=((Nap(9.0), Nap(1.0)),)),
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_ties_that_the_loops_once_decided_differently_end_alike(name: str) -> None:
    """A scenario with a tie that was decided by turns of the loop, as small as it gets."""
    assert not differs_between_loops(FOUND[name])
