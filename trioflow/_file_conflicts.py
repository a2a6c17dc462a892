"""Files that two jobs use without an order: two that write one are an error, a reader beside a writer is a warning.

Only what jobs declare counts, in `reads=`, `writes=`, `stdin=`, in the steps of an `SshJob` and, with
`append=False`, in `stdout=` and `stderr=`. Jobs may append to one file in any order.
"""

from __future__ import annotations

import bisect
import contextlib
import fnmatch
import itertools
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

from ._core.base._logger import warn
from ._core.job._job import AnyJob, is_scheduler
from ._core.scheduler._base_scheduler import BaseScheduler
from ._core.words._job_queries import all_requirements, members_in_order

MAX_NAMED_READERS: Final = 3


def check_files(scheduler: BaseScheduler) -> None:
    """Check before a run that writers of a file are ordered, and warn of readers that are not.

    Raises:
        ValueError: two jobs write one file, and neither waits for the other.

    """
    uses = FileUses(scheduler)
    for _, text in uses.unordered_writers():
        raise ValueError(text)
    if texts := list(uses.unordered_readers()):
        more = f"; {len(texts) - MAX_NAMED_READERS} more" if len(texts) > MAX_NAMED_READERS else ""
        warn("; ".join(texts[:MAX_NAMED_READERS]) + more, about="files")


class FileUses:
    """The files that the jobs of a scheduler declare, and the order of these jobs.

    Most writers and readers require each other directly. For the others, each job has a number whose bits are the jobs
    that it waits for: one pass over all requirements, O(E) operations with numbers of as many bits.
    """

    def __init__(self, scheduler: BaseScheduler) -> None:
        self._scheduler: Final = scheduler
        self._writers: Final[dict[str, list[AnyJob]]] = defaultdict(list)
        self._readers: Final[list[tuple[str, AnyJob]]] = []
        kinds = {kind for kind in set(map(type, scheduler.iterate_jobs())) if hasattr(kind, "for_journal")}
        # A run of jobs without files pays nothing for each.
        for job in (job for job in scheduler.iterate_jobs() if type(job) in kinds) if kinds else ():
            writes, reads = declared_files(job)
            for path in {os.path.abspath(os.fsdecode(path)) for path in writes}:
                if not path.startswith("/dev/"):
                    self._writers[path].append(job)
            self._readers.extend((os.path.abspath(os.fsdecode(path)), job) for path in reads)
        self._sorted_paths: list[str] = []
        self._positions: dict[AnyJob, int] = {}
        self._waits: dict[AnyJob, int] = {}

    def unordered_writers(self) -> Iterator[tuple[AnyJob, str]]:
        """Yield each job that writes a file beside another one, and what is wrong."""
        for path, jobs in self._writers.items():
            if len(jobs) > 1:
                self._sort(jobs)
            # In an order of all jobs, each is comparable with all others if it is with the next one.
            for first, second in itertools.pairwise(jobs):
                if not self._is_ordered(first, second):
                    text = f"{first.label!r} and {second.label!r} both write {_shown(path, first, second)}"
                    advice = "have one require the other, or give each a file of its own"
                    yield second, f"{text}, and neither requires the other: {advice}"

    def unordered_readers(self) -> Iterator[str]:
        """Yield what is wrong with each job that reads a file beside one that writes it."""
        if not self._writers:
            return
        for path, reader in self._readers:
            for written in self._written_at(path):
                jobs = self._writers[written]
                if reader in jobs or (len(jobs) == 1 and jobs[0] in reader.required):
                    continue
                self._sort(jobs)
                place = bisect.bisect(jobs, self._positions[reader], key=self._positions.__getitem__)
                for writer in jobs[max(0, place - 1) : place + 1]:
                    if not self._is_ordered(reader, writer):
                        shown = _shown(written, reader, writer)
                        text = f"{reader.label!r} reads {shown}, which {writer.label!r} writes"
                        yield f"{text}, without an order: it may get an old file, or half of one; give it required="

    def _written_at(self, path: str) -> Iterable[str]:
        """Return the written files that a path in `reads=` stands for: a file, a directory, or a pattern."""
        if path in self._writers:
            return [path]
        if set(path) & set("*?["):
            return [written for written in self._writers if _matches(written.split("/"), path.split("/"))]
        if not self._sorted_paths:
            self._sorted_paths = sorted(self._writers)
        # What is in a directory is next to each other in this order.
        bounds = (bisect.bisect(self._sorted_paths, f"{path}{os.sep}{end}") for end in ("", "\U0010ffff"))
        inside = self._sorted_paths[slice(*bounds)]
        parents = itertools.accumulate(path.split(os.sep), lambda parent, name: f"{parent}{os.sep}{name}")
        return [*inside, *(parent for parent in parents if parent in self._writers)]

    def _sort(self, jobs: list[AnyJob]) -> None:
        if not self._positions:
            self._compute_order()
        jobs.sort(key=self._positions.__getitem__)

    def _is_ordered(self, first: AnyJob, second: AnyJob) -> bool:
        if first in second.required or second in first.required:
            return True
        positions = self._positions
        return bool(self._waits[second] >> positions[first] & 1 or self._waits[first] >> positions[second] & 1)

    def _compute_order(self) -> None:
        """Number the jobs that use files, each after those that it waits for, and compute the bits of these."""
        users = {job for jobs in self._writers.values() for job in jobs} | {job for _, job in self._readers}
        reached: dict[AnyJob, int] = {}  # for each job, the bits of itself or its members, and of what these wait for
        self._waits[self._scheduler] = 0
        todo = [(self._scheduler, iter(members_in_order(self._scheduler)))]
        while todo:
            level, members = todo[-1]
            for job in members:
                waits = self._waits[level]
                for required in all_requirements(level, job):
                    waits |= reached.get(required, 0)
                self._waits[job] = reached[job] = waits
                if is_scheduler(job):
                    todo.append((job, iter(members_in_order(job))))
                    break
                if job in users:
                    self._positions[job] = len(self._positions)
                    reached[job] |= 1 << self._positions[job]
            else:
                todo.pop()
                for job in level:
                    reached[level] = reached.get(level, 0) | reached.get(job, 0)


