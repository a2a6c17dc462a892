"""`BaseScheduler`: a set of jobs that can be run, and is itself a job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import EllipsisType
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple, Unpack

from . import (
    _backend,
    _checks,
    _ending,
    _failures,
    _growth,
    _instruments,
    _labels,
    _log,
    _notebook,
    _options,
    _signals,
)
from ._instruments import Instrument, Observers
from ._jobs import AbstractJob
from ._members import Members
from ._options import JobOptions
from ._run import Run
from ._states import StopReason

if TYPE_CHECKING:
    from ._backend import Backend

BackendName = Literal["trio", "asyncio"]
OWN: Final = ...
"""The default of an argument whose value is otherwise the scheduler's own."""


class Incident(NamedTuple):
    """Something that was reported during a run and belongs to no job's outcome."""

    job: AbstractJob[Any] | None
    message: str
    exception: BaseException | None


class BaseScheduler(Members):
    """A set of jobs that can be run; `trioflow.Scheduler` adds the ways to look at it."""

    _limits_itself: ClassVar[bool] = True

    # ---- settings; each counts from the next run on
    critical_jobs: bool | None
    # ---- of the last run
    _stop_reason: StopReason | None
    _culprit: AbstractJob[Any] | None
    _time_limit: float
    _incidents: list[Incident]

    def __init__(
        self,
        *jobs_or_sequences: Any,
        jobs_window: Any = None,
        shutdown_timeout: float | None = 1.0,
        cleanup_timeout: float | None = 5.0,
        critical_jobs: bool | None = None,
        start_interval: float = 0.0,
        instruments: Iterable[Instrument] = (),
        **options: Unpack[JobOptions],
    ) -> None:
        """Check the settings; `trioflow.Scheduler` says what they mean."""
        who = repr(options.get("label") or type(self).__name__)
        self.critical_jobs = critical_jobs
        self._jobs_window = _options.window(jobs_window, who)
        self._shutdown_timeout = _options.seconds(shutdown_timeout, "shutdown_timeout", who)
        self._cleanup_timeout = _options.seconds(cleanup_timeout, "cleanup_timeout", who)
        self._start_interval = _options.duration(start_interval, "start_interval", who)
        self._instruments = _instruments.checked(instruments, who)
        self._stop_reason = self._culprit = None
        self._incidents = []
        super().__init__(*jobs_or_sequences, **options)

    # ---- settings

    @property
    def jobs_window(self) -> Any:
        """How many of its jobs run at once: a number, a `CapacityLimiter`, or None for no limit."""
        return self._jobs_window

    @jobs_window.setter
    def jobs_window(self, window: Any) -> None:
        self._jobs_window = _options.window(window, repr(self.label))

    @property
    def shutdown_timeout(self) -> float | None:
        """Seconds for all `co_shutdown` together, or None for no limit."""
        return self._shutdown_timeout

    @shutdown_timeout.setter
    def shutdown_timeout(self, seconds: float | None) -> None:
        self._shutdown_timeout = _options.seconds(seconds, "shutdown_timeout", repr(self.label))

    @property
    def cleanup_timeout(self) -> float | None:
        """Seconds for the clean-up jobs that run after a critical failure or a timeout, or None for no limit."""
        return self._cleanup_timeout

    @cleanup_timeout.setter
    def cleanup_timeout(self, seconds: float | None) -> None:
        self._cleanup_timeout = _options.seconds(seconds, "cleanup_timeout", repr(self.label))

    @property
    def start_interval(self) -> float:
        """Seconds between two starts, 0 or more."""
        return self._start_interval

    @start_interval.setter
    def start_interval(self, seconds: float) -> None:
        self._start_interval = _options.duration(seconds, "start_interval", repr(self.label))

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """What watches each of its runs."""
        return self._instruments

    # ---- running

    def run(
        self,
        *,
        backend: BackendName = "trio",
        backend_options: Mapping[str, Any] | None = None,
        timeout: float | EllipsisType | None = OWN,
        jobs_window: Any = OWN,
        instruments: Iterable[Instrument] = (),
        check: bool = False,
        handle_signals: bool = False,
    ) -> bool:
        """Run the scenario in an event loop of its own, from plain code.

        Ctrl-C ends the run in order and is raised when all is shut down; if a job keeps the loop from turning,
        a second one is raised in that job.

        Args:
            backend: "trio" or "asyncio".
            backend_options: keyword arguments of `trio.run`, or the backend options of `anyio.run` for asyncio.
            timeout: seconds for the whole run, more than 0; None for no limit; default: the scheduler's own.
            jobs_window: how many jobs at once; default: the scheduler's own.
            instruments: what watches this run, beside the scheduler's own.
            check: raises instead of returning False, and for any failure, critical or not.
            handle_signals: SIGTERM and SIGHUP end the run in order too, and it returns False; main thread only.

        Returns:
            True if and only if `stop_reason` is COMPLETED: all jobs settled in time, and no critical one failed.

        Raises:
            CycleError, MissingRequirement, ValueError: the scenario can't run; nothing has started.
            RuntimeError: an event loop runs in this thread, or the scheduler runs or is closed.
            ExceptionGroup, JobTimeout, JobCancelled: with `check`, what went wrong.
            KeyboardInterrupt, SystemExit: what interrupted it, bare, when all is shut down.

        Example:
            >>> async def hello():
            ...     return "hello"
            >>> Scheduler(Job(hello)).run()
            True

        """
        chosen = _backend.by_name(backend)

        async def main() -> bool:
            watch.loop_started(chosen.caller())
            try:
                return await self.co_run(timeout=timeout, jobs_window=jobs_window, instruments=instruments, check=check)
            finally:
                watch.loop_ended()

        if _backend.loop_running() and not _notebook.in_cell():
            raise RuntimeError(
                f"{self.label!r}.run(): an event loop runs in this thread; write: await scheduler.co_run()"
            )
        with _signals.SignalWatch(self._interrupt, handle_signals) as watch:
            if _backend.loop_running():
                return _notebook.run_in_thread(lambda: chosen.run(main, backend_options or {}), watch.interrupt)
            return chosen.run(main, backend_options or {})

    async def co_run(
        self,
        *,
        timeout: float | EllipsisType | None = OWN,
        jobs_window: Any = OWN,
        instruments: Iterable[Instrument] = (),
        check: bool = False,
        _opened: Callable[[], None] | None = None,
    ) -> bool:
        """Run the scenario in the event loop that is there, trio's or asyncio's.

        A cancellation from outside ends it in order, and is raised when all is shut down.

        Args:
            timeout: seconds for the whole run, more than 0; None for no limit; default: the scheduler's own.
            jobs_window: how many jobs at once; default: the scheduler's own.
            instruments: what watches this run, beside the scheduler's own.
            check: raises instead of returning False, and for any failure, critical or not.

        Returns:
            True if and only if `stop_reason` is COMPLETED: all jobs settled in time, and no critical one failed.

        Raises:
            CycleError, MissingRequirement, ValueError: the scenario can't run; nothing has started.
            RuntimeError: no event loop, or the scheduler runs or is closed.
            ExceptionGroup, JobTimeout, JobCancelled: with `check`, what went wrong.
            KeyboardInterrupt, SystemExit: what a job raised, bare, when all is shut down.

        """
        backend = _backend.current()
        run = self._new_run(backend, timeout, jobs_window, instruments)
        outer = run.outer_worker
        run.opened_block = _opened
        self._run = run
        try:
            await self._prepare(run)
            await run.execute()
        except Exception as error:  # of the checks
            if run.interruption is not None:
                raise run.interruption from error
            raise
        finally:
            self._run = None
        if outer is not None:
            outer.run.failures += run.failures
            return _failures.raise_or_true(self, run)
        number = 0
        if run.failures and run.reason is StopReason.COMPLETED:
            number = len(_failures.failed(self))  # not those of attempts that later ones have replaced
        if number:
            _log.warn(f"{number} job{'s' * (number != 1)} of {self.label!r} failed; the run went on to its end")
        if check:
            _failures.check(self)
        return run.reason is StopReason.COMPLETED

    def _new_run(self, backend: Backend, timeout: Any, jobs_window: Any, instruments: Iterable[Instrument]) -> Run:
        self._check_may_run()
        who = repr(self.label)
        if self._worker is None and self._scheduler is not None and self._scheduler._run is not None:
            raise RuntimeError(f"{who} is a job of {self._scheduler.label!r}, which is running: that will run it")
        seconds = self.timeout if timeout is OWN else _options.seconds(timeout, "timeout", who)
        window = self._jobs_window if jobs_window is OWN else _options.window(jobs_window, who)
        if window is not None and not isinstance(window, int):
            problem = backend.check_limiter(window)
            if problem is not None:
                raise TypeError(f"jobs_window={window!r} of {who}: {problem}")
        watching = (*self._instruments, *_instruments.checked(instruments, who))
        outer = self._worker.run.observers if self._worker is not None else None
        observers = Observers(watching, outer) if watching or outer is not None else None
        return Run(self, backend, observers, seconds, window)

    async def _prepare(self, run: Run) -> None:
        """Check all and reset the jobs, pausing now and then."""
        self._drop_added()
        self._adopted.clear()
        if run.outer_worker is None or self._unchecked:
            await run.pausing(_checks.check(self))
        await run.pausing(self._reset_jobs())

    def _reset_jobs(self) -> Iterator[None]:
        """Forget the last run."""
        todo: list[BaseScheduler] = [self]
        while todo:
            scheduler = todo.pop()
            scheduler._stop_reason = scheduler._culprit = None
            scheduler._incidents = []
            if scheduler._needs_reset:
                for number, job in enumerate(scheduler, 1):
                    job._reset()
                    if not number % _checks.BETWEEN_PAUSES:
                        yield
            scheduler._needs_reset = scheduler is self
            todo += [nested for nested in scheduler._nested if isinstance(nested, BaseScheduler)]

    def _drop_added(self) -> None:
        """Forget what was added during earlier runs, of nested ones too."""
        outer = self._worker.run if self._worker is not None else None
        under_way: list[Run] = []
        while outer is not None:
            under_way.append(outer)
            outer = outer.outer_worker.run if outer.outer_worker is not None else None
        todo: list[Members] = [self]
        while todo:
            scheduler = todo.pop()
            scheduler._forget_added(under_way)
            todo += scheduler._nested

    def cancel(self) -> None:
        """End the run in order: everything is cancelled, `stop_reason` is CANCELLED.

        As a job of a running scheduler it is ended, or kept from starting, like any job; that is not critical.

        Raises:
            RuntimeError: no run is under way, or another thread.

        """
        if self._run is not None and self._worker is None:
            _growth.check_thread(self._run, f"cancel() of {self.label!r}")
            self._run.stop(StopReason.CANCELLED)
        else:
            super().cancel()

    # ---- what became of it

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the last run stopped; None before the first has ended."""
        return self._stop_reason

    @property
    def culprit(self) -> AbstractJob[Any] | None:
        """The member that stopped the run, where there is one; of a nested scheduler, ask for its own culprit."""
        return self._culprit

    @property
    def timed_out(self) -> bool:
        """Whether its timeout stopped the last run, or as a job has cut an attempt."""
        return self._stop_reason is StopReason.TIMEOUT or super().timed_out

    @property
    def incidents(self) -> tuple[Incident, ...]:
        """What the last run reported beside the outcomes of jobs, such as a `co_shutdown` that raised."""
        return tuple(self._incidents)

    def raise_for_failures(self) -> None:
        """Raise an `ExceptionGroup` of what jobs raised, nested ones included, in the order of settling; or return.

        Each exception has a note that names its job. A nested scheduler that failed through a job of its own is not
        listed again, and interruptions such as `KeyboardInterrupt` are left out.

        Raises:
            ExceptionGroup: at least one job FAILED in the last run.

        """
        _failures.raise_group(self, _failures.failed(self))

    # ---- for the house

    def _will_not_reach(self) -> bool:
        """Tell a job that is waited for whether no run is under way that could reach it, and there was one."""
        scheduler: BaseScheduler | None = self
        while scheduler is not None:
            scheduler._watched = True
            if scheduler._run is not None:
                return False
            if scheduler._stop_reason is not None:
                return True
            scheduler = scheduler._scheduler
        return False

    def _note_incident(self, job: AbstractJob[Any] | None, message: str, exception: BaseException | None) -> None:
        self._incidents.append(Incident(job, message, exception))

    def _note_end(self, run: Run) -> None:
        """Keep what the run leaves behind, and wake those who wait for a job that was not reached."""
        self._stop_reason, self._culprit = run.reason, run.culprit
        self._time_limit = run.timeout or 0.0
        self._run = None
        if self._watched:
            for job in self.iterate_jobs():
                if job._facts is not None:
                    job._facts.tell(job)

    def _note_added(self, jobs: list[AbstractJob[Any]]) -> None:
        """Take note of jobs that were added to the running scheduler."""

    def _interrupt(self, interruption: BaseException | None) -> bool:
        """End the run because of a signal; False if there is none to end."""
        if self._run is None:
            return False
        self._run.interrupt(interruption)
        return True

    def _has_shutdown(self) -> bool:
        if type(self).co_shutdown is not BaseScheduler.co_shutdown:
            return True
        return self._stop_reason is None and any(job._has_shutdown() for job in self._shutting_down)

    async def co_shutdown(self) -> None:
        """Shut down its jobs, unless it was run as a job: its own runs do that themselves."""
        outer = self._scheduler
        while outer is not None and outer._run is None:
            outer = outer._scheduler
        if self._stop_reason is None and outer is not None and outer._run is not None:
            await _ending.shut_down_nested(outer._run, self)

    def __repr__(self) -> str:
        """Show label, state and counts."""
        running = "running" if self._run is not None else self._stop_reason.value if self._stop_reason else "idle"
        return f"<{type(self).__name__} `{_labels.printable(self.label)}` {running}, {len(self)} jobs>"
