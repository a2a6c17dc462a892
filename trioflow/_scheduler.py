"""The public schedulers: `Scheduler`, which adds views, durations and worker processes to the engine's, and `First`."""

from __future__ import annotations

import atexit
import contextvars
import functools
import os
import sys
import threading
import weakref
from math import inf
from types import FunctionType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    TextIO,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from ._core.base._text_forms import clause
from ._core.job import _function
from ._core.job._job_options import (
    JobOptions,
    NestedJobOptions,
    Subject,
    check_number,
    flag,
    seconds,
    subject_text,
)
from ._core.job._option_descriptors import Option, set_docs_and_signature
from ._core.parts import SettledFunction
from ._core.parts._first_rule import FirstRule
from ._core.run._instruments import Instrument, check_instruments
from ._core.scheduler._base_scheduler import BaseScheduler
from ._core.scheduler._sync_run import OwnFrames
from ._core.words._run_view import RunInProgress, runs_in_progress

if TYPE_CHECKING:
    from collections.abc import (
        Awaitable,
        Callable,
        Generator,
        Iterable,
        Iterator,
        Mapping,
    )

    from graphviz import Digraph

    from ._core.admission._policies import PolicyName
    from ._core.admission._pools import Pool
    from ._core.admission._window import Window
    from ._core.backend import Backend
    from ._core.job._job import AbstractJob, AnyJob
    from ._core.job._requirements import Required
    from ._core.run._journaling import RunJournal
    from ._core.run._run import Run
    from ._core.scheduler._base_scheduler import JournalSetting
    from .jobs.process._process_job import ProcessesOption
    from .simulation._duration_sources import DurationSource
    from .view.text._selection import JobSelection


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class SchedulerOptions(JobOptions, total=False):
    """The types of the options of a `First`: the options of a `Scheduler`, which include the options of every job."""

    jobs_window: Window | None
    shutdown_timeout: float | None
    cleanup_timeout: float | None
    critical_jobs: bool | None
    policy: PolicyName
    pool: Pool | None
    instruments: Iterable[Instrument]
    keep_jobs: bool
    journal: JournalSetting
    on_job_settled: SettledFunction | None
    hold: bool
    durations: DurationSource | None
    processes: ProcessesOption


def _check_durations(value: object, name: str, subject: Subject) -> Any:
    """Validate the option `durations`. It is kept as it is, because each run reads the durations when it starts."""
    from .simulation import _duration_sources

    _duration_sources.read_durations(value, f"{name} of {subject_text(subject)}")
    return value


def _check_processes(value: object, name: str, subject: Subject) -> Any:
    if value is None:
        return None
    from .jobs.process._process_job import check_processes

    return check_processes(value, f"{name} of {subject_text(subject)}")


LOOK_IS_ENABLED: Final = os.environ.get("TRIOFLOW_LOOK", "0") not in ("", "0")
"""Whether the first run lets `trioflow look` look into this program. See `trioflow.look`."""
begin_refusal: Callable[[Scheduler], None] | None = None
"""Raises in place of each run that would begin. The command `trioflow` sets it while it loads a user's file."""


class EndsOfJobs(Instrument):
    """The ends of a scheduler's jobs in a run of another thread, for its method `run_as_settled`.

    Args:
        scheduler: the scheduler.
        queue: gets each end, as a job and the time of its end.

    """

    def __init__(self, scheduler: Scheduler, queue: Any) -> None:
        self._scheduler: Final = scheduler
        self._queue: Final = queue
        # Whether the iteration has ended before the run.
        self.is_unwanted = False
        # The run, once it can be cancelled.
        self.run: RunInProgress | None = None

    def before_run(self, scheduler: Scheduler) -> None:
        """Cancel the run if the iteration has ended before. Each thread writes first, and then asks the other."""
        for run in runs_in_progress():
            if run.scheduler is self._scheduler:
                self.run = run
        if self.is_unwanted:
            self._scheduler.cancel()

    def job_settled(self, scheduler: Scheduler, job: AnyJob) -> None:
        if scheduler is self._scheduler:
            self._queue.put((job, job.finished_at))

    def end(self) -> None:
        """Cancel the run, now or as it begins, unless it has ended. Another run may have begun since.

        Garbage collection may call this in the thread of the run, amid a step of it. So the loop cancels.
        """
        self.is_unwanted = True
        if self.run is not None:
            self.run.call_in_loop(self._cancel)

    def _cancel(self) -> None:
        if self.run is not None and not self.run.has_ended():
            self._scheduler.cancel()


