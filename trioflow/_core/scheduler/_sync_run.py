"""`run()` in synchronous code: Ctrl-C and other signals in a script, and cells of a notebook.

While `run()` owns the event loop, the first signal ends the run cleanly, as INTERRUPTED. The signal is handled between
two steps of the event loop, so that it never interrupts the engine. If a job blocks the loop, a second Ctrl-C is raised
in that job. This happens only if the loop has stood still for a while, only in the job's own code, and never while the
run is stopping.

The KeyboardInterrupt that `run()` raises for the first Ctrl-C has no meaningful traceback, so it leaves `run()` without
one. If it is not caught, Python prints one line instead of a traceback, and still ends by SIGINT, as shells expect. If
the program has set `sys.excepthook`, that is kept.

In a notebook cell an event loop is running already, so the run gets a thread of its own.
"""

from __future__ import annotations

import contextvars
import math
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from ..backend import LOOP_PACKAGES
from ..base import _logger
from ..base._reprs import short_repr
from ..base._states import STOPPING
from ..job import _function, _service
from ..run import _attempts, _worker

if TYPE_CHECKING:
    from ._base_scheduler import BaseScheduler

T = TypeVar("T")
Handler = Callable[[int, FrameType | None], Any] | int | None
SignalCallback = Callable[[int], Callable[[], object] | None]
"""The type of a function as `handle_signals`."""

STALL_SECONDS: Final = 0.25
"""Seconds without a turn of the loop after which a second Ctrl-C is raised in a job. A double press takes 0.2 s."""
UNINTERRUPTIBLE: Final = LOOP_PACKAGES | {__name__.partition(".")[0]}
"""The packages in whose functions KeyboardInterrupt must not be raised: the engine, the loops, their dependencies."""
BODY_CALLERS: Final = frozenset(module.__name__ for module in (_worker, _attempts, _function, _service))
"""The modules that call the bodies of jobs, and handle any exception of these calls."""


class SignalHandler:
    """A context manager that ends a run on a signal; it works in the main thread only.

    Args:
        scheduler: the scheduler that runs.
        handle: whether to handle SIGTERM and SIGHUP too, and not only Ctrl-C; or a function of the user that is called
            with the number of each signal.

    Raises:
        TypeError: `handle` is neither a bool nor a function.
        ValueError: `handle` is given in a thread other than the main one, where Python handles no signals.

    """

    def __init__(self, scheduler: BaseScheduler, handle: bool | SignalCallback) -> None:
        if not isinstance(handle, bool) and not callable(handle):
            raise TypeError(
                f"handle_signals={short_repr(handle)} of {scheduler.label!r}: "
                f"give True, False, or a function of a signal's number"
            )
        self._scheduler = scheduler
        self._on_signal = None if isinstance(handle, bool) else handle
        self._process = os.getpid()
        self._old: dict[int, Handler] = {}
        self._call_in_loop: Callable[[Callable[[], None]], None] | None = None
        self._pending_since = (
            math.inf
        )  # the time of the first signal that the loop has not handled; infinity if there is none
        self._ends_run = False  # whether such a signal is to end the run
        self._number = 0  # the number of that signal
        self._interruption: BaseException | None = None  # for the run to raise
        self._calls: deque[Callable[[], object]] = deque()  # returned by the user's function
        main = threading.current_thread() is threading.main_thread()
        if handle and not main:
            raise ValueError(
                f"handle_signals={short_repr(handle)}: Python handles signals in the main thread only; call run() there"
            )
        self._signals: list[int] = []
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._signals.append(signal.SIGINT)
        if handle:
            numbers: list[int] = [signal.SIGTERM]
            if sys.platform != "win32":
                numbers.append(signal.SIGHUP)
            # Ignored signals stay ignored: nohup and a shell's `&` rely on it.
            self._signals += [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]

    def loop_started(self, call_in_loop: Callable[[Callable[[], None]], None]) -> None:
        """Store a function that calls others in the event loop; handle a signal that came before."""
        self._call_in_loop = call_in_loop
        if self._pending_since < math.inf:
            call_in_loop(self._process_signals)

    def loop_ended(self) -> None:
        """Note that the event loop has ended, so that nothing can be called in it."""
        self._call_in_loop = None

    def __enter__(self) -> Self:
        """Install the handlers."""
        for number in self._signals:
            self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the old handlers, and raise a signal again that came too late for the run."""
        self._restore()
        if error is not None and error is self._interruption:
            error.__traceback__ = None
            _mark_for_one_line(error, self._scheduler.label)
        if not self._ends_run:
            return
        if self._interruption is None:
            signal.raise_signal(self._number)
        elif error is None or isinstance(error, Exception):
            _mark_for_one_line(self._interruption, self._scheduler.label)
            raise self._interruption

    def _restore(self) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def interrupt(self, interruption: BaseException | None) -> None:
        """End the run in the next step of the loop; it will raise this exception, or return False if it is None."""
        self._ends_run = True
        self._interruption = self._interruption or interruption
        self._reach_loop()

    def _reach_loop(self) -> None:
        self._pending_since = min(self._pending_since, time.monotonic())
        if self._call_in_loop is not None:
            self._call_in_loop(self._process_signals)

    def _process_signals(self) -> None:
        self._pending_since = math.inf
        while self._calls:
            call = self._calls.popleft()
            try:
                call()
            except Exception as error:  # it must not end the loop
                _logger.warn(
                    f"{call!r}, which handle_signals= of {self._scheduler.label!r} has returned, raised", error
                )
        if self._ends_run:
            self._ends_run = not self._scheduler._interrupt(self._interruption)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: Python calls this between any two steps of the program."""
        if os.getpid() != self._process:  # this process was forked by a job
            self._restore()
            signal.raise_signal(number)
            return
        if self._on_signal is not None:
            try:
                callback = self._on_signal(number)
            except BaseException as error:  # raised here, it would interrupt the program anywhere
                self.interrupt(error)
                return
            if callback is not None:
                self._calls.append(callback)
                self._reach_loop()
                return
        if number == signal.SIGINT and self._may_raise(frame):
            raise KeyboardInterrupt
        self._number = number
        self.interrupt(KeyboardInterrupt() if number == signal.SIGINT else None)

    def _may_raise(self, frame: FrameType | None) -> bool:
        """Return whether to raise KeyboardInterrupt in `frame`: a job blocks the loop despite an earlier Ctrl-C."""
        stands_still = time.monotonic() - self._pending_since >= STALL_SECONDS
        run = self._scheduler._run
        return self._ends_run and stands_still and run is not None and run.phase is not STOPPING and _in_body(frame)


