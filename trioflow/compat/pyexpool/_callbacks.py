"""The thread that calls a pool's callbacks, one after the other, so that they do not block the event loop."""

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


def guarded(callback: Callable[[Any], object] | None, owner: Any, what: str) -> Exception | None:
    """Call a callback with the job or task; log and return its exception, unless that ends the program."""
    if callback is None:
        return None
    try:
        callback(owner)
    except Exception as error:
        logger.error("%s of %s %r raised %r", what, type(owner).__name__.lower(), owner.name, error, exc_info=error)
        return error
    return None


class Callbacks:
    """Calls functions in a thread that starts with the first call.

    A callback may wait for something that needs further callbacks: while it waits, it calls them itself.
    """

    def __init__(self, interrupt: Callable[[BaseException], None]) -> None:
        """Take a function that is called, in any thread, with a SystemExit or the like that leaves a callback."""
        self._interrupt: Final = interrupt
        self._token: Final = trio.lowlevel.current_trio_token()
        self._calls: Final = queue.SimpleQueue[Call]()  # reentrant: a signal handler may interrupt a `put`
        self._thread: threading.Thread | None = None
        self._closed = False

    # ---- from the event loop

    async def call(self, callback: Callable[[Any], object] | None, owner: Any, what: str) -> Exception | None:
        """Call a callback, and wait for it despite any cancellation; return what it raised, which is already logged."""
        if callback is None:
            return None
        called, raised = trio.Event(), list[Exception | None]()

        def call() -> None:
            try:
                raised.append(guarded(callback, owner, what))
            except BaseException as error:
                self._interrupt(error)
            finally:
                self._token.run_sync_soon(called.set)

        self.post(call)
        with trio.CancelScope(shield=True):
            await called.wait()
        return raised[0] if raised else None

    async def drained(self) -> None:
        """Wait until all that was posted has been called."""
        if self._thread is not None:
            await self.call(lambda _: None, None, "")

    def post(self, call: Call) -> None:
        """Have a function called in the thread."""
        if self._thread is None:
            thread = threading.Thread(target=self._serve_all, name="pyexpool callbacks", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the program is ending, and no thread can be started any more
                call()
                return
            self._thread = thread
        self._calls.put(call)

    def close(self) -> None:
        """Let the thread end after the calls that it has."""
        if self._thread is not None:
            self.post(self._end)

    # ---- from any thread

    def is_here(self) -> bool:
        """Return whether the caller is a callback."""
        return threading.current_thread() is self._thread

    def wait(self, latch: Latch) -> None:
        """Wait for a latch, after which `wake` must be called; a waiting callback calls the others meanwhile."""
        if not self.is_here():
            latch.wait()
            return
        while not latch.is_open():
            self._serve()

    def wake(self) -> None:
        """Let waiting callbacks look at their latches again."""
        if self._thread is not None:
            self._calls.put(_nothing)

    # ---- in its own thread

    def _serve_all(self) -> None:
        while not self._closed:
            self._serve()

    def _serve(self) -> None:
        call = self._calls.get()
        try:
            call()
        except BaseException as error:
            self._interrupt(error)

    def _end(self) -> None:
        self._closed = True


def _nothing() -> None:
    """Do nothing; this only ends a wait for the next call."""