@functools.cache
def unended_iterations() -> weakref.WeakSet[EndsOfJobs]:
    """Return the iterations in progress. They end as the interpreter exits, before it waits for their threads.

    A program may leave a generator behind, as a global or in a traceback.
    """
    iterations: weakref.WeakSet[EndsOfJobs] = weakref.WeakSet()

    def end() -> None:
        for ends in tuple(iterations):
            ends.end()

    # `concurrent.futures` waits in the same way (https://github.com/python/cpython/blob/v3.11.7/Lib/threading.py#L1531),
    # and the last function comes first.
    getattr(threading, "_register_atexit", atexit.register)(end)
    return iterations


class Scheduler(BaseScheduler):
    """A set of jobs, each of which runs as soon as everything it requires has settled. A scheduler is itself a job.

    Use it to run jobs. Nest it for jobs that share a limit, a timeout or an outcome.

    Usually you set `jobs_window`, and of the outermost scheduler `journal` or `timeout`.

    Build the graph, then call `run()`, or await `co_run()` in a trio or asyncio program. Run it again until `close()`.

    Args:
        jobs_or_sequences: the first members, as for `update`.
        label: its name for people.
        jobs_window: how many jobs may run at once: a number, an `Adaptive`, or a `CapacityLimiter`, which counts jobs
            at any depth.
        pool: the resources that its jobs need.
        policy: the start order: "fifo", "critical-path", "depth-first" or "auto".
        durations: the expected durations of its jobs: a mapping, a `Trace`, or a file to update.
        timeout: seconds for a run.
        critical_jobs: the default `critical` of its jobs.
        instruments: watch its runs.
        journal: a `Journal` or its path. Jobs that an earlier run recorded are restored.
        on_job_settled: a function that is called with each settled job.
        hold: pause instead of ending with failures.
        keep_jobs: False removes jobs that have settled.
        processes: for its ProcessJobs: a number of workers, an executor, or a cluster.
        shutdown_timeout: seconds for `co_shutdown`.
        cleanup_timeout: seconds for `run_if="failed"` jobs after the run stopped.
        options: of every job, for a nested scheduler. See `JobOptions`.

    Raises:
        TypeError: an argument is no job, or an option has the wrong type.
        ValueError: a number is out of range, or a job is already in another scheduler.

    Example:
        >>> async def double(number):
        ...     return 2 * number
        >>> first = Job(double, 21, label="first")
        >>> last = Job(double, first, label="last")
        >>> Scheduler(last, jobs_window=10, timeout=60).run(), last.result()
        (True, 84)

    """

    __slots__ = ("_durations", "_processes")

    durations: Option[DurationSource | None] = Option(None, _check_durations)
    processes: Option[ProcessesOption] = Option(None, _check_processes)
    _durations: DurationSource | None
    _processes: ProcessesOption

    def __init__(
        self,
        *jobs_or_sequences: Required,
        label: str | None = None,
        jobs_window: Window | None = None,
        pool: Pool | None = None,
        policy: PolicyName = "auto",
        durations: DurationSource | None = None,
        timeout: float | None = None,
        critical_jobs: bool | None = None,
        instruments: Iterable[Instrument] = (),
        journal: JournalSetting = None,
        on_job_settled: SettledFunction | None = None,
        hold: bool = False,
        keep_jobs: bool = True,
        processes: ProcessesOption = None,
        shutdown_timeout: float | None = 1.0,
        cleanup_timeout: float | None = 5.0,
        **options: Unpack[NestedJobOptions],
    ) -> None:
        self._durations = self._processes = None
        settings = (
            label, jobs_window, pool, policy, durations, timeout, critical_jobs, instruments, journal,
            on_job_settled, hold, keep_jobs, processes, shutdown_timeout, cleanup_timeout,
        )  # fmt: skip
        given = zip(SETTING_DEFAULTS, settings, strict=True)
        changed: dict[str, Any] = {
            name: value for (name, default), value in given if value is not default
        }
        super().__init__(*jobs_or_sequences, **options, **changed)

    def _run_resource_totals(self) -> Mapping[str, int]:
        if not isinstance(self._processes, int):
            return {}
        from .jobs.process._process_job import WORKER_PROCESSES_RESOURCE

        return {WORKER_PROCESSES_RESOURCE: self._processes}

    def _make_run(
        self,
        backend: Backend,
        timeout: Any,
        jobs_window: object,
        instruments: Iterable[Instrument],
    ) -> Run:
        run = super()._make_run(backend, timeout, jobs_window, instruments)
        if begin_refusal is not None and run.outer_worker is None:
            begin_refusal(self)
        if LOOK_IS_ENABLED and run.outer_worker is None:
            from .view.look._answers import start_or_warn

            start_or_warn()
        if self._durations is not None and run.outer_worker is None:
            from .simulation import _duration_sources

            run.durations = _duration_sources.resolve_durations(self._durations, self)
        return run

    def _begin_hold(self) -> None:
        from . import _loaded_files
        from .view.look import _answers

        # Who is to mend something can look.
        _answers.start_or_warn()
        _loaded_files.remember()

    def _needs_to_look(self) -> str:
        from .view.look import _answers

        if sys.version_info >= (3, 14) or _answers.answer_thread.is_running():
            return ""
        return ", which need TRIOFLOW_LOOK=1 or `trioflow run`"

    def _hold_advice(self) -> str:
        from . import _loaded_files
        from .view.look import _answers

        # The modules that jobs have imported.
        _loaded_files.remember()
        if not _answers.answer_thread.is_running():
            return super()._hold_advice()
        steer = f"trioflow steer {os.getpid()}"
        reload = " --reload" if _loaded_files.changed_files() else ""
        return f"try_again() or `{steer} try-again{reload}` tries them again, resume() or `{steer} resume` ends it"

    def _changes_text(self) -> str:
        from .view.look import _reload

        changed = clause("; {}", _reload.changed_text())
        return changed + clause("; {}", _reload.older_code_text(self))

    def _store_outcome(self, run: Run) -> None:
        super()._store_outcome(run)
        if self._durations is not None and run.outer_worker is None:
            from .simulation import _duration_sources

            if isinstance(self.durations, (str, os.PathLike)):
                _duration_sources.record_durations(self.durations, self)

    async def _begin_outputs(self, job: AnyJob) -> Callable[[bool], Awaitable[str]]:
        from .jobs._user_files import begin_outputs

        return await begin_outputs(job)

    def _check_files(self) -> None:
        from . import _check

        _check.check_files(self)

    def _open_journal(self, journal: Any) -> RunJournal:
        from .journal._journal import open_journal

        return open_journal(journal, self)

    def run_as_settled(self, **options: Any) -> Iterator[AnyJob]:
        """Run the scenario in a thread of its own, and yield the jobs as they settle, in a synchronous program.

        The run begins with the iteration, in the context of its caller, and has ended when the iteration ends. After
        the last job, the iteration raises the exceptions that `run()` raises, such as a `CycleError` or, with `check=`,
        the failure. If the iteration ends before, by `break`, `close()` or an exception such as KeyboardInterrupt, the
        run is cancelled. A job that is tried again before it was yielded is yielded when it has settled again. Forever
        jobs come last.

        Args:
            options: the options of `run`. Signals are left to the program.

        Yields:
            The members that have settled, not the members of nested schedulers. See `as_settled` for an asynchronous
            program.

        Example:
            >>> async def double(number):
            ...     return 2 * number
            >>> scheduler = Scheduler()
            >>> jobs = scheduler.map(double, [1, 2, 3])
            >>> sorted(job.result() for job in scheduler.run_as_settled(backend="asyncio"))
            [2, 4, 6]

        """
        from concurrent.futures import ThreadPoolExecutor
        from queue import SimpleQueue

        queue: SimpleQueue[Any] = SimpleQueue()
        ends = EndsOfJobs(self, queue)
        given = options.get("instruments", ())
        others = check_instruments(given, "instruments", repr(self.label))
        options["instruments"] = [*others, ends]
        thread = ThreadPoolExecutor(1, "trioflow run")
        unended_iterations().add(ends)
        with OwnFrames():
            try:
                context = contextvars.copy_context()
                run = thread.submit(context.run, lambda: self.run(**options))
                run.add_done_callback(lambda _: queue.put(None))
                for job, finished_at in iter(queue.get, None):
                    # A job with another end is tried again.
                    if job.finished_at == finished_at:
                        yield job
            finally:
                ends.end()
                is_own = (
                    ends.run is not None and ends.run.thread_id == threading.get_ident()
                )
                thread.shutdown(wait=not is_own)
            run.result()

    # In the annotations below, `list` is this method: methods that return lists of jobs belong in BaseScheduler.

    def list(self, file: TextIO | None = None, *, details: bool = False) -> None:
        """Print a line per job: number, symbols, ``<Kind label>``, its time, and the numbers of its requirements.

        The time is the duration of the job, or its elapsed time while it runs. Times below 50 ms are not shown. The
        lines are in topological order. Jobs in a cycle come last. The three symbols are:

        - `!`: it is critical.
        - Its state: `·` idle, `◦` scheduled, `▸` running, `✓` succeeded, `✗` failed, `⊘` cancelled, `⊗` blocked, `⤼`
          skipped, `»` moved on.
        - `∞`: it is forever.

        If the stream cannot encode them, they are `!`, the states `.w>+xcbs`, and `8`. A nested scheduler has a line
        with the numbers of its entry jobs, then its jobs, indented, then a line with the numbers of its exit jobs. A
        requirement outside the scheduler has a question mark before its number, or before its label if it is not
        listed.

        Args:
            file: a text stream, or None for standard output.
            details: shows results, as `-> 42`, and exceptions, as `!! KeyError: 'x'`, shortened to 100 characters. Also
                shows the progress and status of running jobs, and the reason why ready jobs wait.

        Raises:
            TypeError: `file` is not a stream.

        Example:
            >>> async def divide(a, b):
            ...     return a / b
            >>> nested = Scheduler(Job(divide, 4, 2, label="fine"), Job(divide, 4, 0, label="by zero"), label="nested")
            >>> scheduler = Scheduler(nested, Job(divide, 1, 1, label="last"))
            >>> scheduler.run()
            False
            >>> scheduler.list(details=True)
            1    ✗    > <Scheduler nested>  -> entries={2, 3}  !! ZeroDivisionError: division by zero
            2    ✓      <Job fine>          -> 2.0
            3    ✗      <Job by zero>       !! ZeroDivisionError: division by zero
            1     end < <Scheduler nested>  exits={2, 3}
            4    ✓    <Job last>            -> 1.0

        """
        # Imported late, like all views, because many programs display nothing.
        from .view.text import _symbols
        from .view.text._listing import Listing

        stream = _symbols.output_stream(file, f"list() of {self.label!r}")
        if text := Listing(self, _symbols.Symbols.for_stream(stream)).text(details):
            print(_symbols.terminal_text(text, stream), file=stream)

    def debrief(self, file: TextIO | None = None, *, listing: bool = False) -> None:
        """Print a summary of the last run: why it ended, how many jobs are in which state, and the failures.

        The verdict comes first. If the run was stopped, the reason and the culprit follow, which may be in a nested
        scheduler. Then come the counts of jobs. They leave out nested schedulers, and count forever jobs separately
        unless they failed. Then come the failures, critical failures first, and otherwise in the order of settling.
        Failures of the same type from the same place form a group, with their number and a single traceback, which
        shows only frames of the user's own code. A nested scheduler that failed because of its own jobs is not shown
        again. The jobs that did not run because of failures follow, and incidents, such as a `co_shutdown` that raised.
        Jobs are named by their paths.

        Args:
            file: a text stream, or None for standard output.
            listing: adds the listing at the end.

        Raises:
            TypeError: `file` is not a stream.

        Example:
            >>> async def nothing(): ...
            >>> scheduler = Scheduler(Job(nothing, label="job"))
            >>> scheduler.run()
            True
            >>> scheduler.debrief(listing=True)
            Scheduler  ✓ 1 job succeeded
            1 job: 1 succeeded
            <BLANKLINE>
            1    ✓    <Job job>

        """
        from .view.text import _symbols
        from .view.text._debrief import debrief_text

        stream = _symbols.output_stream(file, f"debrief() of {self.label!r}")
        flag(listing, "listing", "debrief()")
        text = debrief_text(self, _symbols.Symbols.for_stream(stream), listing)
        print(_symbols.terminal_text(text, stream), file=stream)

    # ---- as a picture: drawing code is imported only when needed

    def graph(self, *, collapse: JobSelection | bool = False) -> Digraph:
        """Return the graph of its jobs as a `graphviz.Digraph`, which Jupyter displays, and which can be changed.

        - A box is a job. Its shape shows the kind, its name is the number in `list`, and its color and symbol show the
          state. A critical job has a thick border and an exclamation mark, a forever job a dashed border.
        - A frame is a nested scheduler. Lines to it end at the frame.
        - A gray arrow leads from a requirement to the job that requires it. A thick blue arrow, which starts with a
          dot, also passes the result as an argument. A dashed arrow means that the job runs only after a failure.
        - A job that is required but not in this scheduler has a question mark and a dotted border.

        After a run each box shows the duration of its job, and the critical path has double borders and magenta
        arrows. Long labels are truncated. SVG pictures have tooltips with kind, path and state. The background is
        transparent, and the colors are readable on light and dark pages.

        `trioflow.view.save(scheduler, path)` writes the graph to a file.

        Args:
            collapse: draws nested schedulers as single boxes. True is for all. If there are still more than 40 boxes,
                jobs whose labels differ in numbers only are one box, unless one waits for another, and so are groups.
                For some of them, give a job, its `job.path`, a pattern for paths, where `*` matches any text and `?`
                any single character, or a collection of these.

        Returns:
            The graph. Its attribute `source` is the DOT text. Its methods `render` and `pipe` draw it, with the program
            `dot`.

        Raises:
            TypeError: a `collapse` that is neither jobs nor strings.
            ValueError: a job from elsewhere, or a string that matches no path.

        Example:
            >>> first = AbstractJob(label="first")
            >>> scheduler = Scheduler(first, AbstractJob(label="last", required=first))
            >>> "1 -> 2" in scheduler.graph().source
            True

        """
        from .view.graph import _drawing
        from .view.trace._trace import find_critical_path

        return _drawing.graph(self, find_critical_path(self), collapse)

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> dict[str, str]:
        """Return the representations that Jupyter chooses from: the graph, and the listing as plain text."""
        from .view import _save

        return _save.scheduler_bundle(self)


