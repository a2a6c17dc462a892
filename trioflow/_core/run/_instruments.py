"""Parts, which take part in a run, and instruments, which watch it.

A **part** belongs to only some runs: the rule of a `First`, the calls of `on_job_settled`, an open block. A run
has a tuple of parts, empty for most runs, and asks them at the points that `Part` names. It knows none of them by name.
A part hears of the jobs of its own run alone, before the instruments do. A part that has to hear more is an
`Instrument`, too. An exception that a part raises is a fault of the engine.

**Instruments** cost nothing if they are not used: a run without instruments has no `InstrumentSet`, and a hook that no
instrument overrides is not called. Workers ask no part: `with_parts` adds `settled` to the function that they call when
a job has ended, and that function is None if there are neither parts nor instruments.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from ..base import _logger, _user_code
from ..base._text_forms import join_names, short_repr
from ..job import _job_options

if TYPE_CHECKING:
    from ..._scheduler import Scheduler
    from ..base._states import RunPhase
    from ..job._job import AbstractJob
    from ._ends import EndQueue
    from ._run import Run

Hook = Callable[["AbstractJob[Any]", "AbstractJob[Any]"], None]


class Instrument:
    """A base class for instruments, which watch runs. Override the hooks that you need.

    Hooks are synchronous methods. The run calls a hook when the event happens, so hooks must be quick. A hook may say
    what a job may say, such as `cancel()` or `add()`. What it ends or adds is told when all instruments have been told
    of the event. Instruments of a scheduler are also notified of events in the schedulers nested in it. If a hook
    raises an `Exception`, the exception is logged, the instrument is removed from the run, and the run goes on.

    If `job_started` sets a context variable, the variable is set in the body of the job, in the threads and tasks that
    the job starts, and in `job_settled` for the job, but not in other jobs.

    Example:
        >>> class Starts(Instrument):
        ...     def job_started(self, scheduler, job):
        ...         print("start", job.label)

    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        """Reject async hooks, because nothing would await them."""
        super().__init_subclass__(**kwargs)
        for name in HOOK_NAMES:
            if _user_code.is_async(getattr(cls, name)):
                raise TypeError(
                    f"{cls.__qualname__}.{name}() is async, and nothing would await it: define it with def"
                )

    @property
    def shown_subjects(self) -> Collection[str]:
        """The kinds of records that the instrument shows where Python prints the log, so that Python need not.

        These are the values of `about` in the log records of the outermost run: "failure" for failures of jobs, "end"
        for the failure of the run. Handlers of `logging` still get these records. If there are no handlers, the records
        are not printed on standard error. By default, an instrument shows nothing.
        """
        return ()

    def before_run(self, scheduler: Scheduler) -> None:
        """Called when a run of `scheduler` begins, after all checks have passed."""

    def job_added(self, scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        """Called when `job` has been added to the running `scheduler`."""

    def job_scheduled(self, scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        """Called when `job` is ready: all its requirements have settled, or are ready services. It waits to start."""

    def job_started(self, scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        """Called when an attempt of `job` begins, before `job_attempt`."""

    def job_attempt(self, scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        """Called when an attempt of `job` begins, including the first."""

    def service_ready(self, scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        """Called when the service `job` has reported that it is ready."""

    def job_settled(self, scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        """Called when `job` has settled, in any final state."""

    def job_reopened(self, scheduler: Scheduler, job: AbstractJob[Any]) -> None:
        """Called when `job`, which had settled or waited to start, is IDLE again.

        It, its scheduler, or a job that it requires is tried again.
        """

    def incident(
        self,
        scheduler: Scheduler,
        job: AbstractJob[Any] | None,
        message: str,
        exception: BaseException | None,
    ) -> None:
        """Called for an incident that is not the outcome of a job, such as an exception in `co_shutdown`."""

    def after_run(self, scheduler: Scheduler) -> None:
        """Called when the run of `scheduler` has ended, and all its jobs have been shut down."""


HOOK_NAMES: Final = tuple(
    name
    for name, value in vars(Instrument).items()
    if name[0] != "_" and callable(value)
)
MIN_BLOCKING_SECONDS: Final = 1.0
"""A job or an instrument that blocks the event loop for longer than this, in seconds, is named in the log."""


class InstrumentSet:
    """The instruments of a run and of the enclosing runs, with their overrides of each hook."""

    def __init__(
        self,
        instruments: Iterable[Instrument],
        outer: InstrumentSet | None,
        ends: EndQueue,
        interrupt: Callable[[BaseException], None],
    ) -> None:
        """Look up the overrides of each hook.

        Args:
            instruments: the instruments of the run.
            outer: the instruments of the enclosing run, which are called last, or None if there is none.
            ends: whatever the hooks end or add waits there until all of them have been told.
            interrupt: called with an exception from a hook that is not an `Exception`, such as `KeyboardInterrupt`.

        """
        self._ends: Final = ends
        self.interrupt: Callable[[BaseException], None] | None = interrupt
        removed = set[int]()
        inherited: tuple[Instrument, ...] = ()
        if outer is not None:
            removed = outer._removed
            inherited = outer.instruments
        # The ids of the instruments that were removed, in the outermost run and all runs nested in it.
        self._removed: Final[set[int]] = removed
        # The hooks that have blocked the loop.
        self._slow_hooks: Final[set[tuple[str, ...]]] = set()
        left = {id(each): each for each in (*instruments, *inherited)}
        for identity in removed:
            left.pop(identity, None)
        self.instruments: Final[tuple[Instrument, ...]] = tuple(left.values())
        # For each hook, the methods that override it, each with the name of the hook.
        self._hooks: Final[dict[str, list[tuple[Any, str]]]] = {}
        for hook in HOOK_NAMES:
            overriding = [each for each in self.instruments if _overrides(each, hook)]
            self._hooks[hook] = [(getattr(each, hook), hook) for each in overriding]

    def detach(self) -> None:
        """Drop the reference to the run, which has ended. From now on, interruptions propagate from hooks."""
        self.interrupt = None

    def notify(self, hook: str, *details: object) -> None:
        """Call `hook` of each instrument. Remove an instrument that raises an `Exception`."""
        call = self.fast_hook(hook)
        if call is not None:
            with self._ends:
                call(*details)

    def shows(self, subject: str) -> bool:
        """Return whether one of the instruments shows the log records about a subject itself."""
        with contextlib.suppress(Exception):
            # From the user's property: the record is then printed.
            return any(
                subject in one.shown_subjects
                for one in self.instruments
                if id(one) not in self._removed
            )
        return False

    def fast_hook(self, *hooks: str) -> Callable[..., None] | None:
        """Return a function that calls these hooks in order, or None if no instrument overrides any of them.

        Workers call the function on their hot path, where looking the hooks up would double the cost. Its caller holds
        `EndQueue.depth` meanwhile, as a step does; `fast_start_hook` is for the start of a job, which is none.
        """
        methods: list[tuple[Any, str]] = []
        for name in hooks:
            methods += self._hooks[name]
        removed = self._removed

        def notify(*details: object) -> None:
            began = time.monotonic()
            for method, hook in methods:
                if removed and id(getattr(method, "__self__", method)) in removed:
                    continue
                try:
                    method(*details)
                except BaseException as error:
                    if not self._handle_error(method, hook, error):
                        raise
            seconds = time.monotonic() - began
            if seconds > MIN_BLOCKING_SECONDS and hooks not in self._slow_hooks:
                self._slow_hooks.add(hooks)
                owners = [getattr(method, "__self__", method) for method, _ in methods]
                # The package's own instruments are not the user's to mend.
                owners = [
                    owner
                    for owner in owners
                    if not _user_code.is_from_package(type(owner))
                ]
                advice = "do slow work in a thread"
                if names := join_names(list(map(short_repr, owners))):
                    _logger.warn(
                        f"{names} blocked the event loop for {seconds:.1f} s in {hooks[0]}; {advice}"
                    )

        return notify if methods else None

    def fast_start_hook(self) -> Hook | None:
        """Return a function that calls the hooks of a start, or None. What these end or add is told after them."""
        call = self.fast_hook("job_started", "job_attempt")
        if call is None:
            return None
        ends = self._ends

        def notify_start(scheduler: Any, job: Any) -> None:
            with ends:
                call(scheduler, job)

        return notify_start

    def _handle_error(
        self, method: Callable[..., None], hook: str, error: BaseException
    ) -> bool:
        """Remove the instrument, or interrupt the run. Return False if the hook's caller must raise the error.

        Only the start of a job may raise an interruption: the job then fails with it. Anywhere else, it would end the
        engine in the middle of a step.
        """
        if isinstance(error, Exception):
            instrument = getattr(method, "__self__", method)
            _logger.warn(
                f"instrument {short_repr(instrument)} raised in {hook} and is removed from this run",
                error,
            )
            self._removed.add(id(instrument))
        elif hook in ("job_started", "job_attempt") or self.interrupt is None:
            return False
        else:
            self.interrupt(error)
        return True


def _overrides(instrument: Instrument, hook: str) -> bool:
    is_defined = getattr(type(instrument), hook, None) is not getattr(Instrument, hook)
    return is_defined or hook in getattr(instrument, "__dict__", {})


def check_instruments(
    instruments: object, name: str, subject: _job_options.Subject
) -> tuple[Instrument, ...]:
    """Check an argument that is a collection of instruments, and return it as a tuple.

    Args:
        instruments: the argument.
        name: the name of the argument, for errors.
        subject: the object that has the argument, for errors.

    Raises:
        TypeError: `instruments` is not a collection of instruments.

    """
    if isinstance(instruments, Instrument) or not isinstance(instruments, Iterable):
        example = "Monitor()"
        if isinstance(instruments, Instrument):
            example = short_repr(instruments)
        advice = f"give a list of instruments, such as [{example}]"
        raise _job_options.bad_value_error(
            TypeError, instruments, name, subject, advice
        )
    checked_instruments: list[Any] = [*instruments]
    for instrument in checked_instruments:
        if isinstance(instrument, type) or not isinstance(instrument, Instrument):
            what = f"{short_repr(instrument)} among the {name} of {_job_options.subject_text(subject)}"
            raise TypeError(f"{what}: give objects of trioflow.abc.Instrument")
    return tuple(checked_instruments)


class Part:
    """The base class of the parts of a run. A part overrides the methods that it needs."""

    # Deleted when the run has ended, to break a reference cycle.
    _run: Run

    def enter(self, phase: RunPhase) -> None:
        """The run enters the phase LINKING or RUNNING, or, for STOPPING, its ending."""

    def on_added(self) -> None:
        """Jobs of the running scheduler have been added and linked, are tried again, or have got requirements."""

    def may_start(self, job: AbstractJob[Any]) -> bool:
        """Return whether a job without open requirements may be scheduled. Otherwise, the part schedules it later."""
        return True

    def settled(self, job: AbstractJob[Any]) -> None:
        """A job has settled. Its successors have not been counted down."""

    def attempt_ended(
        self,
        job: AbstractJob[Any],
        began: float,
        ended: float,
        error: BaseException | None,
    ) -> None:
        """An attempt of a job has ended with an exception, and another will follow."""

    def is_busy(self) -> bool:
        """Return whether the run must go on, even if all its jobs have settled: the part may start or add others."""
        return False

    def due_at(self) -> float:
        """Return the time when the run must call `act` at the latest. A part that changes this time wakes the run."""
        return math.inf

    def act(self) -> None:
        """Do what is due, by time, or because all jobs that became ready have been looked up in the journal."""

    def on_resumed(self) -> None:
        """`resume()` was called, and the run is not paused."""


def overrides(part: Part, method: str) -> bool:
    return getattr(type(part), method) is not getattr(Part, method)


def with_parts(parts: tuple[Part, ...], notify_end: Hook | None) -> Hook | None:
    """Return a function that tells the parts, and then the instruments, that a job has settled."""
    calls = [part.settled for part in parts if overrides(part, "settled")]
    if not calls:
        return notify_end

    def notify_all(scheduler: AbstractJob[Any], job: AbstractJob[Any]) -> None:
        for settled in calls:
            settled(job)
        if notify_end is not None:
            notify_end(scheduler, job)

    return notify_all
