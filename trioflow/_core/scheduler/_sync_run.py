"""Support for `Scheduler.run()`: the handling of Ctrl-C and other signals, and runs in notebook cells.

While `run()` owns the event loop, the first signal ends the run cleanly, as INTERRUPTED. The signal is handled between
two steps of the event loop, so that it never interrupts the engine. If a job blocks the loop, a second Ctrl-C raises
KeyboardInterrupt in that job. This happens only if the loop has stood still for a while, only in the job's own code,
and never while the run is stopping.

An exception of the program's own signal handler ends the run, too, and leaves `run()` afterwards. Raised at any point,
it would interrupt the engine, or crash the event loop. So a handler of the run calls the handlers that were set before
`run()`. If a job is executing, the exception is raised in the job's code as well, which may block the loop. If a
handler steers the run, for example with `cancel()`, the call would change the engine in the middle of a step, or wake a
loop that is about to wait. So the loop makes the call.

The KeyboardInterrupt that `run()` raises for the first Ctrl-C has no meaningful traceback, so `run()` removes the
traceback. If the exception is not caught, Python prints a single line, and is still terminated by SIGINT, as shells
expect. A KeyboardInterrupt that was raised in a job keeps only the user's own lines. If the program has set its own
`sys.excepthook`, this is kept, and may print more.

In a notebook cell an event loop is running already, so the run gets a thread of its own.

Decided in docs/decisions: 09-ctrl-c.
"""

from __future__ import annotations

import contextvars
import math
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self, TypeVar

from ..backend import SIGNALS, is_in_job_body
from ..base import _logger
from ..base._states import CHECKING, STOPPING
from ..base._text_forms import short_repr
from ..base._user_code import linked, own_entries, signature_of
from ..job._ancestors import enclosing_schedulers

if TYPE_CHECKING:
    from ._base_scheduler import BaseScheduler

T = TypeVar("T")
Call = Callable[[], None]
SignalCallback = Callable[[int], Callable[[], object] | None]
SignalSetting = bool | SignalCallback | Mapping[int, SignalCallback | Literal[True]]

# Windows has no SIGHUP, SIGKILL and SIGSTOP: https://docs.python.org/3/library/signal.html#signal.SIGHUP.
BY_NAME: Final = signal.Signals.__members__
UNCATCHABLE: Final = {
    BY_NAME[name] for name in ("SIGKILL", "SIGSTOP") if name in BY_NAME
}
STALL_SECONDS: Final = 0.25
"""How long the loop must have stood still before a second Ctrl-C is raised in a job. A double press takes 0.2 s."""


