"""All errors that would keep a run of a scenario from starting, and files that two of its jobs use without an order.

The checks before a run stop at the first problem. `findings` makes every check for every job, without running or
changing anything, so that users can fix a scenario in one go.

Two jobs that write the same file are an error. A reader beside a writer is a warning. Alternatives of a `First` that
begin in turn, by `stagger=inf`, have an order. Only declared files count, in `reads=`, `writes=`, `stdin=`, in the
steps of an `SshJob` and, with `append=False`, in `stdout=` and `stderr=`. Jobs may append to a file in any order.
"""

from __future__ import annotations

import bisect
import contextlib
import fnmatch
import itertools
import math
import os
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator
from functools import partial
from typing import Any, Final, NamedTuple

from ._core.base import _logger, _user_code
from ._core.base._graph_algorithms import backlinks, find_cycle, reachable
from ._core.job._errors import CycleError
from ._core.job._job import AnyJob, is_scheduler, takes_slot
from ._core.scheduler import _checks, _members
from ._core.scheduler._base_scheduler import BaseScheduler
from ._core.words._job_queries import all_requirements, members_in_order

MAX_NAMED_READERS: Final = 3
MAX_LOOKED_FOR: Final = 1000
"""How many files are looked for before a run, in its loop: each takes a millisecond on a slow file system."""


def findings(scheduler: BaseScheduler) -> list[tuple[AnyJob, str]]:
    """Return why a run would not start: each job concerned, with the problem and the remedy. Takes O(V + E) time."""
    unreachable = set(_checks.store_implied_requirements(scheduler))
    found: list[tuple[AnyJob, str]] = []
    for level, can_repeat in _iterate_schedulers(scheduler):
        found += _find_rejections(level, can_repeat, unreachable, scheduler)
    levels = dict(_iterate_schedulers(scheduler))
    check_pools = _checks.reject_shared_pools
    found += _check_errors(scheduler, check_pools, levels, scheduler)
    # The last is the check that a run makes, for problems that the checks before do not find.
    whole_check = _check_errors(scheduler, _checks.check_scenario, scheduler)
    return found or [*FileUses(scheduler).unordered_writers()] or [*whole_check]


def notes(scheduler: BaseScheduler, *, starts: bool) -> Iterator[str]:
    """Yield warnings: windows that admit more jobs than they say and, before a run, files read without an order."""
    window = scheduler.jobs_window
    most = _most_at_once(scheduler)
    if isinstance(window, int) and most > window:
        yield (
            f"{most} may run at once: jobs_window={window} counts a nested scheduler as one; a CapacityLimiter counts "
            "the jobs that work"
        )
    if starts:
        uses = FileUses(scheduler)
        yield from uses.unordered_readers()
        yield from uses.missing_inputs()


def _most_at_once(scheduler: BaseScheduler) -> int:
    """Return how many jobs the windows let run at once, whatever they require and need. Takes O(V log V) time."""
    most: dict[AnyJob, int] = {}
    for level, _ in reversed(list(_iterate_schedulers(scheduler))):
        members: list[int] = []
        for job in level:
            if not job.forever and (takes_slot(job) or job in most):
                members.append(most.get(job, 1))
        members.sort(reverse=True)
        size = level.window_size
        if isinstance(level.jobs_window, int):
            most[level] = sum(members[:size])
        elif size is None:
            most[level] = sum(members)
        else:
            # A limiter counts the jobs that work, also in nested schedulers.
            most[level] = min(sum(members), size)
    return most[scheduler]


def _iterate_schedulers(
    scheduler: BaseScheduler,
) -> Iterator[tuple[BaseScheduler, bool]]:
    """Yield a scheduler and all schedulers nested in it, each paired with a flag.

    The flag is True if the scheduler may run more than once within a single run of the outermost scheduler.
    """
    todo = [(scheduler, False)]
    while todo:
        level, can_repeat = todo.pop()
        yield level, can_repeat
        nested = [job for job in level if is_scheduler(job)]
        todo += [(job, can_repeat or job.retry is not None) for job in reversed(nested)]


def _find_rejections(
    level: BaseScheduler,
    can_repeat: bool,
    unreachable: Container[tuple[AnyJob, AnyJob]],
    outermost: BaseScheduler,
) -> Iterator[tuple[AnyJob, str]]:
    """Yield `level` or a member of it for each reason to reject a run of `outermost`, paired with the reason."""
    yield from _check_errors(level, _checks.check_may_run, level)
    for cycle in _find_cycles(level):
        yield cycle[0], str(CycleError(cycle))
    for job in level:
        yield from _check_errors(job, _checks.check_needs, level, [job], outermost)
        for requirement in job.required:
            check = _checks.check_requirement
            yield from _check_errors(job, check, job, requirement, level)
            if (job, requirement) in unreachable:
                check_input = _checks.check_late_input
                yield from _check_errors(job, check_input, job, requirement)
        yield from _check_errors(job, _checks.check_one_shot, job, can_repeat)


def _check_errors(
    job: AnyJob, check: Callable[..., None], *arguments: object
) -> Iterator[tuple[AnyJob, str]]:
    try:
        check(*arguments)
    except (ValueError, RuntimeError) as error:
        yield job, str(error)