def declared_files(job: AnyJob) -> tuple[list[Any], list[Any]]:
    """Return the files that a job declares to write anew, and to read."""
    options: Any = getattr(job, "_command_options", None)
    if options is None:
        describe = getattr(type(job), "for_journal", None)
        if describe is None or describe.__module__.partition(".")[0] == __package__:
            return [], []
        with contextlib.suppress(Exception):  # of a user's kind: a journal reports it
            work = describe(job)
            return [*work.writes, *work.begins_anew], [*work.reads]
        return [], []
    outputs: tuple[Any, ...] = () if options.append else (options.stdout, options.stderr)
    steps: tuple[Any, ...] = getattr(job, "_steps", ())
    # On nodes, names may have placeholders, whose values differ between them.
    anew = [path for path in outputs if _is_path(path) and not (steps and "{" in os.fspath(path))]
    anew += [path for step in steps for path in step._files_written() if "{" not in path]
    read = [options.stdin, *(path for step in steps for path in step._files_read())]
    return [*options.writes, *anew], [*options.reads, *(path for path in read if _is_path(path))]


def _is_path(value: Any) -> bool:
    return isinstance(value, str | os.PathLike)


def _matches(names: list[str], pattern: list[str]) -> bool:
    if not pattern or not names:
        return not pattern and not names
    if pattern[0] == "**":
        return any(_matches(names[start:], pattern[1:]) for start in range(len(names) + 1))
    return fnmatch.fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


def _shown(path: str, *jobs: AnyJob) -> str:
    return "the same file" if any(job.redact for job in jobs) else repr(os.path.relpath(path))
