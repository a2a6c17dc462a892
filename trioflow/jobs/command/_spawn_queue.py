"""The queue in which the commands of a run wait to be started while the system lacks resources for another process."""

from __future__ import annotations

import collections
import contextlib
import errno
import os
from collections.abc import Callable, Generator
from typing import Final

import anyio

from ... import _posix as posix
from ...abc import RunHandle
from ..posix import _processes
from ._result import CommandError
from ._start_errors import RESOURCE_ERROR_MESSAGES

SPARE_DESCRIPTORS: Final = 24
"""How many descriptors must be free to start a command while others run. Starting one uses up to half of them."""


class SpawnQueue:
    """A first-come, first-served queue that starts the commands of a run as long as the system has resources for them.

    If a command cannot be started for lack of descriptors, processes or memory, it is tried again when another command
    of the run has ended. If no other command is running, the error is raised.
    """

    def __init__(self, run: RunHandle) -> None:
        self._run: Final = run
        self._running_count = 0
        self._waiting_events: Final[collections.deque[anyio.Event]] = collections.deque()
        self._has_warned = False

    @contextlib.contextmanager
    def count_as_running(self) -> Generator[None]:
        self._running_count += 1
        try:
            yield
        finally:
            self._running_count -= 1
            self._wake_next()

    async def start_when_possible(self, start_process: Callable[[], None]) -> bool:
        """Call `start_process()`, retry while the system lacks resources, and return whether the command had to wait.

        Raises:
            CommandError: `start_process()` failed for another reason, or no other command runs that could free
                resources.

        """
        has_waited = bool(self._waiting_events)
        if has_waited:
            await self._wait_in_queue(at_end=True)
        try:
            while (shortage := self._try_start(start_process)) is not None:
                has_waited = True
                self._warn_once(shortage)
                await self._wait_in_queue(at_end=False)
        finally:
            self._wake_next()  # the next command tries to start, because there may be resources for it
        return has_waited

    def _try_start(self, start_process: Callable[[], None]) -> str | None:
        """Call `start_process()`, and return None on success, or the reason why the command must wait for resources."""
        if self._running_count and not has_spare_descriptors() and not _processes.raise_file_limit():
            return RESOURCE_ERROR_MESSAGES[errno.EMFILE]
        try:
            start_process()
        except CommandError as error:
            error_number = getattr(error.__cause__, "errno", None)
            if error_number == errno.EMFILE and _processes.raise_file_limit():
                return self._try_start(start_process)
            if error_number not in RESOURCE_ERROR_MESSAGES or not self._running_count:
                raise
            return RESOURCE_ERROR_MESSAGES[error_number]
        return None

    def _warn_once(self, shortage: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            count = self._running_count
            subject = "1 command is running" if count == 1 else f"{count} commands are running"
            self._run.report(f"{subject}, and others wait until one ends: {shortage}")

    async def _wait_in_queue(self, *, at_end: bool) -> None:
        event = anyio.Event()
        enqueue = self._waiting_events.append if at_end else self._waiting_events.appendleft
        enqueue(event)
        try:
            await event.wait()
        except BaseException:
            if event in self._waiting_events:
                self._waiting_events.remove(event)
            else:
                self._wake_next()
            raise

    def _wake_next(self) -> None:
        if self._waiting_events:
            self._waiting_events.popleft().set()

    async def close(self) -> None:
        """Restore this program's limit on open files, which starting commands may have raised."""
        _processes.restore_file_limit()


def has_spare_descriptors() -> bool:
    """Return whether `SPARE_DESCRIPTORS` descriptors are free, judging only by the lowest free one."""
    try:
        lowest_free_descriptor = os.dup(0)
    except OSError as error:
        return error.errno == errno.EBADF  # descriptor 0 is closed; other errors mean that no descriptor is free
    os.close(lowest_free_descriptor)
    return bool(lowest_free_descriptor + SPARE_DESCRIPTORS <= posix.resource.getrlimit(posix.resource.RLIMIT_NOFILE)[0])
