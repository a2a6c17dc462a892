"""Support for `Scheduler.run()`: the handling of Ctrl-C and other signals, and runs in notebook cells.

While `run()` owns the event loop, the first signal ends the run cleanly, as INTERRUPTED. The signal is handled between
two steps of the event loop, so that it never interrupts the engine. If a job blocks the loop, a second Ctrl-C raises
KeyboardInterrupt in that job. This happens only if the loop has stood still for a while, only in the job's own code,
and never while the run is stopping.

The KeyboardInterrupt that `run()` raises for the first Ctrl-C has no meaningful traceback, so `run()` removes the
traceback. If the exception is not caught, Python prints one line, and is still terminated by SIGINT, as shells expect.
If the program has set its own `sys.excepthook`, this is kept, and may print more.

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

from ..backend import is_in_job_body
from ..base import _logger
from ..base._reprs import short_repr
from ..base._states import STOPPING

if TYPE_CHECKING:
    from ._base_scheduler import BaseScheduler

T = TypeVar("T")
PreviousHandler = Callable[[int, FrameType | None], Any] | int | None
"""The return type of `signal.signal`."""
SignalCallback = Callable[[int], Callable[[], object] | None]
"""The type of a function that is passed as `handle_signals`."""

STALL_SECONDS: Final = 0.25
"""How long the loop must have stood still before a second Ctrl-C is raised in a job. A double press takes 0.2 s."""


class SignalHandler:
    """A context manager that ends a run on a signal. Outside of the main thread it does nothing.

    Args:
        scheduler: the scheduler that runs.
        handle_signals: True to handle not only Ctrl-C, but also SIGTERM and SIGHUP; or a user-supplied function, which
            is called with the number of each of these signals.

    Raises:
        TypeError: `handle_signals` is neither a bool nor a function.
        ValueError: `handle_signals` is set outside of the main thread, where Python handles no signals.

    """

    def __init__(self, scheduler: BaseScheduler, handle_signals: bool | SignalCallback) -> None:
        if not isinstance(handle_signals, bool) and not callable(handle_signals):
            raise TypeError(
                f"handle_signals={short_repr(handle_signals)} of {scheduler.label!r}: "
                f"give True, False, or a function that takes a signal number"
            )
        self._scheduler = scheduler
        self._user_callback = None if isinstance(handle_signals, bool) else handle_signals
        self._process_id = os.getpid()
        self._previous_handlers: dict[int, PreviousHandler] = {}
        self._call_in_loop: Callable[[Callable[[], None]], None] | None = None
        # The time of the first signal that the event loop has not processed yet; infinity if there is none.
        self._pending_since = math.inf
        self._should_end_run = False  # whether a signal that has not been processed yet is to end the run
        self._signal_number = 0  # the number of the last signal that was to end the run
        self._interruption: BaseException | None = None  # the exception that `run()` is to raise
        self._pending_calls: deque[Callable[[], object]] = deque()  # functions that the user's callback has returned
        is_main_thread = threading.current_thread() is threading.main_thread()
        if handle_signals and not is_main_thread:
            raise ValueError(
                f"handle_signals={short_repr(handle_signals)}: "
                f"Python handles signals in the main thread only; call run() there"
            )
        self._handled_signals: list[int] = []
        if is_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._handled_signals.append(signal.SIGINT)
        if handle_signals:
            numbers: list[int] = [signal.SIGTERM]
            if sys.platform != "win32":
                numbers.append(signal.SIGHUP)
            # Ignored signals stay ignored, because nohup and a shell's `&` rely on this.
            self._handled_signals += [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]

    def loop_started(self, call_in_loop: Callable[[Callable[[], None]], None]) -> None:
        """Store a function that calls its argument in the event loop. If a signal has come already, process it."""
        self._call_in_loop = call_in_loop
        if self._pending_since < math.inf:
            call_in_loop(self._process_signals)

    def loop_ended(self) -> None:
        """Record that the event loop has ended, so that nothing can be called in it any more."""
        self._call_in_loop = None

    def __enter__(self) -> Self:
        for number in self._handled_signals:
            self._previous_handlers[number] = signal.signal(number, self._handle_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the previous handlers. If a signal came too late to end the run, raise it again."""
        self._restore_handlers()
        if error is not None and error is self._interruption:
            error.__traceback__ = None
            _show_in_one_line(error, self._scheduler.label)
        if not self._should_end_run:
            return
        if self._interruption is None:
            signal.raise_signal(self._signal_number)
        elif error is None or isinstance(error, Exception):
            _show_in_one_line(self._interruption, self._scheduler.label)
            raise self._interruption

    def _restore_handlers(self) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def interrupt(self, interruption: BaseException | None) -> None:
        """End the run in the next step of the event loop.

        `run()` then raises `interruption`, or returns False if `interruption` is None.
        """
        self._should_end_run = True
        self._interruption = self._interruption or interruption
        self._process_signals_in_loop()

    def _process_signals_in_loop(self) -> None:
        self._pending_since = min(self._pending_since, time.monotonic())
        if self._call_in_loop is not None:
            self._call_in_loop(self._process_signals)

    def _process_signals(self) -> None:
        self._pending_since = math.inf
        while self._pending_calls:
            call = self._pending_calls.popleft()
            try:
                call()
            except Exception as error:  # an exception must not end the loop
                _logger.warn(
                    f"{call!r}, which handle_signals= of {self._scheduler.label!r} has returned, raised", error
                )
        if self._should_end_run:
            self._should_end_run = not self._scheduler._interrupt(self._interruption)

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal. Python may call this between any two instructions of the program."""
        if os.getpid() != self._process_id:  # this process was forked by a job
            self._restore_handlers()
            signal.raise_signal(number)
            return
        if self._user_callback is not None:
            try:
                callback = self._user_callback(number)
            except BaseException as error:  # not raised here, because it would interrupt the program at any point
                self.interrupt(error)
                return
            if callback is not None:
                self._pending_calls.append(callback)
                self._process_signals_in_loop()
                return
        if number == signal.SIGINT and self._should_raise_in_job(frame):
            raise KeyboardInterrupt
        self._signal_number = number
        self.interrupt(KeyboardInterrupt() if number == signal.SIGINT else None)

    def _should_raise_in_job(self, frame: FrameType | None) -> bool:
        """Return whether to raise KeyboardInterrupt in `frame`.

        This is the case if a job has been blocking the loop for some time after an earlier Ctrl-C.
        """
        is_loop_stalled = time.monotonic() - self._pending_since >= STALL_SECONDS
        run = self._scheduler._run
        return (
            self._should_end_run
            and is_loop_stalled
            and run is not None
            and run.phase is not STOPPING
            and is_in_job_body(frame)
        )


def _show_in_one_line(interruption: BaseException, label: str) -> None:
    """Make Python print only one line if this exception is not caught, unless the program has its own `excepthook`."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _excepthook
    interruption._trioflow_run = label  # type: ignore[attr-defined]