SETTING_DEFAULTS: Final = tuple((Scheduler.__init__.__kwdefaults__ or {}).items())
"""The names and the defaults of the settings in the constructor's signature, in their order."""
set_docs_and_signature(Scheduler, Scheduler.__init__)
for _name, _method in vars(BaseScheduler).items():
    if isinstance(_method, FunctionType):
        # Python's errors and warnings about calls then show the name that users write.
        _plain = getattr(_method, "__wrapped__", _method)
        _plain.__qualname__ = f"{Scheduler.__name__}.{_name}"
        _method.__qualname__ = _plain.__qualname__


def _check_stagger(value: Any, name: str, subject: Subject) -> float | None:
    """Check the option `stagger`: as a time limit, but infinity does not mean None, which starts all at once."""
    if isinstance(value, float) and value == inf:
        return value
    return seconds(value, name, subject)


class First(Scheduler, Generic[T_co]):
    """A nested scheduler that succeeds as soon as `enough` of its jobs have succeeded. The others are then cancelled.

    Use it for hedged requests, for fallbacks, and for races.

    The result of the `First` is the result of the first job that succeeded. Another job that has the `First` among its
    arguments gets this result. With `enough` > 1, it is the list of the results, in the order that the jobs succeeded.
    The jobs that were cancelled have unwound when the `First` settles. Each job takes needs, rates and tokens like any
    other. The `First` takes a slot of its scheduler's window, as any nested scheduler does.

    A member that another member requires does not compete: `First(Sequence(connect, ask), other)` waits for `ask` or
    `other`. With `run_if="failed"`, a member is a fallback for the members that it requires, and competes with them.

    If so many jobs have failed that the others cannot be enough, the rest is cancelled, and the `First` is FAILED, with
    an `ExceptionGroup` of their failures. If each failed with a `BudgetSpent`, the `First` does so, too. A job of a
    `First` is critical only if its own `critical` is True, or the `critical_jobs` of the `First`. Its failure then ends
    the `First` at once, although enough others could still succeed.

    **A `First` is one job** for enclosing schedulers: their counts, `results()` and `failures()` have the `First`, and
    not its jobs, whether these failed, lost, or never started. If its running jobs decide the result after a `drain()`,
    it ends as without a drain.

    A journal records which jobs have decided the result. A later run restores the `First` as a whole, without starting
    any of its jobs, if these can be restored. Otherwise, or if the `First` runs alone, the journal is asked about each
    job before any starts, and the recorded results count first, in the same order.

    Args:
        jobs_or_sequences: the jobs that compete, as for a `Scheduler`.
        enough: how many of them have to succeed, 1 or more.
        stagger: seconds between the starts, more than 0. A job starts when the job before it has failed, or this long
            after that job has started. With infinity, it starts only when that job has settled. None starts all at
            once.
        options: the options of a `Scheduler`, and of every job.

    Raises:
        TypeError: an argument is not a job, or an option has the wrong type.
        ValueError: a number is out of range, or a job is already in another scheduler.

    Example:
        >>> async def ask(server, seconds):
        ...     await anyio.sleep(seconds)
        ...     return server
        >>> answer = First(Job(ask, "far", 5), Job(ask, "near", 0))
        >>> tell = Job(ask, answer, 0)
        >>> Scheduler(answer, tell).run(), answer.result(), tell.result()
        (True, 'near', 'near')

    """

    __slots__ = ("_enough", "_stagger")

    _can_be_input = True

    enough: Option[int] = Option(1, functools.partial(check_number, least=1))
    stagger: Option[float | None] = Option(None, _check_stagger)
    _enough: int
    _stagger: float | None

    @overload
    def __init__(
        self: First[T], *jobs: AbstractJob[T], enough: Literal[1] = 1, stagger: float | None = None,
        **options: Unpack[SchedulerOptions],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: First[list[T]], *jobs: AbstractJob[T], enough: int, stagger: float | None = None,
        **options: Unpack[SchedulerOptions],
    ) -> None: ...  # fmt: skip
    @overload
    def __init__(
        self: First[Any], *jobs_or_sequences: Required, enough: int = 1, stagger: float | None = None,
        **options: Unpack[SchedulerOptions],
    ) -> None: ...  # fmt: skip
    def __init__(
        self,
        *jobs_or_sequences: Required,
        enough: int = 1,
        stagger: float | None = None,
        **options: Unpack[SchedulerOptions],
    ) -> None:
        self._enough, self._stagger = 1, None  # pyright: ignore[reportIncompatibleVariableOverride]
        all_options: Any = {**options, "enough": enough, "stagger": stagger}
        if not jobs_or_sequences:
            raise ValueError(
                "First(): give the jobs that compete, as in First(Job(ask, 1), Job(ask, 2))"
            )
        super().__init__(*jobs_or_sequences, **all_options)

    if TYPE_CHECKING:
        # The result of a `Scheduler` is a bool.

        def result(self, *, default: object = None) -> T_co:  # type: ignore[override]
            """Return the result of the job that was first. See `AbstractJob.result`."""
            raise NotImplementedError

        def __await__(self) -> Generator[Any, Any, T_co]:  # type: ignore[override]
            """Wait until the job has settled, and return its result."""
            raise NotImplementedError

    def _nested_result(self, run: Run) -> Any:
        super()._nested_result(run)
        rule = run.part(FirstRule)
        assert rule is not None
        results = [_function.result_of(job) for job in rule.winners]
        if self._enough == 1:
            return results[0]
        return results


set_docs_and_signature(First, cast(Any, First).__init__)