class SignalHandler:
    """A context manager that ends a run on a signal, or with the exception that a handler of the program raises.

    Outside of the main thread, where Python handles no signals, it does nothing, like `asyncio.Runner`.

    Args:
        scheduler: the scheduler that runs.
        handle_signals: False ends the run on Ctrl-C, unless the program handles that. True ends it on SIGTERM and
            SIGHUP as well. A user-supplied function is called with the number of each of the three signals. A mapping
            of signals to such functions leaves Ctrl-C as with False, unless it has SIGINT.

    Raises:
        TypeError: `handle_signals` is none of these.

    """

    # The handler that is calling a function of the program.
    calling: ClassVar[SignalHandler | None] = None

    def __init__(self, scheduler: BaseScheduler, handle_signals: SignalSetting) -> None:
        self._scheduler = scheduler
        self._callbacks = self._check_callbacks(handle_signals)
        self._process_id = os.getpid()
        self._is_over = False
        # The handlers that this one takes the place of. They are known before, because a signal may come at once.
        self._previous_handlers: dict[int, Any] = {}
        self._call_in_loop: Callable[[Call], None] | None = None
        # The time of the first signal that the event loop has not processed yet, or infinity if there is none.
        self._pending_since = math.inf
        # Whether a signal that has not been processed yet is to end the run.
        self._should_end_run = False
        # The number of the last signal that was to end the run.
        self._signal_number = 0
        # The exception that `run()` is to raise.
        self._interruption: BaseException | None = None
        # The calls that functions of the program have returned, or made to steer the run.
        self._pending_calls: deque[Callable[[], object]] = deque()
        # The signals that end the run, or are passed to the user's callbacks. Ignored signals stay ignored, because
        # nohup and a shell's `&` rely on this.
        self._ending_signals: set[int] = set()
        if threading.current_thread() is threading.main_thread():
            self._ending_signals = {
                each
                for each in self._callbacks
                if signal.getsignal(each) is not signal.SIG_IGN
            }
            if SIGNALS.getsignal(signal.SIGINT) is signal.default_int_handler:
                self._ending_signals.add(signal.SIGINT)
            for number in SIGNALS.valid_signals():
                handler = SIGNALS.getsignal(number)
                if number in self._ending_signals or callable(handler):
                    self._previous_handlers[number] = handler

    def _check_callbacks(
        self, handle_signals: object
    ) -> dict[int, SignalCallback | None]:
        """Return the signals that `handle_signals` names, each with the user's callback, if any."""
        callbacks: dict[Any, Any]
        if isinstance(handle_signals, Mapping):
            callbacks = dict(handle_signals)  # pyright: ignore[reportUnknownArgumentType]
        else:
            callbacks = {}
            if handle_signals is not False:
                for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                    if name in BY_NAME:
                        callbacks[BY_NAME[name]] = handle_signals
        for number, callback in callbacks.items():
            try:
                fits = number in SIGNALS.valid_signals() - UNCATCHABLE and (
                    callback is True or signature_of(callback).bind(0)
                )
            except Exception:
                # No function, or a user's object.
                fits = None
            if not fits:
                raise TypeError(
                    f"handle_signals={short_repr(handle_signals)} of {self._scheduler.label!r}: give True, False, a "
                    f"function that takes a signal number, such as lambda number: scheduler.drain, or a dict such as "
                    f"{{signal.SIGTERM: function}}"
                )
        return {
            number: None if callback is True else callback
            for number, callback in callbacks.items()
        }

    @property
    def wakes_loop(self) -> bool:
        """Whether signals have to wake the loop that runs in this thread."""
        if not self._previous_handlers:
            return False
        return threading.current_thread() is threading.main_thread()

    def loop_started(
        self, call_in_loop: Callable[[Call], None], keep: Callable[[Call], None]
    ) -> None:
        """Record that the event loop has started. If a signal has come already, process it.

        Args:
            call_in_loop: calls its argument in the event loop.
            keep: lets the run begin with a call. A call in the loop might come after the first jobs.

        """
        self._call_in_loop = call_in_loop
        if self._pending_since < math.inf:
            keep(self._process_signals)

    def loop_ended(self) -> None:
        """Record that the event loop has ended, so that nothing can be called in it any more."""
        self._call_in_loop = None

    def __enter__(self) -> Self:
        try:
            for number in self._previous_handlers:
                SIGNALS.signal(number, self._handle_signal)
        except BaseException:
            # Raised by a handler of the program.
            self._is_over = True
            self._restore_handlers()
            raise
        return self

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        """Restore the previous handlers. If a signal came too late to end the run, raise it again."""
        self._is_over = True
        self._restore_handlers()
        is_own = error is self._interruption and hasattr(error, "_trioflow_run")
        if error is not None and is_own:
            error.__traceback__ = None
            _show_in_one_line()
        else:
            # A Ctrl-C that was raised in a job, between frames of the engine and of the loop.
            OwnFrames().__exit__(kind, error, trace)
        if not self._should_end_run:
            return
        if self._interruption is None:
            signal.raise_signal(self._signal_number)
        elif error is None or isinstance(error, Exception):
            _show_in_one_line()
            raise self._interruption

    def _restore_handlers(self) -> None:
        """Restore those previous handlers that nobody has replaced during the run."""
        for number, handler in self._previous_handlers.items():
            if getattr(SIGNALS.getsignal(number), "__self__", None) is self:
                SIGNALS.signal(number, handler or SIGNALS.SIG_DFL)

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
        self._make_calls()
        if self._should_end_run:
            self._should_end_run = not self._scheduler._interrupt(self._interruption)

    def _make_calls(self) -> None:
        while self._pending_calls:
            call = self._pending_calls.popleft()
            try:
                call()
            except Exception as error:
                # An exception must not end the loop.
                _logger.warn(
                    f"{call!r}, which handle_signals= of {self._scheduler.label!r} returned, raised",
                    error,
                )

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal. Python may call this between any two instructions of the program."""
        if self._is_over or os.getpid() != self._process_id:
            # Code of a job has kept this handler, or has forked.
            self._restore_handlers()
            signal.raise_signal(number)
            return
        if number not in self._ending_signals:
            self._call_previous_handler(number, frame)
            return
        if (user_callback := self._callbacks.get(number)) is not None:
            earlier_count = len(self._pending_calls)
            try:
                callback = self._call(user_callback, number)
            except BaseException as error:
                # Not raised here, because it would interrupt the program at any point.
                self.interrupt(error)
                return
            if callback is not None:
                self._pending_calls.append(callback)
            if len(self._pending_calls) > earlier_count:
                self._process_signals_in_loop()
                return
        if number == signal.SIGINT and self._should_raise_in_job(frame):
            raise KeyboardInterrupt
        self._signal_number = number
        interruption = None
        if number not in self._callbacks:
            interruption = KeyboardInterrupt()
            interruption._trioflow_run = self._scheduler.label  # type: ignore[attr-defined]
        self.interrupt(interruption)

    def _call_previous_handler(self, number: int, frame: FrameType | None) -> None:
        """Call the program's own handler of a signal. End the run with its exception."""
        try:
            self._call(self._previous_handlers[number], number, frame)
        except BaseException as error:
            if self._is_in_job(frame):
                # As the job could do by `cancel()`.
                self._scheduler._interrupt(error)
                raise
            self.interrupt(error)
        if self._pending_calls:
            self._process_signals_in_loop()

    def _call(self, function: Callable[..., T], *arguments: object) -> T:
        """Call a function of the program, and keep the calls that it makes to steer the run."""
        calling = SignalHandler.calling
        SignalHandler.calling = self
        try:
            return function(*arguments)
        finally:
            SignalHandler.calling = calling

    def is_for(self, scheduler: BaseScheduler) -> bool:
        """Return whether a word is about the run, and comes from the thread of the signal handler."""
        is_for_run = self._scheduler in (scheduler, *enclosing_schedulers(scheduler))
        return is_for_run and threading.current_thread() is threading.main_thread()

    def keep(self, call: Callable[[], object]) -> None:
        """Keep a call that steers the run for the loop."""
        self._pending_calls.append(call)

    def _should_raise_in_job(self, frame: FrameType | None) -> bool:
        """Return whether to raise KeyboardInterrupt in `frame`.

        This is the case in the check before the run, and if a job has been blocking the loop for some time after an
        earlier Ctrl-C.
        """
        run = self._scheduler._run
        stall = time.monotonic() - self._pending_since
        is_due = self._should_end_run and stall >= STALL_SECONDS
        if run is not None and run.phase is CHECKING:
            is_due = True
        return is_due and self._is_in_job(frame)

    def _is_in_job(self, frame: FrameType | None) -> bool:
        """Return whether `frame` executes code of a job of a run that is not stopping."""
        run = self._scheduler._run
        return run is not None and run.phase is not STOPPING and is_in_job_body(frame)


