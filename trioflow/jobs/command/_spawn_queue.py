"""The queue of a run's commands to start: if the system has no room for another process, a start waits for an exit."""

from __future__ import annotations

import collections
import contextlib
import errno
import os
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final

import anyio

from ... import _posix as posix
from ..posix import _processes
from ._result import CommandError
from ._start_errors import LACKING_RESOURCES

if TYPE_CHECKING:
    from ...abc import RunHandle

SPARE_DESCRIPTORS: Final = 24
"""How many descriptors must be free to start a command. A start takes up to half of them."""


class SpawnQueue:
    """Starts the commands of a run, first come, first served, while the system has room for them.

    If a start fails for lack of descriptors, processes or memory, it is tried again when another command of the run has
    ended. If no other command is running, the error is raised.
    """

    def __init__(self, run: RunHandle) -> None:
        """Create an empty queue."""
        self._run: Final = run
        self._running = 0
        self._waiting: Final[collections.deque[anyio.Event]] = collections.deque()
        self._has_warned = False

    @contextlib.contextmanager
    def running(self) -> Generator[None]:
        """Count a command as running during the block."""
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._wake_next()

    async def start(self, start: Callable[[], None]) -> bool:
        """Call `start()`, again and again while the system lacks room for a process, and return whether it had to wait.

        Raises:
            CommandError: `start()` failed for another reason, or no other command is running.

        """
        has_waited = bool(self._waiting)
        if has_waited:
            await self._wait(at_end=True)
        try:
            while (lack := self._try_start(start)) is not None:
                has_waited = True
                self._warn(lack)
                await self._wait(at_end=False)
        finally:
            self._wake_next()  # there may be room for another command
        return has_waited

    def _try_start(self, start: Callable[[], None]) -> str | None:
        """Call `start()`, and return None; if the system lacks room, return the reason why the command must wait."""
        if self._running and not has_room() and not _processes.raise_limit():
            return LACKING_RESOURCES[errno.EMFILE]
        try:
            start()
        except CommandError as error:
            number = getattr(error.__cause__, "errno", None)
            if number == errno.EMFILE and _processes.raise_limit():
                return self._try_start(start)
            if number not in LACKING_RESOURCES or not self._running:
                raise
            return LACKING_RESOURCES[number]
        return None

    def _warn(self, lack: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            number = self._running
            runs = "1 command runs" if number == 1 else f"{number} commands run"
            self._run.report(f"{runs}, and others wait until one has ended: {lack}")

    async def _wait(self, *, at_end: bool) -> None:
        event = anyio.Event()
        add = self._waiting.append if at_end else self._waiting.appendleft
        add(event)
        try:
            await event.wait()
        except BaseException:
            if event in self._waiting:
                self._waiting.remove(event)
            else:
                self._wake_next()
            raise

    def _wake_next(self) -> None:
        if self._waiting:
            self._waiting.popleft().set()

    async def close(self) -> None:
        """Restore this program's limit of open files, which starts may have raised."""
        _processes.restore_limit()


def has_room() -> bool:
    """Return whether at least `SPARE_DESCRIPTORS` descriptors are free."""
    try:
        lowest = os.dup(0)
    except OSError as error:
        return error.errno == errno.EBADF  # this program has no standard input
    os.close(lowest)
    return bool(lowest + SPARE_DESCRIPTORS <= posix.resource.getrlimit(posix.resource.RLIMIT_NOFILE)[0])