def _excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    label = getattr(error, "_trioflow_run", None)
    if label is None or error.__cause__ is not None:
        sys.__excepthook__(kind, error, trace)
    elif sys.stderr is not None:  # None in a program without a console
        print(f"{kind.__name__}: Ctrl-C ended the run of {label!r} cleanly", file=sys.stderr)


def is_in_notebook_cell() -> bool:
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


def run_in_thread(function: Callable[[], T], interrupt: Callable[[BaseException], None]) -> T:
    """Call `function()` in a new thread, and return its value.

    If KeyboardInterrupt is raised in the calling thread meanwhile, pass the exception to `interrupt`, and keep waiting.

    Raises:
        BaseException: `function()` has raised this exception.

    """
    # Gets one function, which returns the value of `function()`, or raises its exception.
    outcomes = queue.SimpleQueue[Callable[[], T]]()
    context = contextvars.copy_context()

    def target() -> None:
        try:
            value = context.run(function)
        except BaseException as error:
            raised = error

            def fail() -> T:
                raise raised

            outcomes.put(fail)
        else:
            outcomes.put(lambda: value)

    threading.Thread(target=target, name="trioflow run").start()
    while True:
        try:
            # `Thread.join` cannot be used, because after an interruption it treats the thread as ended.
            get_outcome = outcomes.get()
        except KeyboardInterrupt as interruption:
            interrupt(interruption)
        else:
            return get_outcome()
