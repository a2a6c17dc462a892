"""The thread in which a pool calls back: one after the other, away from the event loop, which they may not hold up."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Final

import trio

from ._log import guarded
from ._waiting import wait

Call = Callable[[], object]


class Callbacks:
    """Calls what it is given, in a thread that begins with the first call.

    A callback may wait for something that needs further callbacks: it serves them itself meanwhile.
    """

    def __init__(self, interrupt: Callable[[BaseException], None]) -> None:
        """Take the function to be called, in any thread, with a SystemExit or its like that leaves a callback."""
        self._interrupt: Final = interrupt
        self._token: Final = trio.lowlevel.current_trio_token()
        self._calls: Final = queue.SimpleQueue[Call]()  # reentrant: a signal handler may interrupt a `put`
        self._thread: threading.Thread | None = None
        self._closed = False

    # ---- from the event loop

    async def call(self, callback: Callable[[Any], object] | None, owner: Any, what: str) -> Exception | None:
        """Call back, and wait for it whatever is cancelled; return what it raised, which is in the log by then."""
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
        """Have something called."""
        if self._thread is None:
            thread = threading.Thread(target=self._serve_all, name="pyexpool callbacks", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the program ends; no thread may be started any more
                call()
                return
            self._thread = thread
        self._calls.put(call)

    def close(self) -> None:
        """Let the thread end after what it has."""
        if self._thread is not None:
            self.post(self._end)

    # ---- from any thread

    def is_here(self) -> bool:
        """Tell whether a callback calls."""
        return threading.current_thread() is self._thread

    def wait(self, event: threading.Event) -> None:
        """Wait for an event, which `wake` follows; a callback that waits serves the others meanwhile."""
        if not self.is_here():
            wait(event)
            return
        while not event.is_set():
            self._serve()

    def wake(self) -> None:
        """Let callbacks that wait look again."""
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
    """Is called when there is nothing to call."""
