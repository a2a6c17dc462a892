"""What a backend is: the protocols that `_trio` and `_asyncio` fulfil."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractContextManager
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from .._worker import Worker

    Work = Callable[[Worker], Coroutine[Any, Any, None]]

T = TypeVar("T")


class Event(Protocol):
    """Something that happens once, and that tasks can wait for."""

    def set(self) -> None:
        """Let it happen."""
        ...

    def is_set(self) -> bool:
        """Tell whether it has happened."""
        ...

    async def wait(self) -> Any:
        """Wait until it has happened."""
        ...


class Scope(AbstractContextManager["Scope"], Protocol):
    """A cancel scope, of trio or of anyio: the two agree on this much."""

    shield: bool
    deadline: float

    @property
    def cancel_called(self) -> bool:
        """Whether somebody, or its deadline, has cancelled it."""
        ...

    def cancel(self) -> None:
        """Cancel what it holds."""
        ...


class Mark(Protocol):
    """What a worker's task was like before it ran a job."""

    def intact(self) -> bool:
        """Tell whether the task is as it was: its scopes, its variables, and whether it was cancelled."""
        ...

    def left_open(self) -> bool:
        """Tell whether there are scopes in the task that were not there."""
        ...


class Group(Protocol):
    """The tasks of one run, under its deadline."""

    async def host(self, body: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `body`, which spawns tasks and waits for them; then raise the cancellation that came meanwhile."""
        ...

    def spawn(self, worker: Worker) -> None:
        """Start a task for `worker`, in a copy of the run's context."""
        ...

    async def turn(self) -> bool:
        """Let others run; False if a cancellation came."""
        ...

    async def wait(self, event: Event) -> bool:
        """Wait for `event`; False as soon as a cancellation comes first."""
        ...

    async def uninterrupted(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Await `function()` to its end, whatever is cancelled meanwhile."""
        ...

    def is_cancelled(self) -> bool:
        """Tell whether the group is cancelled, by its deadline or from outside, and the run may not know yet."""
        ...

    def deadline_passed(self) -> bool:
        """Tell whether the deadline was what cancelled the group."""
        ...

    def cancel(self) -> None:
        """Cancel all the tasks of the group but the shielded ones."""
        ...

    def shield(self, worker: Worker) -> None:
        """Let a worker outlive the others."""
        ...

    def cancel_one(self, worker: Worker) -> None:
        """Cancel one worker, a shielded one too; one that has not begun will find that its run is stopping."""
        ...

    def forget(self, worker: Worker) -> None:
        """Let go of a worker that leaves."""
        ...


class Backend(Protocol):
    """trio or asyncio, as far as the engine is concerned."""

    name: str
    names_tasks: bool
    """Whether a task has a name that a worker may set at each job."""

    def run(self, main: Callable[[], Coroutine[Any, Any, T]], options: Mapping[str, Any]) -> T:
        """Run `main()` in a new event loop."""
        ...

    def clock(self) -> Callable[[], float]:
        """Return the function that tells this loop's time in seconds."""
        ...

    def group(
        self, work: Work, deadline: float, on_deadline: Callable[[], None], context: contextvars.Context
    ) -> Group:
        """Make the group for one run, whose workers' tasks run `work`."""
        ...

    def scope(self, deadline: float = ...) -> Scope:
        """Make a cancel scope with a deadline on this loop's clock."""
        ...

    def enter(self, worker: Worker) -> Mark:
        """Take up the present task for `worker`, inside its scope; return what tells whether it is as it was."""
        ...

    def is_current(self, task: Any) -> bool:
        """Tell whether this task calls."""
        ...

    async def mend(self, worker: Worker) -> tuple[str | None, BaseException | None]:
        """Close what a job left open in the task; say what that was, and what went wrong in it."""
        ...

    def event(self) -> Event:
        """Make an event."""
        ...

    async def checkpoint(self) -> None:
        """Let others run; raise a cancellation that is due."""
        ...

    async def turn(self) -> None:
        """Let others run, and raise nothing."""
        ...

    async def park(self, worker: Worker) -> None:
        """Let the task of `worker`, which calls, wait until it is woken or cancelled; raise nothing."""
        ...

    def wake(self, worker: Worker) -> None:
        """Wake a parked worker."""
        ...

    async def sleep_until(self, deadline: float) -> bool:
        """Wait until the clock shows `deadline`; False as soon as a cancellation comes first."""
        ...

    def split(self, exception: BaseException) -> tuple[bool, BaseException | None]:
        """Tell whether there is a cancellation in `exception`, and return what else is."""
        ...

    def asked_to_end(self, worker: Worker) -> bool:
        """Tell whether somebody has cancelled the task of `worker`."""
        ...

    def cancelled_natively(self, worker: Worker) -> bool:
        """Tell whether the task of `worker` was cancelled by other means than a scope."""
        ...

    def hint(self, exception: BaseException) -> str | None:
        """Say what to do about an exception that comes from the other library, or None."""
        ...

    async def together(self, functions: Iterable[Callable[[], Coroutine[Any, Any, None]]], deadline: float) -> bool:
        """Await all of these at once, cancelled at `deadline`; tell whether all ended before."""
        ...

    def task_group(self) -> Any:
        """Return an async context manager with `start_soon` and `cancel_scope`, for tasks beside the caller's."""
        ...

    def caller(self) -> Callable[[Callable[[], None]], None]:
        """Return a function that has another one called in this loop, as long as that runs, from anywhere."""
        ...

    def check_limiter(self, limiter: object) -> str | None:
        """Say what is wrong with `limiter` as a window here, or None."""
        ...

    def try_acquire(self, limiter: Any, borrower: object) -> bool:
        """Take a token for `borrower` if one is free and nobody waits."""
        ...

    async def acquire(self, limiter: Any, borrower: object) -> bool:
        """Wait for a token for `borrower`; False, and none taken, as soon as a cancellation comes first."""
        ...

    def frames(self, worker: Worker) -> Iterable[tuple[FrameType, int]]:
        """Return the frames of the task of `worker`, outermost first, with their line numbers."""
        ...
