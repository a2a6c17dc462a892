"""Fixtures for every test: both backends, virtual time, and a check that nothing is left behind.

Coroutines that were never awaited are errors by ``filterwarnings = ["error"]``; the check makes sure that they show in
the test that left them.
"""

from __future__ import annotations

import gc
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar, TypeVarTuple

import anyio
import pytest

from trioflow._core import _checks
from trioflow.testing import run_virtual

from . import transitions

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A shell that starts a program in the background lets it ignore Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

PATIENCE = 1.0  # seconds that a thread may take to end after its test; a healthy one takes microseconds


class Virtual:
    """``virtual(async_fn, *args)`` runs it under virtual time on ``virtual.backend``, and no task may outlive it."""

    def __init__(self, backend: str) -> None:
        self.backend = backend

    def __call__(self, async_fn: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        async def watched() -> T:
            before = set(anyio.get_running_tasks())
            value = await async_fn(*args)
            left = sorted(str(task.name) for task in set(anyio.get_running_tasks()) - before)
            assert not left, f"tasks left running: {left}"
            return value

        return run_virtual(watched, backend=self.backend)


def pytest_sessionfinish() -> None:
    """What `nothing_left_behind` has kept from the collector, pytest has collected at the end: nothing gets away."""
    gc.unfreeze()


# Session-scoped, because Hypothesis refuses narrower ones; neither holds any state.
@pytest.fixture(scope="session", params=["trio", "asyncio"])
def backend(request: pytest.FixtureRequest) -> str:
    """The test runs once on each backend."""
    name: str = request.param
    return name


@pytest.fixture(scope="session")
def virtual(backend: str) -> Virtual:
    """Runs an async function under virtual time, on each backend."""
    return Virtual(backend)


@pytest.fixture
def many_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run is prepared it pauses after every tenth job, not after every thousandth: 50 jobs do for 5000."""
    monkeypatch.setattr(_checks, "BETWEEN_PAUSES", 10)


@pytest.fixture(scope="session")
def checked_states() -> Iterator[transitions.CheckedState]:
    """Job states are checked from the first test to the last."""
    with transitions.checked() as watch:
        yield watch


@pytest.fixture(autouse=True)
def states_move_along_the_table(checked_states: transitions.CheckedState) -> Iterator[None]:
    """In each test the states of jobs move along the table of transitions alone."""
    checked_states.illegal.clear()
    yield
    assert not checked_states.illegal, f"illegal steps: {checked_states.illegal}"


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """After each test: no coroutine never awaited, no thread but the libraries' idle workers."""
    before = _threads()
    gc.collect()
    gc.freeze()  # what is there already, the imports and the reports of 3,000 tests, takes 20 ms to go through
    yield
    gc.collect()
    left = sorted(name for thread, name in _threads() - before if not _is_harmless(thread))
    assert not left, f"threads left running: {left}"


def _threads() -> set[tuple[threading.Thread, str]]:
    # With the name: trio renames a worker thread while it works, so that one left at work is told from an idle one.
    return {(thread, thread.name) for thread in threading.enumerate()}


def _is_harmless(thread: threading.Thread) -> bool:
    if not thread.name.startswith("Trio thread "):  # idle, kept for ten seconds
        thread.join(PATIENCE)  # anyio's have been told to end when the run did
    return not thread.is_alive() or thread.name.startswith("Trio thread ")
