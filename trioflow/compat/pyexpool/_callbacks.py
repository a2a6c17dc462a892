"""`Callbacks`: a thread that calls a pool's callbacks one after the other, so that they do not block the event loop."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Final

import trio

from ._latch import Latch

logger: Final = logging.getLogger("trioflow.compat.pyexpool")

Call = Callable[[], object]


def call_logged(callback: Callable[[Any], object] | None, owner: Any, what: str) -> Exception | None:
    """Call a callback with its job or task; log and return an `Exception` that it raises."""
    if callback is None:
        return None
    try:
        callback(owner)
    except Exception as error:
        logger.error("%s of %s %r raised %r", what, type(owner).__name__.lower(), owner.name, error, exc_info=error)
        return error
    return None


class Callbacks:
    """A thread that calls functions; it starts with the first call.

    A callback may wait for jobs that need further callbacks: while it waits, it calls those itself.
    """

    def __init__(self, interrupt: Callable[[BaseException], None]) -> None:
        """Take a function to call, in any thread, with a SystemExit or similar exception of a callback."""
        self._interrupt: Final = interrupt
        self._token: Final = trio.lowlevel.current_trio_token()
        self._calls: Final = queue.SimpleQueue[Call]()  # reentrant: a signal handler may interrupt a `put`
        self._thread: threading.Thread | None = None
        self._closed = False

    # ---- from the event loop

    async def call(self, callback: Callable[[Any], object] | None, owner: Any, what: str) -> Exception | None:
        """Call a callback, and wait for its end despite cancellation; log and return an `Exception` that it raises."""
        if callback is None:
            return None
        called, raised = trio.Event(), list[Exception | None]()

        def call() -> None:
            try:
                raised.append(call_logged(callback, owner, what))
            except BaseException as error:
                self._interrupt(error)
            finally:
                self._token.run_sync_soon(called.set)

        self.post(call)
        with trio.CancelScope(shield=True):
            await called.wait()
        return raised[0] if raised else None

    async def drain(self) -> None:
        """Wait until all posted functions have been called."""
        if self._thread is not None:
            await self.call(lambda _: None, None, "")

    def post(self, call: Call) -> None:
        """Schedule a call of a function in the thread."""
        if self._thread is None:
            thread = threading.Thread(target=self._run_thread, name="pyexpool callbacks", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the interpreter is shutting down, and cannot start threads
                call()
                return
            self._thread = thread
        self._calls.put(call)

    def close(self) -> None:
        """End the thread after all scheduled calls."""
        if self._thread is not None:
            self.post(self._end)

    # ---- from any thread

    def is_here(self) -> bool:
        """Return whether the caller is a callback."""
        return threading.current_thread() is self._thread

    def wait(self, latch: Latch) -> None:
        """Wait for a latch; a waiting callback calls other callbacks meanwhile. Call `wake` after opening the latch."""
        if not self.is_here():
            latch.wait()
            return
        while not latch.is_open():
            self._call_next()

    def wake(self) -> None:
        """Make waiting callbacks check their latches again."""
        if self._thread is not None:
            self._calls.put(_do_nothing)

    # ---- in its own thread

    def _run_thread(self) -> None:
        while not self._closed:
            self._call_next()

    def _call_next(self) -> None:
        call = self._calls.get()
        try:
            call()
        except BaseException as error:
            self._interrupt(error)

    def _end(self) -> None:
        self._closed = True


def _do_nothing() -> None:
    """Do nothing: a call of this ends a wait for the next call."""
