"""Faults of the engine that the model has found, each a scenario as small as it gets."""

from __future__ import annotations

import pytest

from .compare import differences
from .model import predict
from .real import observe
from .scenario import Fail, Group, Leaf, Nap, Scenario

SCENARIOS = {
    "a token goes to the run that asked first, not to a job that the settled one made ready": Scenario(
        root=Group(
            name="root",
            jobs=(
                Leaf(name="first", bodies=((Nap(2.0),),)),
                Group(name="nested", jobs=(Leaf(name="asked before", bodies=((Nap(15.5),),)),)),
                Leaf(name="ready later", requires=("first",), bodies=((Nap(6.25),),)),
            ),
            limiter=0,
        ),
        tokens=(1,),
    ),
    "an idle timeout holds for a clean-up job": Scenario(
        root=Group(
            name="root",
            jobs=(
                Leaf(name="critical", critical=True, bodies=((Nap(12.25), Fail()),)),
                Leaf(
                    name="clean-up",
                    requires=("critical",),
                    run_if="failed",
                    idle_timeout=0.375,
                    bodies=((Nap(4.5),),),
                ),
            ),
        ),
    ),
    "an idle timeout holds for a forever job while the others unwind": Scenario(
        root=Group(
            name="root",
            timeout=5.5,
            jobs=(
                Leaf(name="forever", forever=True, idle_timeout=5.75, bodies=((Nap(9.25),),), linger=9.5),
                Leaf(name="slow", bodies=((Nap(12.5),),), linger=2.75),
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_ends_as_the_model_predicts(name: str, backend: str) -> None:
    """A scenario in which the engine once differed from the contract ends as the model predicts."""
    scenario = SCENARIOS[name]
    expected = predict(scenario, backend)
    [seen] = observe(scenario, backend)
    assert (list(differences(scenario, expected, seen)), dict(expected.doubts)) == ([], {})
