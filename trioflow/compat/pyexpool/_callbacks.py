"""`CallbackThread`, which calls the callbacks of a pool so that they do not block the event loop, and its `Latch`."""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Final

import trio

logger: Final = logging.getLogger("trioflow.compat.pyexpool")

ScheduledCall = Callable[[], object]

SIGNAL_CHECK_INTERVAL: Final = 0.1
"""The maximum duration, in seconds, of a single wait for the lock. Python checks for signals before it waits for a
lock. A signal that arrives after that check, or that the system delivers to another thread, is not handled until the
wait ends. Without a limit, this may be never: of 400 programs that received SIGTERM as they began to wait, 8 hung. The
limit also helps a waiter that misses its wake-up because a handler raised in another waiter: it tests the latch again
after this time."""


class Latch:
    """An event that opens once and never closes. Threads, signal handlers and finalizers may call all methods.

    A signal handler runs in the main thread, between any two bytecodes. `threading.Event` is not safe there, because it
    acquires its lock in Python code. If a handler raises at that moment, the lock is never released, and the thread
    that sets the event hangs. If a handler waits for an event whose lock the interrupted code holds, the handler hangs.
    Programs written for PyExPool do both: in a handler that interrupts `join`, they delete their pool and exit.
    """

    def __init__(self) -> None:
        self._is_open = False
        # The lock is held until the latch opens, and then briefly by each waiter. It is implemented in C, so handlers
        # cannot interrupt it. `SimpleQueue` is, too, but before Python 3.13 a slow handler makes `get` ignore its
        # timeout.
        self._lock: Final = threading.Lock()
        self._lock.acquire()

    def is_open(self) -> bool:
        return self._is_open

    def open(self) -> None:
        self._is_open = True
        self._wake_waiter()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the latch is open, and return whether it is. The time limit is in seconds. None is no limit."""
        deadline = math.inf
        if seconds is not None:
            deadline = time.monotonic() + seconds
        while not self._is_open:
            if (remaining := deadline - time.monotonic()) <= 0:
                return False
            try:
                self._lock.acquire(timeout=min(SIGNAL_CHECK_INTERVAL, remaining))
            finally:
                if self._is_open:
                    # Wakes the next waiter.
                    self._wake_waiter()
        return True

    def _wake_waiter(self) -> None:
        with contextlib.suppress(RuntimeError):
            # The lock is not held.
            self._lock.release()


def call_logged(
    callback: Callable[[Any], object] | None, owner: Any, name: str
) -> Exception | None:
    """Call a callback with its job or task. If it raises an `Exception`, log and return it. Otherwise return None."""
    if callback is None:
        return None
    try:
        callback(owner)
    except Exception as error:
        logger.error(
            "%s of %s %r raised %r",
            name,
            type(owner).__name__.lower(),
            owner.name,
            error,
            exc_info=error,
        )
        return error
    return None


class CallbackThread:
    """A thread that calls functions one after the other. It starts at the first call.

    A callback may wait for jobs whose own callbacks must be called in this thread, too. While it waits, it calls them.
    """

    def __init__(self, interrupt: Callable[[BaseException], None]) -> None:
        """Create the object, but do not start a thread yet.

        Args:
            interrupt: called with the exception if a callback raises SystemExit or the like, in whichever thread the
                callback ran.

        """
        self._interrupt: Final = interrupt
        self._token: Final = trio.lowlevel.current_trio_token()
        # A SimpleQueue is reentrant: a signal handler that interrupts `put` may call `put` itself.
        self._call_queue: Final = queue.SimpleQueue[ScheduledCall]()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    # ---- from the event loop

    async def call(
        self, callback: Callable[[Any], object] | None, owner: object, name: str
    ) -> Exception | None:
        """Call a callback, and wait until it returns, even if the caller is cancelled.

        If it raises an `Exception`, log and return it. Otherwise return None.
        """
        if callback is None:
            return None
        called_event = trio.Event()
        errors = list[Exception | None]()

        def call() -> None:
            try:
                errors.append(call_logged(callback, owner, name))
            except BaseException as error:
                self._interrupt(error)
            finally:
                self._token.run_sync_soon(called_event.set)

        self.post(call)
        with trio.CancelScope(shield=True):
            await called_event.wait()
        return errors[0] if errors else None

    async def drain(self) -> None:
        if self._thread is not None:
            await self.call(lambda _: None, None, "")

    def post(self, call: ScheduledCall) -> None:
        """Schedule a function to be called in the thread."""
        if self._thread is None:
            thread = threading.Thread(
                target=self._run_thread, name="pyexpool callbacks", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is shutting down, and cannot start threads.
                call()
                return
            self._thread = thread
        self._call_queue.put(call)

    def close(self) -> None:
        if self._thread is not None:
            self.post(self._end)

    # ---- from any thread

    def is_current_thread(self) -> bool:
        """Return whether the caller runs in this thread, as callbacks do."""
        return threading.current_thread() is self._thread

    def wait(self, latch: Latch) -> None:
        """Wait until a latch is open. If the caller is a callback, call other callbacks in the meantime.

        The thread that opens the latch must call `wake` afterwards, so that a waiting callback checks the latch.
        """
        if not self.is_current_thread():
            latch.wait()
            return
        while not latch.is_open():
            self._call_next()

    def wake(self) -> None:
        """Make waiting callbacks check their latches again."""
        if self._thread is not None:
            self._call_queue.put(_do_nothing)

    # ---- in its own thread

    def _run_thread(self) -> None:
        while not self._is_closed:
            self._call_next()

    def _call_next(self) -> None:
        call = self._call_queue.get()
        try:
            call()
        except BaseException as error:
            self._interrupt(error)

    def _end(self) -> None:
        self._is_closed = True


def _do_nothing() -> None:
    """Do nothing. Scheduling this function wakes a callback that waits for the next call."""