def _find_cycles(level: BaseScheduler) -> list[list[AnyJob]]:
    """Return a cycle from each strongly connected component that has cycles.

    Each cycle starts with the job that was added first, and the cycles are in the order of these jobs.
    """
    position = {job: number for number, job in enumerate(level)}
    requirements = partial(all_requirements, level)
    followers = backlinks(position, requirements)
    unassigned = dict(position)
    cycles: list[list[AnyJob]] = []
    while (cycle := find_cycle(unassigned, requirements)) is not None:
        first = cycle.index(min(cycle, key=position.__getitem__))
        cycles.append(cycle[first:] + cycle[:first])
        before = reachable(cycle, requirements).keys()
        for job in before & reachable(cycle, followers.__getitem__).keys():
            del unassigned[job]
    return sorted(cycles, key=lambda cycle: position[cycle[0]])


# ---- files


def check_files(scheduler: BaseScheduler) -> None:
    """Check before a run that writers of a file are ordered, and warn of readers that are not.

    Raises:
        ValueError: two jobs write the same file, and neither waits for the other.

    """
    uses = FileUses(scheduler)
    conflict = next(uses.unordered_writers(), None)
    if conflict is not None:
        raise ValueError(conflict[1])
    texts = [*uses.unordered_readers(), *uses.missing_inputs()]
    shown = texts[:MAX_NAMED_READERS]
    if len(texts) > len(shown):
        shown.append(f"{len(texts) - len(shown)} more")
    if shown:
        _logger.warn("; ".join(shown), about="files")


class FileUses:
    """The files that the jobs of a scheduler declare, and the order of these jobs.

    Most writers and readers require each other directly. For the others, each job has a number whose bits are the jobs
    that it waits for. This takes a single pass over all requirements, with O(E) operations on numbers of as many bits.
    """

    def __init__(self, scheduler: BaseScheduler) -> None:
        self._scheduler: Final = scheduler
        self._writers: Final[dict[str, list[AnyJob]]] = defaultdict(list)
        self._readers: Final[list[tuple[str, AnyJob]]] = []
        self._appended: Final[set[str]] = set()
        kinds = set(map(type, scheduler.iterate_jobs()))
        describing = {kind for kind in kinds if hasattr(kind, "for_journal")}
        for job in scheduler.iterate_jobs():
            if not (type(job) in describing or job.reads or job.writes):
                # A run of jobs without files pays nothing for each.
                continue
            files = _described_files(job)
            for path in set(map(_absolute, (*job.writes, *files.writes))):
                if not path.startswith("/dev/") or path.startswith("/dev/shm/"):
                    # Files, in memory.
                    self._writers[path].append(job)
            self._appended.update(map(_absolute, files.appends))
            for read in (*job.reads, *files.reads):
                self._readers.append((_absolute(read), job))
        self._sorted_paths: list[str] = []
        self._positions: dict[AnyJob, int] = {}
        self._waits: dict[AnyJob, int] = {}

    def unordered_writers(self) -> Iterator[tuple[AnyJob, str]]:
        """Yield each job that writes the same file as another job, with the problem and the remedy."""
        for path, jobs in self._writers.items():
            if len(jobs) > 1:
                self._sort(jobs)
            # In an order of all jobs, each is comparable with all others if it is comparable with the next.
            for first, second in itertools.pairwise(jobs):
                if not self._is_ordered(first, second):
                    text = f"{first.label!r} and {second.label!r} both write {_shown(path, first, second)}"
                    advice = (
                        "have one require the other, or give each a file of its own"
                    )
                    yield second, f"{text}, and neither requires the other: {advice}"

    def unordered_readers(self) -> Iterator[str]:
        """Yield a warning for each reader and each writer of a file that have no order."""
        for reader, writer, path in self._unordered_pairs():
            text = f"{reader.label!r} reads {_shown(path, reader, writer)}, which {writer.label!r} writes"
            yield f"{text}, without an order: it may get an old file, or half of one; give it required="

    def missing_inputs(self) -> Iterator[str]:
        """Yield a warning for each file in `reads=` that is not there, and that no job writes."""
        for path, reader in self._readers[:MAX_LOOKED_FOR]:
            if _is_pattern(path) or path not in map(_absolute, reader.reads):
                continue
            is_known = os.path.lexists(path) or path in self._appended
            if not (is_known or any(self._written_at(path))):
                shown = "a file"
                if not reader.redact:
                    shown = repr(os.path.relpath(path))
                yield f"{reader.label!r} reads {shown}, which is not there and which no job writes"

    def _unordered_pairs(self) -> Iterator[tuple[AnyJob, AnyJob, str]]:
        """Yield each reader and each writer of a file that have no order, and the file."""
        if not self._writers:
            return
        for path, reader in self._readers:
            for written in self._written_at(path):
                for writer in self._neighbors(reader, self._writers[written]):
                    if not self._is_ordered(reader, writer):
                        yield reader, writer, written

    def _neighbors(self, reader: AnyJob, writers: list[AnyJob]) -> list[AnyJob]:
        """Return the writers before and after a reader in the order of all jobs. The other writers need no check."""
        if reader in writers or (len(writers) == 1 and writers[0] in reader.required):
            return []
        self._sort(writers)
        place = bisect.bisect(
            writers, self._positions[reader], key=self._positions.__getitem__
        )
        return writers[max(0, place - 1) : place + 1]

    def _written_at(self, path: str) -> Iterable[str]:
        """Return the written files that a path in `reads=` stands for: a file, a directory, or a pattern."""
        if path in self._writers:
            return [path]
        if _is_pattern(path):
            pattern = path.split("/")
            return [
                written
                for written in self._writers
                if _matches(written.split("/"), pattern)
            ]
        self._sorted_paths = self._sorted_paths or sorted(self._writers)
        # The files in a directory are next to each other in this order.
        first = bisect.bisect(self._sorted_paths, f"{path}{os.sep}")
        after = bisect.bisect(self._sorted_paths, f"{path}{os.sep}\U0010ffff")
        found = self._sorted_paths[first:after]
        parents = itertools.accumulate(
            path.split(os.sep), lambda parent, name: f"{parent}{os.sep}{name}"
        )
        return found + [parent for parent in parents if parent in self._writers]

    def _sort(self, jobs: list[AnyJob]) -> None:
        if not self._positions:
            self._compute_order()
        jobs.sort(key=self._positions.__getitem__)

    def _is_ordered(self, first: AnyJob, second: AnyJob) -> bool:
        if first in second.required or second in first.required:
            return True
        for earlier, later in ((first, second), (second, first)):
            if self._waits[later] >> self._positions[earlier] & 1:
                return True
        return False

    def _compute_order(self) -> None:
        """Number the jobs that use files, each after those that it waits for, and compute the bits of these."""
        users = {job for _, job in self._readers}
        users.update(*self._writers.values())
        # For each job, the bits of itself or its members, and of the jobs that these wait for.
        reached: dict[AnyJob, int] = {}
        # Each job that begins only when another has failed, with that job.
        earlier: dict[AnyJob, tuple[AnyJob]] = {}
        self._waits[self._scheduler] = 0
        todo = [(self._scheduler, iter(members_in_order(self._scheduler)))]
        while todo:
            level, members = todo[-1]
            for job in members:
                waits = self._waits[level]
                for required in (*all_requirements(level, job), *earlier.get(job, ())):
                    waits |= reached.get(required, 0)
                self._waits[job] = reached[job] = waits
                if is_scheduler(job):
                    todo.append((job, iter(members_in_order(job))))
                    _, stagger = _members.first_options(job)
                    if stagger == math.inf:
                        competitors = _members.exit_jobs(job)
                        for one, later in itertools.pairwise(competitors):
                            earlier[later] = (one,)
                    break
                if job in users:
                    self._positions[job] = len(self._positions)
                    reached[job] |= 1 << self._positions[job]
            else:
                todo.pop()
                for job in level:
                    reached[level] = reached.get(level, 0) | reached.get(job, 0)