def _in_body(frame: FrameType | None) -> bool:
    """Return whether `frame` is in a job's body or in a function that the body has called.

    If that function belongs to the engine or the loop, return False, because an exception would interrupt them.
    """
    in_called_function = False
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] not in UNINTERRUPTIBLE:
        frame, in_called_function = frame.f_back, True
    return in_called_function and frame is not None and frame.f_globals.get("__name__") in BODY_CALLERS


def _mark_for_one_line(interruption: BaseException, label: str) -> None:
    """Make Python print this exception, if it is not caught, in one line; a program's own `sys.excepthook` is kept."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _excepthook
    interruption._trioflow_run = label  # type: ignore[attr-defined]


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    label = getattr(error, "_trioflow_run", None)
    if label is None or error.__cause__ is not None:
        sys.__excepthook__(kind, error, trace)
    elif sys.stderr is not None:  # None in a program without a console
        print(f"{kind.__name__}: Ctrl-C ended the run of {label!r} cleanly", file=sys.stderr)


def in_notebook_cell() -> bool:
    """Return whether this code runs in a notebook."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def run_in_thread(function: Callable[[], T], interrupt: Callable[[BaseException], None]) -> T:
    """Call `function()` in a new thread and return its value; pass a KeyboardInterrupt here to `interrupt`.

    Raises:
        BaseException: the exception of `function`.

    """
    outcome = queue.SimpleQueue[Callable[[], T]]()
    context = contextvars.copy_context()

    def target() -> None:
        try:
            value = context.run(function)
        except BaseException as error:
            raised = error

            def fail() -> T:
                raise raised

            outcome.put(fail)
        else:
            outcome.put(lambda: value)

    threading.Thread(target=target, name="trioflow run").start()
    while True:
        try:
            get_outcome = outcome.get()  # `Thread.join` is no use: after an interruption it treats the thread as ended
        except KeyboardInterrupt as interruption:
            interrupt(interruption)
        else:
            return get_outcome()
