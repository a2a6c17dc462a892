"""`BaseScheduler`: a set of jobs that can be run and is itself a job. Its subclass `trioflow.Scheduler` adds views."""

from __future__ import annotations

import contextlib
import functools
import threading
import weakref
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from types import EllipsisType, TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Final,
    Literal,
    Never,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from ... import _hints
from .. import backend as _backend
from ..admission import _line, _policies, _pools, _window
from ..backend import BackendName
from ..base import _graph_algorithms, _logger
from ..base._states import (
    CHECKING,
    COMPLETED,
    REOPENABLE,
    JobState,
    ReportedState,
    StopReason,
)
from ..base._text_forms import is_among, plural, short_repr
from ..job import _argument_types as types
from ..job import _errors, _job_options, _labels, _option_descriptors
from ..job._ancestors import enclosing_schedulers
from ..job._decorator import JobFunction, Kind, KindFunction
from ..job._function import (
    ACCEPTED_ARGUMENTS,
    FunctionJob,
    Job,
    check_function,
    check_kind,
)
from ..job._job import AbstractJob, AnyJob, RunExtras, is_job, is_scheduler
from ..job._job_options import BoxStyle, OptionsExceptLabel
from ..job._labels import text_of
from ..job._option_descriptors import Option
from ..parts import SettledFunction, check_on_job_settled, make_parts
from ..run import _current, _ending, _journaling, _requirement_counts, _steering, _steps
from ..run._fate import NO_FATE, Fate
from ..run._instruments import Instrument, check_instruments
from ..run._journaling import JournalProtocol, JournalWriter, RunJournal
from ..run._run import Incident, Run
from ..words import _explain, _failures
from ..words._job_queries import is_one_job, jobs_of_run, reported_state
from . import _async_with, _awaiting, _checks, _life, _sync_run
from ._awaiting import Room, SettledJobs
from ._life import ENDED, NEW, Stage
from ._members import Members, Sequence, iterate_schedulers
from ._sync_run import SignalSetting

if TYPE_CHECKING:
    import os

    from ..admission._policies import PolicyName
    from ..admission._window import Window
    from ..backend import Backend
    from ..job._requirements import Required

    CheckSetting = bool | Literal["first"]
    JournalSetting = JournalProtocol | str | os.PathLike[str] | None

T = TypeVar("T")
J = TypeVar("J", bound="AnyJob | Sequence")
Settling = TypeVar("Settling", bound="AnyJob")
MapLabel = str | Callable[..., str] | None
OWN_SETTING: Final = ...
"""The default of arguments of `run` and `co_run`. It stands for the scheduler's own setting of the same name."""


class MapOptions(OptionsExceptLabel, total=False):
    """The keyword arguments of `map` except `kind`: `label`, and the options of each job. `key` is a function."""

    label: MapLabel


class WindowOption(Option[Any, Any]):
    """The option `jobs_window`: during a run a number may be replaced by another."""

    def __set__(self, job: Any, value: object) -> None:
        if job._ask("jobs_window=", f"jobs_window of {job.label!r}") is None:
            super().__set__(job, value)
            return
        if (run := job._run) is None:
            self.store(job, value)
            return
        size = self.check(value, self.name, job._name_for_errors)
        if not (isinstance(size, int) and isinstance(run.line.window, int)):
            raise RuntimeError(
                f"jobs_window={short_repr(value)} of {job.label!r}, where it is {short_repr(run.line.window)}: during "
                "a run a number can only be replaced by a number from 1 up; change the total of a limiter itself"
            )
        run.steering.set_window(run, size)
        self.store(job, size)