class DescribedFiles(NamedTuple):
    """The files that a job writes anew, reads, and appends to, apart from its options `writes` and `reads`."""

    writes: list[Any]
    reads: list[Any]
    appends: list[Any]


def _described_files(job: AnyJob) -> DescribedFiles:
    options: Any = getattr(job, "_command_options", None)
    if options is None:
        describe = getattr(type(job), "for_journal", None)
        if describe and not _user_code.is_from_package(describe):
            with contextlib.suppress(Exception):
                # An error of a user's kind is reported by the journal.
                work = describe(job)
                writes = [*work.writes, *work.begins_anew]
                return DescribedFiles(writes, [*work.reads], [*work.appends])
        return DescribedFiles([], [], [])
    streams = options.stdout, options.stderr
    outputs: tuple[Any, ...] = () if options.append else streams
    steps: tuple[Any, ...] = getattr(job, "_steps", ())
    # On nodes, names may have placeholders, whose values differ between them.
    anew: list[Any] = []
    for path in filter(_is_path, outputs):
        if not (steps and "{" in os.fspath(path)):
            anew.append(path)
    read: list[Any] = [options.stdin]
    for step in steps:
        anew += [path for path in step._files_written() if "{" not in path]
        read += step._files_read()
    return DescribedFiles(anew, [*filter(_is_path, read)], [*filter(_is_path, streams)])


def _absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))


def _is_path(value: object) -> bool:
    return isinstance(value, str | os.PathLike)


def _is_pattern(path: str) -> bool:
    return not set(path).isdisjoint("*?[")


def _matches(names: list[str], pattern: list[str]) -> bool:
    if not pattern or not names:
        return not pattern and not names
    if pattern[0] == "**":
        return any(
            _matches(names[start:], pattern[1:]) for start in range(len(names) + 1)
        )
    if not fnmatch.fnmatchcase(names[0], pattern[0]):
        return False
    return _matches(names[1:], pattern[1:])


def _shown(path: str, *jobs: AnyJob) -> str:
    if any(job.redact for job in jobs):
        return "the same file"
    return repr(os.path.relpath(path))
