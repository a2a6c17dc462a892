"""What always holds, whatever the scenario: laws, checked over random ones, and an oracle that predicts them whole.

In the suite a few scenarios each; for more of them, on both backends::

    TRIOFLOW_SOAK=2000 python -m tests --soak -- tests/laws
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given

from .checks import FEW, MANY, check, check_shared
from .scenarios import Scenario, scenarios

if TYPE_CHECKING:
    from ..conftest import Virtual


@FEW
@given(scenario=scenarios())
def test_scenarios(virtual: Virtual, scenario: Scenario) -> None:
    """Any scenario keeps all laws, comes out as the oracle says, and does so again."""
    check(virtual, scenario)


@FEW
@given(scenario=scenarios(shared=True))
def test_scenarios_with_shared_limiters(virtual: Virtual, scenario: Scenario) -> None:
    """Schedulers that share a limiter through nesting keep all laws, and never come to a standstill."""
    check_shared(virtual, scenario)


@pytest.mark.soak
@MANY
@given(scenario=scenarios())
def test_many_scenarios(virtual: Virtual, scenario: Scenario) -> None:
    """As `test_scenarios`, for long."""
    check(virtual, scenario)


@pytest.mark.soak
@MANY
@given(scenario=scenarios(shared=True))
def test_many_scenarios_with_shared_limiters(virtual: Virtual, scenario: Scenario) -> None:
    """As `test_scenarios_with_shared_limiters`, for long."""
    check_shared(virtual, scenario)
