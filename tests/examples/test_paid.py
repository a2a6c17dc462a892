"""The example of calls that cost money."""

from __future__ import annotations

import pytest

from trioflow import BudgetSpent, First

from .scripts import load_example


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_the_example_keeps_to_its_rate_and_its_budget(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No call comes too fast, no more is charged than the budget has, and what is not answered was not affordable."""
    example = load_example("paid")
    servers = []

    class Watched(example.Server):  # type: ignore[name-defined, misc]
        def server_activate(self) -> None:
            servers.append(self)
            super().server_activate()

    monkeypatch.setattr(example, "Server", Watched)
    scheduler = example.scenario(300, 0.1)
    scheduler.run(backend=backend)
    calls = [job for job in scheduler if isinstance(job, First)]
    answered = [call for call in calls if call.is_succeeded()]
    assert 30 < len(answered) <= 100
    assert servers[0].charged <= 0.1 + 1e-9
    assert servers[0].too_fast == 0
    for call in calls:
        if not call.is_succeeded():
            assert all(isinstance(member.raised_exception(), BudgetSpent) for member in call), call