class BaseScheduler(
    AbstractJob[bool],
    box=BoxStyle("nested scheduler", "folder", ("[[", "]]")),
    keeps_time=True,
):
    """A set of jobs that can be run. Users create objects of the subclass `trioflow.Scheduler`, which adds views.

    Args:
        jobs_window: the number of its jobs that may run concurrently. It is a positive whole number, an `Adaptive`, or
            a `CapacityLimiter` of trio or anyio, which must fit the backend, and which several schedulers may share.
            None or 0 is no limit. Forever jobs are not counted. A number limits the members, and a nested scheduler
            counts as a single job. A limiter limits the jobs at all depths, except in schedulers with a limiter of
            their own, and does not count the schedulers themselves. During a run, a number may be replaced by another
            number, which takes effect at once: after a smaller number, nothing starts until enough jobs have ended.
        shutdown_timeout: seconds, more than 0, that the `co_shutdown` calls of all its jobs may take together at the
            end of each run. None or infinity is no limit. The default of 1 is enough to close connections. On asyncio,
            services and forever jobs that take longer to end are then cancelled at each `await`.
        cleanup_timeout: seconds, more than 0, that the jobs with `run_if="failed"` may take together, after a critical
            failure or the timeout. None or infinity is no limit.
        critical_jobs: the default of `critical` for its jobs: the failure of a critical job ends the run at once. With
            None, the scheduler's own `critical` is the default, or else the default of the enclosing scheduler.
        policy: the start order of ready jobs. "fifo": first in, first out. "critical-path": the job with the
            longest expected path to an exit job first, by `expected_duration`. "auto": "critical-path" if any job has
            an expected duration, otherwise "fifo". "depth-first": the job that became ready last first, so that chains
            end before others begin. A job's `priority` takes precedence over the policy.
        pool: the resources that its jobs, including those in nested schedulers, take while they run, according to their
            `needs`. Several schedulers in the same event loop may share a pool.
        instruments: objects of `trioflow.abc.Instrument`, which watch each of its runs.
        keep_jobs: False removes each job from the scheduler when it has settled, unless a later run could use it. This
            applies to all jobs inside `async with`, and to jobs that are added during any other run. Only critical
            failures are kept. So a program may add jobs for a year without using more and more memory.
        journal: a `Journal`, or its path, for each of its runs, and inside `async with`. It records each job that
            succeeds. A job that an earlier run has recorded is restored instead of being run again. A job that is added
            during a run is restored by `add`, or soon after if many files have to be read first. On a nested scheduler,
            this option has no effect.
        on_job_settled: a plain function, called with each of its jobs as it settles, whatever its outcome: each time
            that it settles, if it is tried again. It may add jobs, and try the job again. If it raises, the run ends
            with that exception, and `stop_reason` is CRITICAL. To await something, iterate over `as_settled()`.
        hold: whether a run is held where it would end with failures that count, until `try_again()` tries a failed job
            again, a job is added, or `resume()` ends the run. Timeouts go on, and end it as always. Only an outermost
            scheduler can have this.

    """

    # ---- independent of runs
    _members: Members
    _is_closed: bool
    # ---- where it stands, which only the functions of `_life` write (a signal of before the loop adds a call)
    _stage: Stage  # NEW, BEGINNING, RUNNING or ENDED
    # The run's thread, if it is ENDED. It is kept because another thread may get its number.
    _run_thread: threading.Thread | None
    # Of steering, which the next run makes as it begins.
    _early_calls: Final[list[Callable[[], None]]]
    # ---- for the run in progress
    _run: Run | None  # there while it is RUNNING
    # None outside of `async with`.
    _open_block: _async_with.OpenBlock | None
    # ---- from the last run
    _fate: Fate
    _counted_failures: _failures.CountedFailures
    # An error outside of the jobs that stopped the run, e.g. in the journal.
    _run_error: BaseException | None
    # When the run began and ended, on the backend's clock.
    _run_times: tuple[float, float] | None
    _run_steering: _steering.SteeringRecord  # the changes while the run was in progress
    _incidents: list[Incident]
    # Whether a job was awaited, or `as_settled()` was called. If so, the end of the run must wake all that still wait.
    _was_awaited: bool
    # The iterators of `as_settled()`, and `_room`, or None in most schedulers.
    _settled_iterators: weakref.WeakSet[Any] | None
    # The jobs that `room()` counts, from its first call to the end of the run.
    _room: Room | None
    # ---- the settings: the descriptors below, which read these attributes, take five times as long
    _jobs_window: Window | None
    _shutdown_timeout: float | None
    _cleanup_timeout: float | None
    _critical_jobs: bool | None
    _policy: PolicyName
    _pool: _pools.Pool | None
    _instruments: tuple[Instrument, ...]
    _keep_jobs: bool
    _journal: JournalProtocol | str | None
    _on_job_settled: SettledFunction | None
    _hold: bool
    __slots__ = (*__annotations__,)

    _is_scheduler: ClassVar[bool] = True
    _can_be_input: ClassVar[bool] = False
    # Whether its jobs wait for gates: see `declare_run_resource`.
    _opens_gates: ClassVar[bool] = True

    # The number of its jobs that have to succeed before the others are cancelled, and the seconds between their starts.
    # Only a `First` has these options.
    _enough: int | None = None
    _stagger: float | None = None

    # ---- settings
    jobs_window: Option[Window | None] = WindowOption(None, _window.check_window)
    shutdown_timeout: Option[float | None] = Option(1.0, _job_options.seconds)
    cleanup_timeout: Option[float | None] = Option(5.0, _job_options.seconds)
    critical_jobs: Option[bool | None] = Option(
        None, _job_options.or_none(_job_options.flag)
    )
    policy: Option[PolicyName] = Option("auto", _policies.check_policy)
    pool: Option[_pools.Pool | None] = Option(None, _pools.check_pool)
    instruments: Option[tuple[Instrument, ...], Iterable[Instrument]] = Option(
        (), check_instruments
    )
    keep_jobs: Option[bool] = Option(True, _job_options.flag)
    journal: Option[JournalProtocol | str | None, JournalSetting] = Option(
        None, _journaling.check_journal
    )
    on_job_settled: Option[SettledFunction | None] = Option(None, check_on_job_settled)
    hold: Option[bool] = Option(False, _job_options.flag)

    def __init__(self, *jobs_or_sequences: Required, **options: Any) -> None:
        """Check the options, which `trioflow.Scheduler` documents, and add the jobs."""
        self._members = Members(self)
        self._run = self._open_block = self._run_thread = None
        self._stage = NEW
        self._is_closed = self._was_awaited = False
        self._early_calls = []
        self._reset_outcome()
        self._settled_iterators = self._room = None
        for attribute, default in SETTING_DEFAULTS:
            setattr(self, attribute, default)
        # `AbstractJob` takes all options that the class declares.
        super().__init__(**options)
        try:
            self.update(jobs_or_sequences)
        except BaseException:
            if self._scheduler is not None:
                self._scheduler._members.remove(self)
            raise

    @property
    def state(self) -> JobState:
        """The state of the scheduler. An outermost scheduler is RUNNING during its run, and otherwise IDLE."""
        return self._state if self._run is None else JobState.RUNNING

    @property
    def window_size(self) -> int | None:
        """The current size of the window, or None for no limit. During a run, an `Adaptive` window changes its size."""
        run = self._run
        if run is not None and run.line.size is not None:
            return run.line.size
        window = self.jobs_window
        if isinstance(window, _window.VariableWindow):
            return window.minimum
        return _window.max_slots(window)

    # ---- adding and removing jobs

    def add(self, job: J) -> J:
        """Add a job, or the jobs of a Sequence, and return the argument.

        Adding a member again does nothing. Inputs of the job that belong to no scheduler are added before it. If an
        input was added to a nested scheduler in this way, it moves to this scheduler, with its own inputs, unless a run
        is in progress.

        You can add jobs to a running scheduler, but only in the thread of the run. The requirements of such a job must
        be members already, and it starts as soon as all of them have settled. Jobs that were added during a run are
        removed before the next run.

        Args:
            job: a job or a Sequence.

        Raises:
            TypeError: `job` is not a job.
            ValueError: the job is in another scheduler, or is this scheduler or an enclosing one.
            ValueError: the scheduler is running, and could never start the job, for example because of its needs.
            MissingRequirement: the scheduler is running, and a requirement is not a member.
            RuntimeError: the scheduler is closed, draining or stopping, or the call comes from another thread.

        Example:
            >>> s = Scheduler()
            >>> s.add(AbstractJob(label="a"))
            <AbstractJob a, idle>

        """
        self._members.add(job, "add()")
        return job

    def update(self, jobs: Iterable[Required]) -> Self:
        """Add several jobs together, as `add` does. If any of them is rejected, none is added.

        While the scheduler is running, the jobs of a call may require each other.

        Args:
            jobs: jobs, Sequences, None, or collections of these.

        Raises:
            TypeError: an argument is not a job.
            ValueError: a job is in another scheduler, or is this scheduler or an enclosing one.
            ValueError: the scheduler is running, and could never start a job, for example because of its needs.
            CycleError: the scheduler is running, and the jobs require each other in a cycle.
            MissingRequirement: the scheduler is running, and a requirement is not a member.
            RuntimeError: the scheduler is closed, draining or stopping, or the call comes from another thread.

        Example:
            >>> s = Scheduler()
            >>> a, b = AbstractJob(label="a"), AbstractJob(label="b")
            >>> len(s.update([a, b]))
            2

        """
        self._members.add(jobs, "update()")
        return self

    def remove(self, job: AbstractJob[Any]) -> Self:
        """Remove a job.

        If other jobs require this job, the next run is rejected. Call `sanitize()` to drop these requirements.

        Args:
            job: a member.

        Raises:
            KeyError: the job is not a member.
            RuntimeError: the scheduler is running.

        """
        self._reject_during_run("remove()")
        self._members.check_is_member(job, "remove()")
        self._members.remove(job)
        return self

    def sanitize(self) -> list[tuple[AbstractJob[Any], AbstractJob[Any]]]:
        """Drop all requirements on jobs that are not in the same scheduler, here and in nested schedulers.

        Requirements that are inputs are kept.

        Returns:
            The dropped requirements, as pairs of a job and its former requirement.

        Raises:
            RuntimeError: the scheduler is running.

        Example:
            >>> missing = AbstractJob(label="missing")
            >>> s = Scheduler(AbstractJob(label="a", required=missing))
            >>> s.is_runnable(), len(s.sanitize()), s.is_runnable()
            (False, 1, True)

        """
        self._reject_during_run("sanitize()")
        dropped: list[tuple[AnyJob, AnyJob]] = []
        for scheduler in iterate_schedulers(self):
            dropped += scheduler._members.drop_foreign_requirements()
        return dropped

    def close(self) -> None:
        """Close the scheduler and all its jobs permanently. Results can still be read afterwards.

        A closed scheduler cannot run, and accepts no jobs. The coroutine objects of jobs that never ran are closed.
        What `close()` of a job raises is logged.

        Raises:
            RuntimeError: the scheduler is running.

        """
        self._reject_during_run("close()")
        # A loop without recursion, because schedulers may be nested to any depth.
        for scheduler in iterate_schedulers(self):
            scheduler._is_closed = True
            for job in scheduler._members.jobs:
                if not is_scheduler(job):
                    _close_job(job)
                if job._state in REOPENABLE:
                    # It might have been tried again.
                    job._release_call()
                    if job._extras is not None:
                        job._extras.context = None
            scheduler._notify_unreached()

    # ---- the graph

    def iterate_jobs(self, *, nested: bool = True) -> Iterator[AbstractJob[Any]]:
        """Iterate over the jobs in the order that they were added.

        Args:
            nested: whether to include the jobs of nested schedulers, at any depth. They follow their scheduler.

        """
        enters = _job_options.flag(nested, "nested", self._name_for_errors)
        return self._members.iterate(lambda _: enters)

    def is_runnable(self) -> bool:
        """Return whether the scenario can run, that is, whether the checks before a run succeed.

        Takes O(V + E) time.
        """
        try:
            self._ask("run", "is_runnable()")
            _checks.check_may_run(self)
            _checks.check_scenario(self)
        except (ValueError, RuntimeError):
            return False
        return True

    # ---- adding many jobs, and following a run

    @overload
    def map(
        self,
        function: JobFunction[..., T],
        /,
        *iterables: Iterable[Any],
        **options: Unpack[MapOptions],
    ) -> list[Job[T]]: ...
    @overload
    def map(  # type: ignore[overload-overlap]  # a function decorated with @job is no async function
        self,
        function: KindFunction[T],
        /,
        *iterables: Iterable[Any],
        label: MapLabel = None,
        **options: Any,
    ) -> list[FunctionJob[T]]: ...
    @overload
    def map(
        self,
        function: types.AsyncOrThreadFunction1[types.A, T],
        a: Iterable[types.ValueOrJob[types.A]],
        /,
        **options: Unpack[MapOptions],
    ) -> list[Job[T]]: ...
    @overload
    def map(
        self,
        function: types.AsyncOrThreadFunction2[types.A, types.B, T],
        a: Iterable[types.ValueOrJob[types.A]],
        b: Iterable[types.ValueOrJob[types.B]],
        /,
        **options: Unpack[MapOptions],
    ) -> list[Job[T]]: ...
    @overload
    def map(
        self,
        function: Callable[..., Awaitable[T]],
        a: Iterable[Any],
        b: Iterable[Any],
        c: Iterable[Any],
        /,
        *iterables: Iterable[Any],
        **options: Unpack[MapOptions],
    ) -> list[Job[T]]: ...
    @overload
    def map(
        self,
        function: type[T],
        /,
        *iterables: Iterable[Any],
        kind: Kind,
        label: MapLabel = None,
        **options: Any,
    ) -> list[FunctionJob[T]]: ...
    @overload
    def map(
        self,
        function: Callable[[Iterable[Any]], T],
        a: Iterable[Iterable[Any] | types.JobOf[Any]],
        /,
        *,
        kind: Kind,
        label: MapLabel = None,
        **options: Any,
    ) -> list[FunctionJob[T]]: ...
    @overload
    def map(
        self,
        function: types.PlainFunction1[types.A, T],
        a: Iterable[types.ValueOrJob[types.A]],
        /,
        *,
        kind: Kind,
        label: MapLabel = None,
        **options: Any,
    ) -> list[FunctionJob[T]]: ...
    @overload
    def map(
        self,
        function: types.PlainFunction2[types.A, types.B, T],
        a: Iterable[types.ValueOrJob[types.A]],
        b: Iterable[types.ValueOrJob[types.B]],
        /,
        *,
        kind: Kind,
        label: MapLabel = None,
        **options: Any,
    ) -> list[FunctionJob[T]]: ...
    @overload
    def map(
        self,
        function: Callable[..., T],
        a: Iterable[Any],
        b: Iterable[Any],
        c: Iterable[Any],
        /,
        *iterables: Iterable[Any],
        kind: Kind,
        label: MapLabel = None,
        **options: Any,
    ) -> list[FunctionJob[T]]: ...
    def map(
        self,
        function: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        kind: Kind = Job,
        label: MapLabel = None,
        key: object = None,
        **options: Any,
    ) -> list[Any]:
        """Add a job for each set of arguments from the iterables, as the built-in `map` calls a function.

        Args:
            function: an async callable, or a function decorated with `@job`. With `kind`, a function that `kind`
                accepts.
            iterables: the arguments. The shortest iterable decides how many jobs there are. Jobs among the arguments
                become inputs.
            kind: the kind of the jobs, such as `ThreadJob` or `ProcessJob`, which take plain functions. See `job`.
            label: a format string, such as "page {}", or a function that returns text. It makes the label of each job
                from the arguments of the job. None stands for the text of the call, such as "double(1)".
            key: a function that returns the `key` of each job from the arguments of the job. Without it, a journal
                identifies jobs that are added during a run by their arguments.
            options: the options of each job. See `AbstractJob` and the kind.

        Returns:
            The jobs, in order. If any of them is rejected, none is added.

        Raises:
            TypeError: `kind` does not accept `function`, an argument is not iterable, `label` returns no text, or `key`
                is no function.
            ValueError: `label` cannot be filled in, or `label` or `key` raises an exception.
            RuntimeError: the scheduler is closed or stopping, or the call comes from another thread.

        Example:
            >>> async def double(number):
            ...     return 2 * number
            >>> s = Scheduler()
            >>> jobs = s.map(double, [1, 2, 3], label="twice {}")
            >>> s.run(), [job.result() for job in jobs]
            (True, [2, 4, 6])
            >>> [job.label for job in jobs]
            ['twice 1', 'twice 2', 'twice 3']

        """
        subject = f"map() of {self.label!r}"
        if not iterables:
            raise TypeError(
                f"{subject}: give at least one iterable of arguments after the function"
            )
        for iterable in iterables:
            if not isinstance(iterable, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise TypeError(
                    f"{subject}: {short_repr(iterable)} is not iterable; give lists of arguments"
                )
        if not (label is None or isinstance(label, str) or callable(label)):
            advice = "give a format string, such as 'page {}', or a function that takes the arguments and returns text"
            raise _job_options.bad_value_error(
                TypeError, label, "label", subject, advice
            )
        if not (key is None or callable(key)):
            advice = "give a function that takes the arguments and returns what identifies the work, such as key=str"
            raise _job_options.bad_value_error(TypeError, key, "key", subject, advice)
        make_job: Callable[..., FunctionJob[Any]]
        if isinstance(function, JobFunction) and kind is Job:
            make_job = cast("JobFunction[..., Any]", function).options(**options)
        else:
            check_kind(kind, subject)
            if kind is Job:
                check_function(function, "Job", ACCEPTED_ARGUMENTS)
            make_job = functools.partial(kind, function, **options)
        jobs: list[FunctionJob[Any]] = []
        for arguments in zip(*iterables, strict=False):
            job = make_job(*arguments)
            if label is not None:
                job.label = _made_by_user(subject, "label", label, arguments)
            if key is not None:
                job.key = _made_by_user(subject, "key", key, arguments)
            jobs.append(job)
        run = self._innermost_run()
        if run is not None and run.journal_writer is not None:
            for job in jobs:
                job._ensure_extras().is_known_by_call = True
        self.update(jobs)
        return jobs

    @overload
    def as_settled(self) -> SettledJobs[AbstractJob[Any]]: ...
    @overload
    def as_settled(self, jobs: Iterable[Settling]) -> SettledJobs[Settling]: ...
    def as_settled(self, jobs: Iterable[Any] | None = None) -> SettledJobs[Any]:
        """Iterate over the jobs as they settle, beginning with the jobs that have settled already.

        The iteration ends when the run ends, or earlier if all jobs have settled, apart from forever jobs and the jobs
        that iterate over all jobs. It includes jobs that are added during the iteration. A job that is tried again is
        yielded when it ends again. With `hold=True`, the iteration ends before the run is held. If the scheduler has
        not run yet, the iteration waits for the first run. If that run is refused, the iteration ends.

        Args:
            jobs: the members to iterate over, such as the list that `map` has returned, or the keys of a dict. None
                means all members.

        Raises:
            ValueError: any of the `jobs` is not a member.
            RuntimeError: the scheduler runs in another thread. (An iteration that has begun before may go on.)

        Returns:
            An async iterator over jobs.

        Example:
            >>> async def report():
            ...     async for job in current_scheduler().as_settled():
            ...         print(job.label)
            >>> async def nap():
            ...     await anyio.sleep(0)
            >>> Scheduler(Job(nap, label="a"), Job(report)).run()
            a
            True

        """
        self._ask("as_settled", "as_settled()")
        if jobs is None:
            return SettledJobs(self)
        chosen = list(dict.fromkeys(jobs))
        for job in chosen:
            if job not in self:
                raise ValueError(
                    f"as_settled(): {short_repr(job)} is not a member of {self.label!r}; add() it first"
                )
        return SettledJobs(self, chosen)

    async def room(self, n: int) -> None:
        """Wait until fewer than `n` jobs of the run in progress have not settled. This is a checkpoint.

        *Provisional*: a minor release may change it.

        Use it before each job that is added to a scheduler without end. Forever jobs do not count, nor do the jobs that
        have waited for room. Of several tasks, the one that waits longest goes on first.

        Args:
            n: the number of jobs, 1 or more, that may be there after the next is added.

        Raises:
            JobNotDone: the scheduler is not running, or its run is ending, and takes no more jobs.
            RuntimeError: the scheduler runs in another thread.
            TypeError: `n` is not a whole number.
            ValueError: `n` is less than 1.

        Example:
            >>> async def feed():
            ...     for number in range(100):
            ...         await current_scheduler().room(4)
            ...         current_scheduler().add(Job(anyio.sleep, 0))
            >>> Scheduler(Job(feed), keep_jobs=False).run()
            True

        """
        if isinstance(n, bool) or not isinstance(n, int):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"room({short_repr(n)}) of {self.label!r}: give a whole number, 1 or more"
            )
        if n < 1:
            raise ValueError(
                f"room({n}) of {self.label!r}: give a whole number, 1 or more"
            )
        await _backend.current_backend().checkpoint()
        self._ask("wait_settled", f"room() of {self.label!r}")
        room = self._room
        if room is None:
            room = Room(self)
            if self._run is not None:
                self._room = room
                self._settled_iterators = self._settled_iterators or weakref.WeakSet()
                self._settled_iterators.add(room)
        await room.wait(n)

    @_hints.explain_form
    def explain(self, job: AbstractJob[Any]) -> str:
        """Explain in a sentence why a job is in its state.

        Args:
            job: a member, or a job nested in a member.

        Returns:
            A text that names, for example, the jobs that this job waits for and how long they have been running, the
            jobs that fill the window, or the exception of a job that failed.

        Raises:
            TypeError: `job` is not a job.
            KeyError: the job is not in this scheduler.

        Example:
            >>> job = Job(anyio.sleep, 1, label="nap")
            >>> Scheduler(job).explain(job)
            "'nap' is idle: 'Scheduler' has not started"

        """
        if not is_job(job):
            raise TypeError(
                f"explain() of {self.label!r}: {short_repr(job)} is not a job: give one of its jobs"
            )
        if self not in enclosing_schedulers(job):
            raise KeyError(
                f"explain(): {job.label!r} is not in {self.label!r}, at any depth"
            )
        return _explain.explain(self, job)

    def __contains__(self, job: object) -> bool:
        """Return whether a job is a member. Jobs of nested schedulers are not members."""
        return job in self._members.jobs

    def __len__(self) -> int:
        """Return the number of members."""
        return len(self._members.jobs)

    def __bool__(self) -> bool:
        """Return True, even if there are no members."""
        return True

    def __iter__(self) -> Iterator[AbstractJob[Any]]:
        """Iterate over the members in the order that they were added."""
        return iter(tuple(self._members.jobs))

    # ---- running

    def run(
        self,
        *,
        backend: BackendName = "trio",
        backend_options: Mapping[str, Any] | None = None,
        timeout: float | EllipsisType | None = OWN_SETTING,
        jobs_window: Window | EllipsisType | None = OWN_SETTING,
        instruments: Iterable[Instrument] = (),
        check: CheckSetting = False,
        handle_signals: SignalSetting = False,
        journal: JournalSetting | EllipsisType = OWN_SETTING,
        **unknown: Never,
    ) -> bool:
        """Run the scenario in a new event loop, from synchronous code.

        If a job fails, the jobs that require it do not run, the others do, and the result is False: see `critical`. The
        result is also False if the run was stopped by a critical failure, its timeout, `cancel()`, `drain()` or a
        signal. `failures()` returns the failures, the log counts them, and `check=True` raises the failures that count.

        Ctrl-C ends the run cleanly, and is raised as KeyboardInterrupt when everything has been shut down, unless
        `handle_signals` is given or the program handles SIGINT. If a script does not catch it, Python prints a single
        line instead of a traceback, and SIGINT terminates the process. If a job blocks the event loop for more than a
        quarter of a second, a second Ctrl-C is raised in that job.

        Args:
            backend: "trio" or "asyncio".
            backend_options: keyword arguments of `trio.run`, or the backend options of `anyio.run` for asyncio.
            timeout: the seconds that the whole run may take, more than 0, or None for no limit. The default is the
                option of the scheduler.
            jobs_window: the limit on the number of jobs that run concurrently. See `Scheduler`. The default is the
                option of the scheduler.
            instruments: instruments that watch this run, in addition to those of the scheduler.
            check: whether to raise an exception if the result would be False. True raises a group of the failures that
                count. "first" raises the first of these failures as its job raised it.
            handle_signals: whether Ctrl-C, SIGTERM and SIGHUP end the run cleanly, so that it returns False. Outside of
                the main thread, where Python handles no signals, this does nothing. A signal that is ignored, as SIGHUP
                is under nohup, stays ignored. Instead of a bool, give a function to be called with the number of each
                of these signals, or a dict of such functions by signal, such as `{signal.SIGTERM: function}`. Python
                calls it at any point of the program, so it must be short. It may end the process. If it returns None,
                the run ends cleanly. If it returns a function, such as `scheduler.drain`, that function is called in
                the event loop instead. If your function itself makes a call that steers the run, such as
                `scheduler.drain()`, the event loop makes this call, too.
            journal: a `Journal` or its path, or None for no journal. The default is the option of the scheduler.

        Returns:
            True if and only if `stop_reason` is COMPLETED. Then all jobs except forever jobs settled in time, and no
            failure counts.

        Raises:
            CycleError, MissingRequirement, ValueError: the scenario cannot run. Nothing has started.
            JournalError: the journal cannot be used. Nothing has started.
            TypeError: an option is unknown, or has the wrong type. Nothing has started.
            ValueError: an option is out of range.
            RuntimeError: an event loop is running in this thread, or the scheduler is running or closed.
            ExceptionGroup, JobTimeout, JobCancelled: with `check`, the failure of the run; with "first", any exception.
            KeyboardInterrupt, SystemExit: the run was interrupted. The exception is raised after the shutdown, and is
                not in a group. The same holds for any other exception of a signal handler of the program.

        Example:
            >>> async def hello():
            ...     return "hello"
            >>> Scheduler(Job(hello)).run()
            True

        """
        if unknown:
            raise _job_options.unknown_option_error(
                self.label, "run()", unknown, BaseScheduler.run
            )

        async def main() -> bool:
            signal_handler.loop_started(
                backend_object.threadsafe_caller(), self._early_calls.append
            )
            try:
                wake_up: Any = contextlib.nullcontext()
                if signal_handler.wakes_loop:
                    wake_up = backend_object.woken_by_signals()
                with wake_up:
                    return await self.co_run(
                        timeout=timeout,
                        jobs_window=jobs_window,
                        instruments=instruments,
                        check=check,
                        journal=journal,
                    )
            finally:
                signal_handler.loop_ended()

        def run_loop() -> bool:
            # In a notebook, the loop has a thread of its own.
            claim[:] = [threading.get_ident()]
            return backend_object.run(main, options)

        claim = _life.expect_run(self)
        try:
            options = _job_options.check_keywords(
                backend_options, "backend_options", self._name_for_errors
            )
            if _backend.loop_running() and not _sync_run.is_in_notebook_cell():
                remedy = "write: await scheduler.co_run()"
                raise RuntimeError(
                    f"{self.label!r}.run(): an event loop runs in this thread; {remedy}"
                )
            with _sync_run.SignalHandler(self, handle_signals) as signal_handler:
                # A Ctrl-C during this import ends the run as it begins.
                backend_object = _backend.get_backend(backend)
                if _backend.loop_running():
                    return _sync_run.run_in_thread(run_loop, signal_handler.interrupt)
                return run_loop()
        finally:
            _life.drop_claim(self, claim)

    async def co_run(
        self,
        *,
        timeout: float | EllipsisType | None = OWN_SETTING,
        jobs_window: Window | EllipsisType | None = OWN_SETTING,
        instruments: Iterable[Instrument] = (),
        check: CheckSetting = False,
        journal: JournalSetting | EllipsisType = OWN_SETTING,
        **unknown: Never,
    ) -> bool:
        """Run the scenario in the running event loop of trio or asyncio.

        A cancellation of the caller ends the run cleanly, and is raised again when everything has been shut down. With
        `check`, the failures of jobs are raised in its place, as by a nursery.

        Args:
            timeout: the seconds that the whole run may take, more than 0, or None for no limit. The default is the
                option of the scheduler.
            jobs_window: the limit on the number of jobs that run concurrently. See `Scheduler`. The default is the
                option of the scheduler.
            instruments: instruments that watch this run, in addition to those of the scheduler.
            check: whether to raise an exception if the result would be False. See `run`.
            journal: see `run`.

        Returns:
            True if and only if `stop_reason` is COMPLETED. Then all jobs except forever jobs settled in time, and no
            failure counts.

        Raises:
            CycleError, MissingRequirement, ValueError: the scenario cannot run. Nothing has started.
            JournalError: the journal cannot be used. Nothing has started.
            TypeError: an option is unknown, or has the wrong type. Nothing has started.
            ValueError: an option is out of range. Nothing has started.
            RuntimeError: there is no event loop, or the scheduler is running or closed.
            ExceptionGroup, JobTimeout, JobCancelled: with `check`, the failure of the run; with "first", any exception.
            KeyboardInterrupt, SystemExit: a job raised this exception. It is raised again after the shutdown, and is
                not in a group.

        Example:
            >>> async def main():
            ...     return await Scheduler(Job(anyio.sleep, 0)).co_run()
            >>> anyio.run(main)
            True

        """
        claim = None
        if self._worker is None:
            claim = _life.expect_run(self)
        # An `OpenBlock` hands itself over, and is no option.
        block: Any = None
        if unknown:
            block = unknown.pop(_async_with.BLOCK, None)
        try:
            if unknown:
                raise _job_options.unknown_option_error(
                    self.label, "co_run()", unknown, BaseScheduler.co_run
                )
            if check is not False and not is_among(check, (True, False, "first")):
                advice = "give True, False or 'first'"
                raise _job_options.bad_value_error(
                    TypeError, check, "check", self._name_for_errors, advice
                )
            if self._worker is None:
                backend = _backend.current_backend()
            else:
                backend = self._worker.run.backend
            run = self._make_run(backend, timeout, jobs_window, instruments)
            opened: list[Callable[[], object]] = []
            try:
                self._begin_run(run, journal, block, opened)
                for _ in self._prepare(run):
                    await backend.checkpoint()
                await run.execute()
            except BaseException as error:
                self._raise_in_place_of(error, run, check)
                raise
            finally:
                # Another thread may have begun the next run.
                if self._run is run:
                    _life.record_end(self)
                if run.outer_worker is not None:
                    run.outer_worker.run.failures.total += run.failures.total
                while opened:
                    opened.pop()()
            if run.outer_worker is not None:
                return cast(bool, self._nested_result(run))
            if run.failures.total or run.fate.reason is not COMPLETED:
                _failures.log_run_end(run)
            if check:
                _failures.raise_unless_completed(run, run.fate.reason, check == "first")
            return run.fate.reason is COMPLETED
        finally:
            _life.drop_claim(self, claim)

    def _begin_run(
        self,
        run: Run,
        journal: object,
        block: _async_with.OpenBlock | None,
        opened: list[Callable[[], object]],
    ) -> None:
        """Open what a run needs, and let it be the run in progress.

        Args:
            run: the run.
            journal: the argument of `co_run`.
            block: the body of `async with`, if the run is its run.
            opened: gets the functions that close what was opened. The last is to be called first.

        """
        if run.outer_worker is None:
            ctrl_c = run.backend.install_ctrl_c_handler()
            opened.append(functools.partial(ctrl_c.__exit__, None, None, None))
            ctrl_c.__enter__()
            if journal is OWN_SETTING:
                journal = self._journal
            else:
                journal = self._checked("journal", journal)
            if journal is not None:
                run.journal_writer = JournalWriter(run, self._open_journal(journal))
                opened.append(run.journal_writer.close)
        if block is not None:
            block.attach(run)
        if self._pool is not None:
            self._pool._enter(
                self, run.pools.resource_holder, run.time_slice, run.clock
            )
            opened.append(functools.partial(self._pool._leave, self))
        if run.outer_worker is None and _current.current_worker_var in run.context:
            watch = _awaiting.watch_of(_awaiting.waiting_job(), [self], _explain.RUNS)
            if watch is not None:
                run.add_part(watch)
        _life.start_run(self, run)

    def _raise_in_place_of(
        self, error: BaseException, run: Run, check: CheckSetting
    ) -> None:
        """Raise an exception that takes the place of an `error`, which a run has raised, if there is one.

        The error was raised before `execute`, perhaps after a signal, or by `execute`: then it is the interruption
        itself.
        """
        if isinstance(error, Exception):
            if run.interruption not in (None, error):
                raise run.interruption from error
            return
        if run.phase is CHECKING and isinstance(error, KeyboardInterrupt):
            run.fate.give(StopReason.INTERRUPTED)
            self._fate = run.fate
        if (
            check
            and run.outer_worker is None
            and run.backend.split_cancellations(error) == (True, None)
        ):
            # A nursery does the same.
            _failures.raise_failures(self, check == "first")

    def _nested_result(self, run: Run) -> Any:
        """Return the result as a job, after a run inside another, or raise the exception that it fails with."""
        _failures.raise_unless_completed(run, run.fate.reason)
        if run.fate.reason is StopReason.CRITICAL and run.fate.culprit is not None:
            # Its exception can be in no group.
            return run.fate.culprit.result()
        return True

    def _make_run(
        self,
        backend: Backend,
        timeout: Any,
        jobs_window: object,
        instruments: Iterable[Instrument],
    ) -> Run:
        _checks.check_may_run(self, self._worker is not None)
        subject = self._name_for_errors
        seconds = self._options.timeout
        window = self._jobs_window
        if timeout is not OWN_SETTING:
            seconds = self._checked("timeout", timeout)
        if jobs_window is not OWN_SETTING:
            window = self._checked("jobs_window", jobs_window)
        if window is not None and _window.is_limiter(window):
            problem = backend.limiter_problem(window)
            if problem is not None:
                raise TypeError(
                    f"jobs_window={short_repr(window)} of {subject()}: {problem}"
                )
            holder = _line.token_holder(_current.enclosing_workers(), window)
            if holder is not None:
                owner_text = "its scheduler"
                if holder._scheduler is not None:
                    owner_text = repr(holder._scheduler.label)
                raise RuntimeError(
                    f"{subject()} is run by the body of {holder.label!r}, which holds a token of its limiter: "
                    f"its jobs may wait for that token forever; nest it: add {subject()} to {owner_text}, "
                    f"since a scheduler holds no token"
                )
        all_instruments = self._instruments
        if not isinstance(instruments, tuple) or instruments:
            all_instruments += check_instruments(instruments, "instruments", subject)
        return Run(self, backend, all_instruments, seconds, window, make_parts)

    def _checked(self, name: str, argument: object) -> Any:
        """Return the value of an argument of `run`, checked as the option of the same name."""
        return self._declared_options[name].check(argument, name, self._name_for_errors)

    def _begin_hold(self) -> None:
        """Begin a run that may be held. `trioflow.Scheduler` overrides this method, and lets others steer the run."""

    def _needs_to_look(self) -> str:
        """Say what is missing for others to look. `trioflow.Scheduler` overrides this method."""
        return ""

    def _hold_advice(self) -> str:
        """Say how a held run goes on. `trioflow.Scheduler` overrides this method."""
        return "try_again() tries them again, resume() ends it"

    def _changes_text(self) -> str:
        """Say what of the program was mended, for a held run. `trioflow.Scheduler` overrides this method."""
        return ""

    def _open_journal(self, journal: object) -> RunJournal:
        """Open the journal of a run. `trioflow.Scheduler` overrides this method."""
        raise NotImplementedError(f"{type(self).__name__} has no journals")

    async def _begin_outputs(self, job: AnyJob) -> Callable[[bool], Awaitable[str]]:
        """Record the files where a job writes, and return the function that ends its attempt.

        `trioflow.Scheduler` overrides this. The function is called with whether the attempt has succeeded, and returns
        a text about its outputs for the log.
        """
        raise NotImplementedError(f"{type(self).__name__} has no outputs")

    def _check_files(self) -> None:
        """Check the files that jobs declare. `trioflow.Scheduler` overrides this method."""

    def _prepare(self, run: Run) -> Iterator[None]:
        """Check the scenario and reset its jobs. Yield whenever other tasks of the program should get a turn."""
        members = self._members
        # Whether nothing needs a full reset: the outermost run has reset all in it, or, below, successes are kept.
        is_fresh = run.outer_worker is not None and not members.needs_reset
        # Whether it has run before in the outermost run.
        retry_count = (self._extras or RunExtras).retry_count
        has_run = run.outer_worker is not None and retry_count > 0
        if has_run:
            # Who waits for one of its jobs is woken in the turn after an end, and then sees it.
            yield
        if self._extras is not None and self._extras.keeps_succeeded:
            # Jobs that were added during a run would have to be removed.
            is_fresh = not members.jobs_added_during_run
            run.keeps_succeeded = self._extras.keeps_succeeded = is_fresh
            if is_fresh:
                self._reset_outcome()
                for job in members.jobs:
                    if job._extras is not None:
                        job._extras.consumer_count = 0
                yield from self._reset_members(run, members.jobs_to_repeat(), has_run)
        if not is_fresh and (
            members.jobs_added_during_run or members.nested_schedulers
        ):
            for scheduler in iterate_schedulers(self):
                scheduler._members.remove_jobs_added_during_runs()
        if run.outer_worker is None:
            needs_check = members.needs_check()
        else:
            needs_check = members.is_unchecked
        if needs_check:
            yield from _checks.check_members(members)
        if not is_fresh:
            # Reset all jobs, at any depth, that the last run has changed.
            for scheduler in iterate_schedulers(self):
                scheduler._reset_outcome()
                if scheduler._members.needs_reset:
                    yield from self._reset_members(
                        run, scheduler._members.jobs, has_run
                    )
                scheduler._members.needs_reset = False
        members.needs_reset = True

    def _reset_members(
        self, run: Run, jobs: Collection[AnyJob], has_run: bool
    ) -> Iterator[None]:
        """Put jobs in it back to IDLE. Yield whenever other tasks should get a turn."""
        watchers_of: Any = functools.cache(run.watchers_of)
        watchers = None
        is_nested = run.outer_worker is not None
        for chunk, pause_is_due in _graph_algorithms.chunks_with_pauses(jobs):
            for job in chunk:
                if is_nested:
                    watchers = watchers_of(job._scheduler)
                _steps.reset(run, job, watchers, has_run)
            if pause_is_due:
                yield

    def _reset_outcome(self) -> None:
        if self._stage is ENDED:
            _life.forget_end(self)
        self._run_error = self._run_times = None
        self._fate = NO_FATE
        self._counted_failures = _failures.NO_FAILURES
        self._run_steering = _steering.NOT_STEERED
        self._incidents = []
        self._members.forget_dropped()

    @_hints.explain_form
    def cancel(self) -> None:
        """Cancel all jobs and end the run cleanly. Its `stop_reason` is then CANCELLED.

        Before the first run, or while a run begins, this ends the run at once, before its first job, like a cancel
        scope that is cancelled before it is entered. A second call for the same run does nothing, so that jobs can
        clean up.

        A nested scheduler is cancelled or kept from starting like any other job. This is not a critical failure. From
        another thread than the run's, this takes effect in the next turn of the run's loop, and does nothing after its
        end.

        Raises:
            RuntimeError: the run has ended, or this is a nested scheduler and the scheduler around it is not running.

        """
        call_text = f"cancel() of {self.label!r}"
        word = "cancel" if self._scheduler is None else "cancel, nested"
        run = self._ask(word, call_text, self.cancel)
        if run is None:
            return
        outermost = run.outermost()
        if outermost.scheduler is not self:
            cancel = functools.partial(outermost.cancel_job, self)
            outermost.steering.call(outermost, cancel)
            return
        run.steering.call(run, run.cancel)
        if self._open_block is not None:
            self._open_block.on_cancel()

    def progress(self, fraction: float | None = None) -> None:
        """Raise an error, because only the jobs of a scheduler report progress.

        Raises:
            TypeError: always.

        """
        raise TypeError(
            f"progress() of {self.label!r}: it is a scheduler; call it on the job that does the work"
        )

    def drain(self) -> None:
        """Start no more jobs, and end the run when the running jobs have ended by themselves.

        Then the run ends as usual: forever jobs are cancelled, services are ended, and jobs are shut down. Its
        `stop_reason` is DRAINED, and its result is False. SCHEDULED jobs end CANCELLED, and jobs that were not reached
        stay IDLE. Nested schedulers that are running are drained, too. They end CANCELLED as jobs if that has kept any
        of their jobs from its end. A `First` does so only if its running jobs do not decide its result. A job that
        fails and would be retried ends CANCELLED. For a nested scheduler that has not begun, or waits for another
        attempt, this does what `cancel()` does. If the run is stopped meanwhile, for example by its timeout or a
        critical failure, the remaining jobs are cancelled, and `stop_reason` is still DRAINED.

        If the run is draining or stopping already, this only keeps the scheduler from another attempt. From another
        thread than the run's, this takes effect in the next turn of the run's loop, and does nothing after its end.
        After the call of `run()`, before the run is there, the call is kept for the run.

        Raises:
            RuntimeError: the scheduler is in no run, or has settled in it.

        Example:
            >>> async def first():
            ...     current_scheduler().drain()
            ...     return "done"
            >>> one = Job(first)
            >>> two = Job(first, required=one)
            >>> s = Scheduler(one, two)
            >>> s.run(), s.stop_reason.name, one.result(), two.state.name
            (False, 'DRAINED', 'done', 'IDLE')

        """
        self._steer(self.drain, self._drain)

    def _drain(self, run: Run) -> None:
        if run.scheduler is not self:
            run.cancel_job(self)
            return
        if not run.phase._is_ending:
            _failures.log_drain(self)
        run.steering.drain(run)

    def pause(self) -> None:
        """Start no jobs, at any depth, until `resume()`. Running jobs go on, and so do timeouts, rates and services.

        `drain()`, `cancel()` and timeouts end the run as always. A nested scheduler is paused while it, or an enclosing
        scheduler, is. It may be paused before it begins, and another attempt of it is paused, too. From another thread,
        this takes effect in the next turn of the loop, and does nothing after the end. After the call of `run()`,
        before the run is there, the call is kept for the run.

        Raises:
            RuntimeError: the scheduler is in no run, or has settled in it.

        Example:
            >>> async def work():
            ...     current_scheduler().pause()
            ...     await anyio.sleep(0.01)
            ...     print(other.state.name, current_scheduler().is_paused())
            ...     current_scheduler().resume()
            >>> other = Job(anyio.sleep, 0)
            >>> Scheduler(Job(work), other).run()
            SCHEDULED True
            True

        """
        self._steer(self.pause, lambda run: run.steering.set_pause(run, self, True))

    def resume(self) -> None:
        """Let jobs start again after `pause()`. Without a pause, do nothing. Threads and errors are as for `pause`.

        It is no error if a nested scheduler has settled: if it is tried again, it is not paused.
        """
        self._steer(self.resume, lambda run: run.steering.set_pause(run, self, False))

    def try_again(self) -> None:
        """Try again all jobs that have failed in the run in progress, at any depth. See `try_again` of a job.

        Jobs that cannot be tried again, and jobs whose failure `await job` has raised, are left as they are. If
        nothing has failed, this does nothing. A nested scheduler that has ended runs again, as a job of the scheduler
        around it, but its jobs that have succeeded do not.

        Raises:
            RuntimeError: neither this scheduler nor the scheduler around it is running, or it is draining or stopping.

        """
        if self._scheduler is not None and self._run is None:
            super().try_again()
            return
        run = self._ask("try_again", f"try_again() of {self.label!r}")
        if run is not None:
            run.try_all_again()

    def _run_around(self) -> Run | None:
        """Return the run in progress, or the innermost run around this scheduler, which may begin in it, or None."""
        stage, level = _life.stage_of(self)
        return level._run if stage in (Stage.RUNNING, Stage.WAITING) else None

    def _reject_during_run(self, action: str) -> None:
        self._ask("change", f"{action} of {self.label!r}")

    _ask = _life.ask
    _will_not_reach = _life.will_not_reach
    _will_reset = _life.will_reset

    def _steer(self, word: Callable[[], None], act: Callable[[Run], None]) -> None:
        """Let the run of this scheduler act, or a run around it, or keep the word for a run that is about to begin."""
        name = word.__name__
        run = self._ask(name, f"{name}() of {self.label!r}", word)
        if run is not None:
            run.steering.call(run.outermost(), functools.partial(self._act, name, act))

    def _act(self, name: str, act: Callable[[Run], None]) -> None:
        # Only now: since another thread has asked, an attempt may have ended, and the next may have begun.
        stage, level = _life.stage_of(self)
        if level._run is not None and _life.acts(name, stage):
            act(level._run)

    def is_paused(self) -> bool:
        """Return whether none of its jobs starts because this scheduler, or one around it, is paused."""
        run = self._run_around()
        return run is not None and (
            self in run.steering.pauses or run.steering.current_pause(run) is not None
        )

    async def __aenter__(self) -> Self:
        """Start the run, which accepts jobs until the end of the `async with` body.

        Raises:
            CycleError, MissingRequirement, ValueError: the scenario cannot run. Nothing has started.
            RuntimeError: the scheduler is running already, or is closed.

        """
        block = _async_with.OpenBlock(self)
        await block.begin()
        self._open_block = block
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        """Wait for all jobs, or cancel the run if the body has raised an exception. Then close the scheduler.

        If the run stops early, the body is cancelled, and the failure of the run is raised at the end of the body.
        After `drain()`, the body continues, and nothing is raised at its end unless something else stops the run. After
        a `cancel()` of its own, the body is left without an exception.

        Raises:
            ExceptionGroup: the failures of jobs that count. See `run`.
            JobTimeout: the run did not end in time.
            JobCancelled: the run was cancelled by other code than the body.
            BaseException: the body raised this exception, or the exception interrupted the run. It is not in a group,
                unless the body raised it and failures count: then it is the last in their group.

        """
        block = self._open_block
        self._open_block = None
        assert block is not None
        try:
            return await block.exit(error)
        except (ExceptionGroup, _errors.TrioflowError) as failure:
            # Raised for the jobs: the lines of the engine that raise it tell nothing.
            _errors.strip_engine_frames(failure)
            raise
        finally:
            await block.end()
            self.close()

    # ---- the end of the last run

    @property
    def stop_reason(self) -> StopReason | None:
        """The reason why the last run stopped. None before the first run, and during each run."""
        return self._fate.reason

    @property
    def culprit(self) -> AbstractJob[Any] | None:
        """The member that stopped the last run, or whose failure was the first that counts. None if there is none.

        If the culprit is a nested scheduler that failed because of a job in it, its own `culprit` is that job.
        """
        return self._fate.culprit

    @property
    def timed_out(self) -> bool:
        """Whether a timeout stopped the last run or, for a nested scheduler, any of its attempts."""
        return self._fate.reason is StopReason.TIMEOUT or super().timed_out

    @_hints.explain_form
    def results(self) -> dict[AbstractJob[Any], Any]:
        """Return the jobs that SUCCEEDED in the last run and their results, in the order that they were added.

        The jobs of nested schedulers are included, but not the nested schedulers themselves. A `First` is one job: it
        is included, and its jobs are not. Results that were dropped because of `keep_result=False` are left out. A
        result that has stayed on a cluster is represented by a placeholder, which `job.result()` resolves. This method
        never raises, whatever the outcome of the run.

        Example:
            >>> async def divide(a, b):
            ...     return a / b
            >>> s = Scheduler()
            >>> fine, wrong = s.map(divide, [1, 1], [2, 0])
            >>> s.run()
            False
            >>> s.results()[fine], s.failures()[wrong]
            (0.5, ZeroDivisionError('division by zero'))

        """
        results = _failures.Results()
        for job in jobs_of_run(self):
            has_result = job.is_succeeded() and job._outcome is not _errors.DROPPED
            if has_result and is_one_job(job):
                results[job] = job._outcome
        return results

    def failures(self) -> dict[AbstractJob[Any], Exception]:
        """Return the jobs that failed in the last run with their exceptions, in the order that they settled.

        Failures that are tolerated, or that `await job` has raised, are included. The jobs of nested schedulers are
        included, but not a nested scheduler that failed because of its own jobs. A `First` is one job: its jobs are not
        included. Interruptions such as `KeyboardInterrupt` are left out.
        Jobs that a spent `Budget` has BLOCKED are included. Other BLOCKED jobs did not fail themselves: their
        `raised_exception()` names the job that blocked them.
        """
        return {
            job: cast("Exception", job.raised_exception())
            for job in _failures.failed_jobs(self)
        }

    def raise_for_failures(self, *, first: bool = False) -> None:
        """Raise an `ExceptionGroup` of the failures that count, in the order that the jobs settled.

        In place of a nested scheduler, the group has the failures of its jobs. Jobs that are BLOCKED by a failure in
        the group are left out. Each exception has a note that names its job. If no failure counts, nothing is raised:
        neither for a timeout nor for `cancel()`, which `check=` of a run raises.

        Args:
            first: whether to raise the first of the failures in place of the group, as its job raised it.

        Raises:
            ExceptionGroup: at least one failure counts in the last run, or in the run in progress.
            Exception: with `first`, the first failure that counts.
            TypeError: `first` is not a bool.

        """
        _failures.raise_failures(
            self, _job_options.flag(first, "first", self._name_for_errors)
        )

    # ---- for the rest of the package

    def _counted_state(self, job: AnyJob) -> ReportedState | None:
        """Return the state that a journal and a look count a job as, or None if it is no job of the user's."""
        return reported_state(job)

    def _all_counts(self) -> Mapping[JobState, int] | None:
        """Return the number of jobs by state, also of those that are no members any more, or not yet.

        Jobs to come are IDLE. If their number is unknown, that key is missing. None means that only its members count.
        Otherwise, each member that counts has a `sequence`, a number, which a job has in common with the job that it
        replaces.
        """
        return None

    def _expected_durations(
        self, jobs: Iterable[AnyJob] | None = None
    ) -> dict[AnyJob, float]:
        """Return the known expected durations of members, in seconds. Those of a run in progress take precedence.

        Args:
            jobs: the members to look up, or None for all members.

        """
        # No other member has an `expected_duration`.
        own = jobs
        if own is None:
            own = self._members.jobs_with_scheduling_options
        durations = dict[AnyJob, float]()
        for job in own:
            if job.expected_duration is not None:
                durations[job] = job.expected_duration
        run = self._innermost_run()
        known: Mapping[AnyJob, float] = {}
        if run is not None:
            known = run.outermost().durations
        if known:
            wanted = self._members.jobs if jobs is None else jobs
            durations.update({job: known[job] for job in wanted if job in known})
        return durations

    def _add_requirements(self, job: AnyJob, requirements: list[AnyJob]) -> None:
        """Record that a member gets new requirements. During a run, check and count them, too.

        `AbstractJob.requires` calls this method.
        """
        self._ask("requires", f"requires() of {job.label!r}")
        self._members.is_unchecked = True
        if self._run is not None:
            self._run.steering.check_growing(self._run, f"requires() of {job.label!r}")
            _checks.check_new_requirements(self._members, job, requirements)
            _requirement_counts.link(job, requirements)

    def _innermost_run(self) -> Run | None:
        """Return the run in progress, or else the innermost run in progress around this scheduler, or None."""
        scheduler: BaseScheduler | None = self
        # Not `enclosing_schedulers`, which would take 1 µs more in each `add`.
        while scheduler is not None:
            if scheduler._run is not None:
                return scheduler._run
            scheduler = scheduler._scheduler
        return None

    def _run_resource_totals(self) -> Mapping[str, int]:
        """Return the totals of those `RUN_RESOURCES` that this scheduler provides for its own jobs."""
        return {}

    _wait_settled = _awaiting.wait_settled
    _describe_timeout = _explain.describe_timeout
    _describe_standstill = _explain.describe_standstill
    _describe_outside_wait = _explain.describe_outside_wait
    _create_failure_log = staticmethod(_failures.FailureLog)

    async def _wait(self, takes_failure: bool) -> None:
        if self._scheduler is not None and (
            self._run is None or self._worker is not None
        ):
            await super()._wait(takes_failure)
            return
        await _backend.current_backend().checkpoint()
        run = self._ask("wait_settled", f"wait_settled() of {self.label!r}")
        if run is not None:
            await _awaiting.wait_ended(self, run)

    def _reject_wait_cycle(self) -> None:
        """Raise an error if this scheduler, which is outermost, is awaited by one of its own jobs."""
        if (waiter := _awaiting.waiting_job()) is not None:
            _explain.reject_wait_cycle(waiter, self)

    def _notify_unreached(self) -> None:
        """Wake all that wait for room, and all jobs that await an IDLE job: no run gives it, or will reach it."""
        if self._room is not None:
            self._room.end_iteration()
        if self._was_awaited:
            for job in self.iterate_jobs():
                if job._extras is not None:
                    job._extras.notify_listeners(job)

    def _store_outcome(self, run: Run) -> None:
        """Store the result of a run that has ended, and wake all that still wait for its jobs."""
        if run.failures.number or run.failures.total:
            self._counted_failures = _failures.counted_failures(self)
            if run.fate.reason is StopReason.FAILED:
                run.fate.culprit = self._counted_failures.first_member
        self._fate = run.fate
        self._run_times = run.began_at, run.clock()
        if run.changes is not _steering.NOT_STEERED:
            self._run_steering = _steering.SteeringRecord(*map(tuple, run.changes))
        _life.record_end(self)

    def _extend_settled_iterators(self, jobs: list[AnyJob]) -> None:
        for iterator in tuple(self._settled_iterators or ()):
            iterator.watch_new(jobs)

    def _interrupt(self, interruption: BaseException | None) -> bool:
        """Stop the run in progress because of a signal, and return whether there was one."""
        if self._run is not None:
            self._run.guard(self._run.interrupt, interruption)
        return self._run is not None

    def _skip_run(self) -> None:
        for job in self.iterate_jobs():
            if not is_scheduler(job):
                job._skip_run()

    def _release_call(self) -> None:
        for job in self.iterate_jobs():
            if not is_scheduler(job):
                job._release_call()

    def _needs_shutdown(self) -> bool:
        todo: list[AnyJob] = [self]
        # A loop without recursion, because schedulers may be nested to any depth.
        for job in todo:
            if not is_scheduler(job):
                if job._needs_shutdown():
                    return True
            elif type(job).co_shutdown is not BaseScheduler.co_shutdown:
                return True
            elif job._fate.reason is None:
                todo += job._members.jobs_with_shutdown
        return False

    async def co_shutdown(self) -> None:
        """Shut down the jobs of a nested scheduler that has not run. Otherwise, its own run has shut them down."""
        run = self._innermost_run()
        if run is not None and self._fate.reason is None:
            await _ending.shut_down_nested(run, self)

    def __repr__(self) -> str:
        """Show the label, the state and the number of members."""
        state = self.state.value
        if self._fate.reason and self._run is None:
            state = self._fate.reason.value
        return text_of(self, f"{state}, {plural(len(self), 'job')}")


