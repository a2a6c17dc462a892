"""Programs in terminals, for the tests of the monitor."""

from collections.abc import Callable, Iterator
from typing import Any
import pytest
from .session import Session


@pytest.fixture
def session() -> Iterator[Callable[..., Session]]:
    started: list[Session] = []

    def start(code: str, **options: Any) -> Session:
        started.append(Session(code, **options))
        return started[-1]

    yield start
    for one in started:
        one.close()
