"""The laws that every scenario keeps, checked over random ones, and an oracle that predicts them completely.

The suite runs a few scenarios of each kind; for more of them, on both backends::

    TRIOFLOW_SOAK=2000 python -m tests --soak -- tests/laws
"""

from __future__ import annotations

import pytest
from hypothesis import given

from .checks import FEW, MANY, check, check_shared, on_both
from .scenarios import Scenario, scenarios


@FEW
@given(scenario=scenarios())
def test_random_scenarios_keep_all_laws_and_match_the_oracle(scenario: Scenario) -> None:
    """Random scenarios keep all laws and end as the oracle predicts, and a second run has the same outcome."""
    on_both(check, scenario)


@FEW
@given(scenario=scenarios(shared=True))
def test_random_scenarios_with_shared_limiters_keep_all_laws(scenario: Scenario) -> None:
    """Random scenarios keep all laws, and never deadlock, although nested schedulers share a limiter."""
    on_both(check_shared, scenario)


@pytest.mark.soak
@MANY
@given(scenario=scenarios())
def test_many_random_scenarios_keep_all_laws_and_match_the_oracle(scenario: Scenario) -> None:
    """A long run of `test_random_scenarios_keep_all_laws_and_match_the_oracle`."""
    on_both(check, scenario)


@pytest.mark.soak
@MANY
@given(scenario=scenarios(shared=True))
def test_many_random_scenarios_with_shared_limiters_keep_all_laws(scenario: Scenario) -> None:
    """A long run of `test_random_scenarios_with_shared_limiters_keep_all_laws`."""
    on_both(check_shared, scenario)