def _made_by_user(
    subject: str, name: str, maker: Any, arguments: tuple[Any, ...]
) -> Any:
    """Return the label or the key of a job, which `label=` or `key=` of `map` makes from the arguments of the job."""
    problem = f"the function of {name}= raised"
    if isinstance(maker, str):
        problem = f"{name}={maker!r} cannot be filled in"
        maker = maker.format
    try:
        made = maker(*map(_labels.without_ref, arguments))
    except Exception as error:
        call_text = _labels.call_label(name, arguments, {})
        raise ValueError(
            f"{subject}: {problem} for {call_text}: {type(error).__name__}: {error}"
        ) from error
    if name == "label" and not isinstance(made, str):
        call_text = _labels.call_label(name, arguments, {})
        raise TypeError(
            f"{subject}: {call_text} returned {type(made).__name__}; it must return text"
        )
    return made


def _close_job(job: AnyJob) -> None:
    """Close a job, and log what that raises: the other jobs are closed, too, and the failures of a run leave it."""
    try:
        job.close()
    except Exception as error:
        text = f"close() of {job.label!r} raised {_errors.one_line_error(error)}"
        _logger.warn(text, error)


def interrupt(scheduler: BaseScheduler, interruption: BaseException) -> None:
    """Stop the run of a scheduler, as Ctrl-C does, so that it raises this exception. Do nothing if there is no run."""
    scheduler._interrupt(interruption)


_option_descriptors.set_docs_and_signature(BaseScheduler, BaseScheduler.__init__)
for _name, _hint in _hints.SCHEDULER_ATTRIBUTE_HINTS.items():
    setattr(BaseScheduler, _name, _hints.MissingAttribute(_name, _hint))
SETTING_DEFAULTS: Final = tuple(
    (option.attribute, option.default)
    for option in BaseScheduler._declared_options.values()
    if option.attribute in BaseScheduler.__slots__
)
"""The names of the attributes that store a scheduler's settings, each with the default value."""
