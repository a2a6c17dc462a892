"""`PureScheduler`: a scheduler that is not a job.

Decided in docs/decisions: 36-asynciojobs.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import trioflow
from trioflow._core.base._graph_algorithms import reachable
from trioflow._hints import import_extra
from trioflow.abc import BackendName
from trioflow.graph import topological_order

from . import _listing, _running
from ._listing import label_text
from .job import AbstractJob, Job, flatten_members, in_creation_order, was_awaited
from .watch import Watch, wall_clock

if TYPE_CHECKING:
    import os

    from graphviz import Source

_is_debugging = False


def set_debug(debug: bool) -> None:
    """Make all schedulers verbose, even those with `verbose=False`.

    Args:
        debug: True makes all schedulers verbose. False makes only schedulers with `verbose=True` verbose again.

    """
    global _is_debugging
    _is_debugging = debug


class PureScheduler:
    """A set of jobs that can be run, but is not a job itself.

    Args:
        jobs_or_sequences: jobs, Sequences and None.
        jobs_window: the maximum number of jobs that run at once. None or 0 is no limit.
        timeout: the time limit for a run in seconds, or None for no limit.
        shutdown_timeout: the time limit in seconds for all `co_shutdown` calls together at the end of a run, and for a
            cancelled job to end, or None for no limit.
        watch: the watch whose elapsed time begins each line that the scheduler prints, or None to print the time of
            day.
        verbose: whether to print a line when a job starts and when it is done.
        kwds: the arguments of `AbstractJob`, of a `Scheduler`.

    Raises:
        TypeError: an item is neither a job nor a Sequence.

    Example:
        >>> from trioflow.compat.asynciojobs import PrintJob, PureScheduler
        >>> first = PrintJob("hello", label="first")
        >>> scheduler = PureScheduler(first, PrintJob("world", label="second", required=first))
        >>> scheduler.run()
        hello
        world
        True
        >>> scheduler.list()
        1 ⚠ ☉ ☓   <PrintJob `first`> [[ -> None]]
        2 ⚠ ☉ ☓   <PrintJob `second`> [[ -> None]] requires={1}

    """

    jobs: set[AbstractJob]
    """The jobs, a set that programs may change while the scheduler is not running."""
    jobs_window: int | None
    timeout: float | None
    shutdown_timeout: float | None
    watch: Watch | None
    verbose: bool

    # The trioflow scheduler of the current or the last run.
    _trioflow_run_scheduler: trioflow.Scheduler | None = None
    _trioflow_time_limit: float | None = None
    _trioflow_is_shut_down = False
    _trioflow_instruments: Iterable[Any] = ()

    def __init__(
        self,
        *jobs_or_sequences: object,
        jobs_window: int | None = None,
        timeout: float | None = None,
        shutdown_timeout: float | None = 1,
        watch: Watch | None = None,
        verbose: bool = False,
        **kwds: object,
    ) -> None:
        self.jobs = set()
        self.jobs_window = jobs_window
        self.timeout = timeout
        self.shutdown_timeout = shutdown_timeout
        self.watch = watch
        self.verbose = verbose
        self.update(jobs_or_sequences)
        if kwds and not isinstance(self, AbstractJob):
            raise TypeError(
                f"{type(self).__name__}() takes no {next(iter(kwds))!r}, which is for jobs: use Scheduler"
            )
        # The constructor of `AbstractJob`, if this is a job.
        super().__init__(**kwds)

    # ---- the jobs

    def update(self, jobs: Iterable[Any]) -> Self:
        """Add jobs, and the jobs of Sequences. Ignore None.

        Returns:
            The scheduler.

        Raises:
            TypeError: an item is neither a job nor a Sequence.

        """
        self.jobs.update(flatten_members(jobs, type(self).__name__))
        return self

    def add(self, job: object) -> Any:
        """Add a job, or the jobs of a Sequence.

        Returns:
            The job or the Sequence.

        Raises:
            TypeError: `job` is neither a job nor a Sequence.

        """
        self.update([job])
        return job

    def remove(self, job: AbstractJob) -> Self:
        """Remove a job, but not from the requirements of other jobs. See `sanitize` and `bypass_and_remove`.

        Returns:
            The scheduler.

        Raises:
            KeyError: the job is not in the scheduler.

        """
        self.jobs.remove(job)
        return self

    def __len__(self) -> int:
        return len(self.jobs)

    def __iter__(self) -> Iterator[AbstractJob]:
        """Iterate over the jobs in the order that they were created."""
        return iter(in_creation_order(self.jobs))

    def iterate_jobs(self, scan_schedulers: bool = False) -> Iterator[AbstractJob]:
        """Yield all jobs that are not schedulers, including the jobs of nested schedulers.

        Args:
            scan_schedulers: whether to yield the schedulers, too: this scheduler first, and each before its jobs.

        """
        if scan_schedulers:
            yield self  # type: ignore[misc]  # a PureScheduler is not a job, but asynciojobs yields it all the same
        for job in self:
            if (nested := job._trioflow_as_scheduler()) is None:
                yield job
            else:
                yield from nested.iterate_jobs(scan_schedulers)

    # ---- the graph

    def check_cycles(self) -> bool:
        """Return whether the graph is valid: it has no cycles, and all requirements are in the same scheduler."""
        try:
            _listing.assign_numbers(self)
        except Exception:
            return False
        return True

    def topological_order(self) -> Iterator[AbstractJob]:
        """Yield the jobs, each after its requirements. Jobs without requirements come first, in the order of creation.

        Raises:
            Exception: requirements form a cycle, or are not in the scheduler.

        """
        if not any(job.required for job in self.jobs):
            yield from self
            return
        yield from (
            adapter.job for adapter in self._trioflow_order(self._trioflow_build_run())
        )

    def _trioflow_order(
        self, run: trioflow.Scheduler
    ) -> builtins.list[_running.JobAdapter]:
        try:
            return [
                adapter
                for adapter in topological_order(run)
                if isinstance(adapter, _running.JobAdapter)
            ]
        except trioflow.CycleError as error:
            raise Exception(str(error)) from error

    def sanitize(self, verbose: bool | None = None) -> bool:
        """Drop requirements on jobs outside the scheduler. Do the same in nested schedulers.

        Args:
            verbose: whether to print the dropped requirements, or None for the scheduler's own `verbose`.

        Returns:
            Whether the graph was already clean: False if a requirement was dropped.

        """
        is_clean = True
        for job in self:
            if missing := job.required - self.jobs:
                job.required -= missing
                is_clean = False
                if verbose or (verbose is None and self.verbose):
                    print(
                        f"WARNING: {len(missing)} requirement(s) of {job!r} are not in {self!r}: dropped"
                    )
            if (nested := job._trioflow_as_scheduler()) is not None:
                is_clean = nested.sanitize(verbose) and is_clean
        return is_clean

    def entry_jobs(self) -> Iterator[AbstractJob]:
        """Yield the jobs without requirements."""
        return (job for job in self if not job.required)

    def exit_jobs(
        self, *, discard_forever: bool = True, compute_backlinks: bool = True
    ) -> Iterator[AbstractJob]:
        """Yield the jobs that no other job requires.

        Args:
            discard_forever: whether to omit forever jobs.
            compute_backlinks: has no effect.

        """
        required = self.predecessors(*self.jobs)
        return (
            job
            for job in self
            if job not in required and not (discard_forever and job.forever)
        )

    def predecessors(self, *starts: AbstractJob) -> set[AbstractJob]:
        """Return the direct requirements of these jobs."""
        return set[AbstractJob]().union(*(job.required for job in starts))

    def successors(
        self, *starts: AbstractJob, compute_backlinks: bool = True
    ) -> Iterator[AbstractJob]:
        """Yield the jobs that directly require any of these jobs.

        Args:
            starts: the jobs.
            compute_backlinks: has no effect.

        """
        return (job for job in self if not job.required.isdisjoint(starts))

    def predecessors_upstream(self, *starts: AbstractJob) -> set[AbstractJob]:
        """Return the requirements of these jobs, direct and indirect."""
        return set(reachable(self.predecessors(*starts), lambda job: job.required))

    def successors_downstream(
        self, *starts: AbstractJob, compute_backlinks: bool = True
    ) -> set[AbstractJob]:
        """Return the jobs that require any of these jobs, directly or indirectly.

        Args:
            starts: the jobs.
            compute_backlinks: has no effect.

        """
        backlinks: dict[AbstractJob, builtins.list[AbstractJob]] = {}
        for job in self.jobs:
            for required in job.required:
                backlinks.setdefault(required, []).append(job)
        following = list[AbstractJob]()
        for start in starts:
            following += backlinks.get(start, ())
        return set(reachable(following, lambda job: backlinks.get(job, ())))

    def bypass_and_remove(self, job: AbstractJob) -> None:
        """Remove a job, and replace it by its requirements in the jobs that require it.

        Raises:
            ValueError: the job is not in the scheduler.

        """
        if job not in self.jobs:
            raise ValueError(f"{job!r} is not in {self!r}: there is nothing to remove")
        for successor in self.successors(job):
            successor.required.discard(job)
            successor.required |= job.required
        self.jobs.remove(job)

    def keep_only(self, remains: Iterable[Any]) -> None:
        """Remove all jobs except the given ones, and drop requirements on removed jobs.

        Args:
            remains: the jobs to keep, and Sequences of such jobs.

        """
        self.jobs &= set(flatten_members(remains, "keep_only()"))
        for job in self.jobs:
            job.required &= self.jobs

    def keep_only_between(
        self,
        *,
        starts: Iterable[Any] | None = None,
        ends: Iterable[Any] | None = None,
        keep_starts: bool = True,
        keep_ends: bool = True,
    ) -> None:
        """Remove all jobs except those that come after any of `starts` and before any of `ends`.

        Args:
            starts: jobs and Sequences, or None for the beginning of the graph.
            ends: jobs and Sequences, or None for the end of the graph.
            keep_starts: whether to keep `starts` themselves.
            keep_ends: whether to keep `ends` themselves.

        """
        kept = set(self.jobs)
        kept_ends: set[AbstractJob] = set()
        if starts is not None:
            first = set(flatten_members(starts, "keep_only_between()"))
            kept &= self.successors_downstream(*first)
            if keep_starts:
                kept_ends |= first
        if ends is not None:
            last = set(flatten_members(ends, "keep_only_between()"))
            kept &= self.predecessors_upstream(*last)
            if keep_ends:
                kept_ends |= last
        self.keep_only(kept | kept_ends)

    # ---- running

    def run(
        self, *, backend: BackendName = "asyncio", instruments: Iterable[Any] = ()
    ) -> bool:
        """Run the jobs in a new event loop, and shut them all down.

        Args:
            backend: "asyncio", or "trio" for jobs that are written for trio.
            instruments: instruments of the run, such as `trioflow.Monitor()`. They see a nested scheduler as a single
                job.

        Returns:
            True; False after a timeout or the exception of a critical job.

        Raises:
            Exception: requirements form a cycle, or are not in the scheduler.
            ValueError: the coroutine object of a job has been awaited already.
            RuntimeError: the scheduler is running. Or an event loop is running in this thread, and this is not a
                notebook cell: use `await scheduler.co_run()`.

        """
        self._trioflow_instruments = instruments
        try:
            if type(self).co_run is not PureScheduler.co_run:
                # A program's own.
                return bool(
                    _running.run_in_event_loop(
                        self.co_run, backend, self._trioflow_label()
                    )
                )
            run, options = self._trioflow_prepare(self.timeout, self.jobs_window)
            return self._trioflow_conclude(run.run(backend=backend, **options))
        finally:
            self._trioflow_instruments = ()

    def orchestrate(self, *args: Any, **kwds: Any) -> bool:
        """Call `run`. This is its older name."""
        return self.run(*args, **kwds)

    async def co_run(self) -> bool:
        """Run the jobs in the running event loop, and shut them all down.

        Returns:
            True; False after a timeout or the exception of a critical job.

        Raises:
            Exception: requirements form a cycle, or are not in the scheduler.
            ValueError: the coroutine object of a job has been awaited already.
            RuntimeError: the scheduler is running.
            BaseException: a critical job raised an exception, and this is a critical `Scheduler`.
            TimeoutError: the run timed out, and this is a critical `Scheduler`.

        """
        return await self._trioflow_co_run(self.timeout, self.jobs_window)

    async def _trioflow_co_run(
        self, timeout: float | None, jobs_window: int | None
    ) -> bool:
        """Run the jobs with a time limit and a window. `co_run` of each class calls this."""
        run, options = self._trioflow_prepare(timeout, jobs_window)
        return self._trioflow_conclude(await run.co_run(**options))

    def _trioflow_prepare(
        self, timeout: float | None, jobs_window: int | None
    ) -> tuple[trioflow.Scheduler, dict[str, Any]]:
        """Return the trioflow scheduler that runs the jobs, and the options of its run."""
        if (
            self._trioflow_run_scheduler is not None
            and self._trioflow_run_scheduler.is_running()
        ):
            raise RuntimeError(
                f"{self!r} is running: it cannot run twice at the same time"
            )
        run = self._trioflow_build_run()
        adapters = self._trioflow_order(run)
        jobs = [adapter.job for adapter in adapters]
        if not self._trioflow_is_running_as_member():
            _listing.assign_numbers(self, jobs)
        jobs_awaited = [
            job
            for job in jobs
            if job._trioflow_adapter is not None and was_awaited(job)
        ]
        awaited = list(map(label_text, jobs_awaited))
        if awaited:
            raise ValueError(
                f"the coroutine objects of these jobs were awaited already: {', '.join(awaited)}; "
                f"to run them again, create new jobs, or give them a new corun"
            )
        self._trioflow_reset()
        for adapter in adapters:
            adapter.job._trioflow_adapter = adapter
        self._trioflow_run_scheduler = run
        self._trioflow_time_limit = timeout
        # The run shuts its jobs down at its end.
        self._trioflow_is_shut_down = True
        instruments = tuple(self._trioflow_instruments)
        if self.verbose or _is_debugging:
            self._trioflow_print(
                f"SCHEDULER {self.stats()}: {len(self.jobs)} jobs to run"
            )
            instruments += (_running.VerbosePrinter(self),)
        return run, {
            "timeout": _positive_timeout(timeout),
            "jobs_window": jobs_window,
            "instruments": instruments,
        }

    def _trioflow_conclude(self, has_succeeded: bool) -> bool:
        """Say why a run has not succeeded, and raise the exception that ended it, if the scheduler is critical."""
        if not has_succeeded:
            self._trioflow_print(f"SCHEDULER {self.stats()}: {self.why()}")
            self._trioflow_raise_failure()
        return has_succeeded

    def _trioflow_raise_failure(self) -> None:
        """Raise the exception that ended the run, if the scheduler is critical. A PureScheduler never is."""

    def _trioflow_build_run(self) -> trioflow.Scheduler:
        """Return a trioflow scheduler with a `JobAdapter` for each job. Reject requirements outside of it."""
        forever_jobs = self._trioflow_unrequired_forever_jobs()
        adapters = {
            job: _running.JobAdapter(
                job, self._trioflow_is_critical(job), job in forever_jobs
            )
            for job in in_creation_order(self.jobs)
        }
        for job, adapter in adapters.items():
            for missing in in_creation_order(job.required - self.jobs):
                label = label_text(missing)
                raise Exception(
                    f"{label!r} is required and is not in {self!r}: add it, or call sanitize()"
                )
            if job.required:
                adapter.requires(
                    [
                        adapters[required]
                        for required in in_creation_order(job.required - forever_jobs)
                    ]
                )
                adapter.awaited_forever_jobs = [
                    adapters[required] for required in job.required & forever_jobs
                ]
        return trioflow.Scheduler(
            *adapters.values(),
            label=self._trioflow_label(),
            shutdown_timeout=_positive_timeout(self.shutdown_timeout),
            critical_jobs=True,
        )

    def _trioflow_unrequired_forever_jobs(self) -> set[AbstractJob]:
        """Return the forever jobs that no ordinary job requires, directly or indirectly."""
        forever_jobs = {job for job in self.jobs if job.forever}
        if forever_jobs and any(
            not job.required.isdisjoint(forever_jobs) for job in self.jobs
        ):
            forever_jobs -= self.predecessors_upstream(*(self.jobs - forever_jobs))
        return forever_jobs

    def _trioflow_is_critical(self, job: AbstractJob) -> bool:
        return bool(job.is_critical())

    def _trioflow_is_running_as_member(self) -> bool:
        return False

    def _trioflow_label(self) -> str:
        return type(self).__name__

    def _trioflow_reset(self) -> None:
        """Reset this scheduler, its jobs and nested schedulers to the state before a run."""
        self._trioflow_run_scheduler = None
        self._trioflow_is_shut_down = False
        for job in self.jobs:
            job._trioflow_adapter = None
            if (nested := job._trioflow_as_scheduler()) is not None:
                nested._trioflow_reset()

    def _trioflow_print(self, text: str) -> None:
        if self.watch is None:
            time = wall_clock()
        else:
            time = f"{self.watch.elapsed()} "
        _listing.print_lines([f"{time} {text}"])

    # ---- shutting down

    def shutdown(self) -> bool | None:
        """Shut all jobs down, unless a run has already shut them down.

        Returns:
            Whether all ended in time, or None if the jobs were already shut down.

        Raises:
            RuntimeError: an event loop is running in this thread: use `await scheduler.co_shutdown()`.

        """
        if self._trioflow_is_shut_down:
            return None
        done: bool | None = _running.run_in_event_loop(
            self.co_shutdown, "asyncio", self._trioflow_label()
        )
        return done

    async def co_shutdown(self) -> bool | None:
        """Shut all jobs down within `shutdown_timeout`, unless a run has already shut them down.

        Returns:
            Whether all ended in time, or None if the jobs were already shut down.

        """
        if self._trioflow_is_shut_down:
            return None
        self._trioflow_is_shut_down = True
        jobs = [job for job in self if job._trioflow_needs_shutdown()]
        shutdowns = [
            trioflow.Job(job.co_shutdown, label=f"shutdown of {label_text(job)}")
            for job in jobs
        ]
        timeout = _positive_timeout(self.shutdown_timeout)
        return await trioflow.Scheduler(
            *shutdowns, timeout=timeout, critical_jobs=False
        ).co_run()

    def close_idle_jobs(self) -> None:
        """Close the coroutine objects of jobs that have not started, including jobs in nested schedulers."""
        for job in self.iterate_jobs():
            if isinstance(job, Job) and job.is_idle():
                job.close()

    def close_all_jobs(self) -> None:
        """Close all coroutine objects that have not been awaited, including coroutines of jobs in nested schedulers."""
        for job in self.iterate_jobs():
            if isinstance(job, Job):
                job.close()

    # ---- the outcome of the last run

    def failed_time_out(self) -> float | bool:
        """Return the timeout that ended the last run, or False if no timeout did."""
        run = self._trioflow_run_scheduler
        ended = run is not None and run.stop_reason is trioflow.StopReason.TIMEOUT
        if not ended:
            return False
        return self._trioflow_time_limit or 0.0

    def failed_critical(self) -> bool:
        """Return whether an exception of a critical job ended the last run."""
        run = self._trioflow_run_scheduler
        return run is not None and run.stop_reason is trioflow.StopReason.CRITICAL

    def why(self) -> str:
        """Return the reason why the last run ended as text: `FINE`, or the problem."""
        run = self._trioflow_run_scheduler
        if run is None or run.stop_reason in (
            None,
            trioflow.StopReason.COMPLETED,
            trioflow.StopReason.FAILED,
        ):
            return "FINE"
        if self.failed_time_out() is not False:
            return f"TIMED OUT after {self._trioflow_time_limit}s"
        if self.failed_critical():
            culprit = run.culprit
            job_text = "a job"
            if isinstance(culprit, _running.JobAdapter):
                job_text = culprit.job.repr_main()
            return f"CRITICAL exception of {job_text}"
        return run.stop_reason.name

    def stats(self) -> str:
        """Return the number of jobs that are done, running, idle and cancelled as text: `5D + 2R + 1I + 1C = 9`."""
        return self._trioflow_format_counts("{}D", "{}R", "{}I", "{}C")

    def _trioflow_format_counts(self, *formats: str) -> str:
        """Return the number of jobs in each state as text.

        Args:
            formats: the formats for the numbers of done, running, idle and cancelled jobs, e.g. "{} done".

        """
        done = sum(job.is_done() for job in self.jobs)
        started = sum(job.is_running() for job in self.jobs)
        cancelled = sum(job._trioflow_was_cancelled() for job in self.jobs)
        counts = done, started - done - cancelled, len(self.jobs) - started, cancelled
        shown = [
            text.format(count) for text, count in zip(formats, counts, strict=True)
        ]
        if not cancelled:
            shown.pop()
        return f"{' + '.join(shown)} = {len(self.jobs)}"

    def __repr__(self) -> str:
        counts = self._trioflow_format_counts(
            "{} done", "{} ongoing", "{} idle", "{} cancelled"
        )
        return f"{type(self).__name__} with {counts} job(s)"

    def repr_entries(self) -> str:
        """Return the numbers of the entry jobs as text."""
        return f"entries={_listing.format_numbers(self.entry_jobs())}"

    def repr_exits(self) -> str:
        """Return the numbers of the exit jobs as text."""
        return f"exits={_listing.format_numbers(self.exit_jobs())}"

    def list(self, details: bool = False, silence_done_jobs: bool = False) -> None:
        """Print a line for each job in topological order: number, symbols, class and label, result, requirements.

        The first symbol is `⚠` for critical jobs. The second is `★` for jobs with an exception, and `☉` for other jobs
        that have started. The third is `⚐` for idle, `⚑` for waiting for a slot, `↺` for running, `☓` for done or
        cancelled. The last is `∞` for forever jobs.

        Args:
            details: whether to print the `details()` of each job.
            silence_done_jobs: whether to omit jobs that are done.

        Raises:
            Exception: requirements form a cycle, or are not in the scheduler. See `list_safe`.

        """
        _listing.assign_numbers(self)
        _listing.print_lines(_listing.listing_lines(self, details, silence_done_jobs))

    def list_safe(self, silence_done_jobs: bool = False) -> None:
        """Print a line for each job in the order of creation, even if requirements are invalid.

        Args:
            silence_done_jobs: whether to omit jobs that are done.

        """
        _listing.assign_numbers(self, is_valid=False)
        _listing.print_lines(
            _listing.listing_lines(self, False, silence_done_jobs, is_valid=False)
        )

    def debrief(self, details: bool = False, silence_done_jobs: bool = False) -> None:
        """Print why the last run ended, the listing, and trioflow's report on each scheduler with failed jobs.

        Args:
            details: whether to print the `details()` of each job.
            silence_done_jobs: whether to omit jobs that are done.

        Raises:
            Exception: requirements form a cycle, or are not in the scheduler.

        """
        _listing.print_lines([f"----- {self.why()}"])
        self.list(details, silence_done_jobs)
        for scheduler in self.iterate_jobs(scan_schedulers=True):
            if isinstance(scheduler, PureScheduler):
                run = scheduler._trioflow_run_scheduler
                if run is not None and run.failures():
                    run.debrief()

    # ---- pictures

    def dot_format(self) -> str:
        """Return the graph as the text of a dot file, for Graphviz.

        Raises:
            Exception: requirements form a cycle, or are not in the scheduler.

        """
        return _listing.dot_source(self)

    def export_as_dotfile(self, filename: str | os.PathLike[str]) -> str:
        """Write the graph to a dot file.

        Args:
            filename: the name of the file, with its suffix.

        Returns:
            A message with the name of the file.

        Raises:
            Exception: requirements form a cycle, or are not in the scheduler.
            OSError: the file cannot be written.

        """
        Path(filename).write_text(self.dot_format(), encoding="utf-8")
        return f"(Over)wrote {filename}"

    def graph(self) -> Source:
        """Return the graph as a `graphviz.Source`, which a notebook shows.

        Raises:
            Exception: requirements form a cycle, or are not in the scheduler.

        """
        source: Source = _import_graphviz("graph()").Source(self.dot_format())
        return source

    def export_as_graphic(self, filename: str | os.PathLike[str], suffix: str) -> str:
        """Write the graph to `filename.dot`, and let the program `dot` render it to `filename.suffix`.

        Args:
            filename: the name of the files, without a suffix.
            suffix: a format of Graphviz, such as "svg", "png" or "pdf".

        Returns:
            The name of the rendered file.

        Raises:
            Exception: requirements form a cycle, or are not in the scheduler.
            OSError: a file cannot be written.
            RuntimeError: `dot` is not installed, or has failed.

        """
        graphviz = _import_graphviz("export_as_graphic()")
        self.export_as_dotfile(f"{filename}.dot")
        picture = f"{filename}.{suffix}"
        graphviz.render(
            "dot", format=suffix, filepath=f"{filename}.dot", outfile=picture
        )
        return picture

    def export_as_pngfile(self, filename: str | os.PathLike[str]) -> str:
        """Call `export_as_graphic` with "png"."""
        return self.export_as_graphic(filename, "png")

    def export_as_svgfile(self, filename: str | os.PathLike[str]) -> str:
        """Call `export_as_graphic` with "svg"."""
        return self.export_as_graphic(filename, "svg")


def _import_graphviz(caller: str) -> Any:
    """Return the package graphviz, or raise an error that names `caller` and the extra with it."""
    return import_extra("graphviz", caller, "graph", known_as="the package graphviz")


def _positive_timeout(timeout: float | None) -> float | None:
    """Return a timeout that trioflow accepts: 0 and negative numbers are replaced by a tiny positive number."""
    if timeout is None:
        return None
    return max(timeout, 1e-6)
