"""Fixtures of the tests of pages."""

import pytest
from trioflow.view.look import _answers


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a program wait for changes for a moment only."""
    monkeypatch.setattr(_answers, "WATCH_INTERVAL", 0.02)
