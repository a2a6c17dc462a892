"""What tests of several views share."""

from collections.abc import Iterator
from typing import Any
import pytest
from trioflow.view.look import _answers, _client, _steering
from ..places import PATIENCE


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from .trace.browser import headless  # its library, which other tests do not need

    with headless() as browser:
        yield browser


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process answer, as `trioflow run` does, however busy the machine is."""
    monkeypatch.setattr(_answers, "REQUEST_TIMEOUT", PATIENCE)
    monkeypatch.setattr(_client, "ANSWER_TIMEOUT", PATIENCE)
    monkeypatch.setattr(_steering, "STEER_TIMEOUT", PATIENCE)
    with _answers.answering():
        yield


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a program wait for changes for a moment only."""
    monkeypatch.setattr(_answers, "WATCH_INTERVAL", 0.02)
