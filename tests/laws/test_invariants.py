"""What always holds, whatever the scenario: laws, checked over random ones, and an oracle that predicts them whole.

In the suite a few scenarios each; for more of them, on both backends::

    TRIOFLOW_SOAK=2000 python -m tests --soak -- tests/laws
"""

from __future__ import annotations

import pytest
from hypothesis import given

from .checks import FEW, MANY, check, check_shared, on_both
from .scenarios import Scenario, scenarios


@FEW
@given(scenario=scenarios())
def test_scenarios(scenario: Scenario) -> None:
    """Any scenario keeps all laws, comes out as the oracle says, and does so again."""
    on_both(check, scenario)


@FEW
@given(scenario=scenarios(shared=True))
def test_scenarios_with_shared_limiters(scenario: Scenario) -> None:
    """Schedulers that share a limiter through nesting keep all laws, and never come to a standstill."""
    on_both(check_shared, scenario)


@pytest.mark.soak
@MANY
@given(scenario=scenarios())
def test_many_scenarios(scenario: Scenario) -> None:
    """A long run of `test_scenarios`."""
    on_both(check, scenario)


@pytest.mark.soak
@MANY
@given(scenario=scenarios(shared=True))
def test_many_scenarios_with_shared_limiters(scenario: Scenario) -> None:
    """A long run of `test_scenarios_with_shared_limiters`."""
    on_both(check_shared, scenario)