class OwnFrames:
    """A context manager that leaves the user's own frames alone in the traceback of a KeyboardInterrupt."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        # A second Ctrl-C has the first one as its context.
        while isinstance(error, KeyboardInterrupt):
            error.__traceback__ = linked(own_entries(error.__traceback__))
            error = error.__context__


def _show_in_one_line() -> None:
    """Make Python print an uncaught Ctrl-C of a run as a single line, unless the program has its own `excepthook`."""
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _excepthook


def _excepthook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    label = getattr(error, "_trioflow_run", None)
    if label is None or error.__cause__ is not None:
        sys.__excepthook__(kind, error, trace)
    # A program without a console has no `stderr`.
    elif sys.stderr is not None:
        print(
            f"{kind.__name__}: Ctrl-C ended the run of {label!r} cleanly",
            file=sys.stderr,
        )


def is_in_notebook_cell() -> bool:
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def run_in_thread(
    function: Callable[[], T], interrupt: Callable[[BaseException], None]
) -> T:
    """Call `function()` in a new thread, and return its value.

    If KeyboardInterrupt is raised in the calling thread meanwhile, pass the exception to `interrupt`, and keep waiting.

    Raises:
        BaseException: `function()` has raised this exception.

    """
    # Imported late: only cells of notebooks need it.
    from concurrent.futures import ThreadPoolExecutor, wait

    with ThreadPoolExecutor(1, "trioflow run") as executor:
        outcome = executor.submit(contextvars.copy_context().run, function)
        while True:
            try:
                if wait([outcome], 1.0).done:
                    # Python handles a signal just before a wait when it ends.
                    return outcome.result()
            except KeyboardInterrupt as interruption:
                if outcome.done():
                    raise
                interrupt(interruption)
