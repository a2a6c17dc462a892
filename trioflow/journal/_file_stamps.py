"""Stamps of the files that jobs read and write.

A stamp is a text with the size of a file and either its modification time or a hash of its contents. If a job appends
to the file, the stamp also has a hash of the file's end. Such a stamp still matches after another job has appended.
The stamp of a directory covers each entry in it, at any depth: its path, its kind, and its stamp. What the job itself
writes there is left out, as in a pattern: it is judged as its output, and would let it run again each time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import hashlib
import itertools
import os
import stat
import sys
import time
from collections.abc import (
    Callable,
    Collection,
    Container,
    Generator,
    Iterable,
    Iterator,
)
from typing import Any, Final

from .._core.base._text_forms import clause
from .._core.job._job import AbstractJob
from .._core.job._work_spec import Work
from ..jobs._user_files import CLOCK_TICK, Snapshot, set_aside
from ._serialization import NotSerializable, digest, escape_surrogates, hide_if

ABSENT_STAMP: Final = "absent"
MAX_SIZE_DIGITS: Final = 20
END_BYTES: Final = 4096
MAX_HASHES: Final = 10_000
"""How many bytes at the end of a file are hashed if a job appends to it, and how many hashes are remembered."""
Stamps = dict[tuple[str, tuple[str, ...] | None], str]
"""The stamps of files, by the path and, of what a job reads, which may be a pattern, the outputs of the job."""


def outputs_of(work: Work) -> Iterator[Any]:
    return itertools.chain(work.writes, work.appends, work.begins_anew)


def files_of(work: Work) -> Iterator[Any]:
    return itertools.chain(work.reads, outputs_of(work))


def own_outputs(work: Work) -> tuple[str, ...]:
    """Return the names of what work writes, if it reads anything: that is no part of what it reads."""
    if work.reads:
        return tuple(os.fsdecode(path) for path in outputs_of(work))
    return ()


def path_text(path: str | bytes | os.PathLike[Any], redact: bool) -> str:
    """Return the name of a file in a journal, or its hash if the job is redacted."""
    if isinstance(path, PlacedPath):
        path = path.given
    return hide_if(redact, escape_surrogates(os.fsdecode(path)))


class PlacedPath(os.PathLike[str]):
    """A relative path, from the directory where an attempt began: another job may change that before the attempt ends.

    Args:
        given: the path, by which a journal names the file.
        place: the absolute path.

    """

    __slots__ = ("_place", "given")

    def __init__(self, given: Any, place: str) -> None:
        self.given: Final = given
        self._place: Final = place

    def __fspath__(self) -> str:
        return self._place


def placed(work: Work) -> Work:
    """Return the description of work whose outputs stay where they are now, if the directory is changed."""
    return dataclasses.replace(
        work,
        writes=[_placed(path) for path in work.writes],
        appends=[_placed(path) for path in work.appends],
        begins_anew=[_placed(path) for path in work.begins_anew],
    )


def _placed(path: Any) -> Any:
    given = path
    if isinstance(path, PlacedPath):
        # Of an earlier attempt.
        given = path.given
    name = os.fsdecode(given)
    if os.path.isabs(name):
        return given
    try:
        return PlacedPath(given, os.path.join(os.getcwd(), name))
    except OSError:
        # The directory was removed.
        return given


class FileStamper:
    """Takes and compares stamps of the files that a run's jobs read and write.

    Args:
        contents: whether to compare files by their contents instead of by size and modification time.
        journal_files: the resolved paths of the journal's files. They are ignored in stamps of directories, because
            each run changes them.

    """

    def __init__(self, contents: bool, journal_files: Container[str]) -> None:
        self.compares_contents: Final = contents
        self._journal_files: Final = journal_files
        # The hash of each state of a file that has been read: its device, inode, size and modification time.
        self._hashes: Final[dict[tuple[int, ...], str]] = {}
        # The stamps that `take` has just taken, in place of those that would be taken now.
        self._taken: Stamps = {}

    def is_slow(self, paths: Iterable[Any]) -> bool:
        """Return whether taking the stamps of these files may take long, so that a thread has to do it.

        In the body of `use`, this is so for none of those that `take` has taken.
        """
        taken = {path for path, _ in self._taken}
        for path in paths:
            if os.fsdecode(path) not in taken and self._is_slow_to_stamp(path):
                return True
        return False

    def _is_slow_to_stamp(self, path: Any) -> bool:
        try:
            status = os.stat(path)
        except OSError:
            return glob.has_magic(os.fsdecode(path))
        if stat.S_ISREG(status.st_mode):
            return self.compares_contents and _state_of(status) not in self._hashes
        return stat.S_ISDIR(status.st_mode)

    def take(self, works: Iterable[Work]) -> Stamps:
        """Return the stamps of files, for `use`. A thread calls this."""
        stamps: Stamps = {}
        for work in works:
            own = own_outputs(work)
            inputs = ((path, own) for path in work.reads)
            outputs = ((path, None) for path in outputs_of(work))
            for path, of_reader in itertools.chain(inputs, outputs):
                key = (os.fsdecode(path), of_reader)
                if key not in stamps:
                    with contextlib.suppress(OSError):
                        # The error comes again, in the event loop.
                        stamps[key] = self._take_stamp(path, of_reader)
        return stamps

    @contextlib.contextmanager
    def use(self, taken: Stamps) -> Generator[None]:
        """Return a context manager: in its body, the stamps of files are those that `take` has taken."""
        self._taken = taken
        try:
            yield
        finally:
            self._taken = {}

    def input_stamps(self, work: Work, redact: bool) -> dict[str, str]:
        """Return the stamps of the files that work only reads. Files that it also writes are judged as its outputs."""
        if not work.reads:
            return {}
        own = own_outputs(work)
        written = {os.path.abspath(os.fsdecode(path)) for path in work.writes}
        stamps: dict[str, str] = {}
        for path in work.reads:
            if written and os.path.abspath(os.fsdecode(path)) in written:
                continue
            with _explain_errors("an input file", redact):
                stamps[path_text(path, redact)] = self._stamp(path, own)
        return stamps

    def output_stamps(self, work: Work, redact: bool) -> dict[str, str]:
        stamps = self.stamps_of_writes((*work.writes, *work.begins_anew), redact)
        with _explain_errors("an output file", redact):
            return stamps | {
                path_text(path, redact): self._stamp_appended_file(path)
                for path in work.appends
            }

    def stamps_of_writes(self, paths: Iterable[Any], redact: bool) -> dict[str, str]:
        with _explain_errors("an output file", redact):
            return {path_text(path, redact): self._stamp(path) for path in paths}

    def describe_changed_output(
        self,
        work: Work,
        old_stamps: dict[str, str],
        redact: bool,
        find_taker: Callable[[str, str], str | None],
    ) -> str | None:
        """Describe the first change of a job's outputs. Return None if no output has changed.

        Args:
            work: the description of the job's work.
            old_stamps: the stored stamps of the outputs, keyed by path.
            redact: whether the names of the files are secret.
            find_taker: called with the path of a changed output, and its stamp. It returns "" if another job that
                writes the file has left it so, and need not run again. It returns the name of such a job that must run
                again, or None.

        """
        try:
            new_stamps = self.output_stamps(work, redact)
        except NotSerializable as error:
            return str(error)
        appended_files = {path_text(path, redact): path for path in work.appends}
        for path in {**old_stamps, **new_stamps}:
            old = old_stamps.get(path)
            new = new_stamps.get(path)
            if old == new:
                continue
            appended = appended_files.get(path)
            if appended is not None and self._was_only_appended_to(appended, old):
                continue
            taker = None
            if new is not None and old is not None:
                taker = find_taker(path, new)
            if taker != "":
                change = describe_stamp_change(old, new)
                return f"its output {path!r} {change}{clause(', by {!r}', taker)}"
        return None

    def set_aside_partial_files(
        self,
        job: AbstractJob[Any],
        work: Work,
        old_stamps: dict[str, str],
        others: Collection[str],
    ) -> str:
        """Rename files that a killed attempt may have half written, unless the job also reads them. Return how.

        A directory that was there before stays as it is, because nothing tells its entries of that attempt.

        Args:
            job: the job.
            work: the description of its work.
            old_stamps: the stamps of the files before that attempt, keyed by path.
            others: the resolved paths of files that other jobs have written.

        """
        moved: list[str] = []
        for path in work.writes:
            place = os.path.realpath(os.fsdecode(path))
            stamp = old_stamps.get(path_text(path, job.redact), "")
            size = stamp.partition(" ")[0]
            before: Snapshot = {}
            if size.isdecimal() and len(size) < MAX_SIZE_DIGITS:
                before = {place: (0, int(size), 0)}
            elif stamp != ABSENT_STAMP:
                continue
            moved.append(set_aside(path, place, before, job, sys.maxsize, others))
        return ", ".join(filter(None, moved))

    # ---- stamps

    def _stamp(self, path: Any, own: tuple[str, ...] | None = None) -> str:
        if self._taken:
            taken = self._taken.get((os.fsdecode(path), own))
            if taken is not None:
                return taken
        return self._take_stamp(path, own)

    def _take_stamp(self, path: Any, own: tuple[str, ...] | None = None) -> str:
        """Return the stamp of a file, of all files in a directory, or of all files that match a pattern.

        Args:
            path: the path.
            own: the outputs of the job that reads it, which are left out, or None if it may not be a pattern.

        Raises:
            OSError: a file cannot be read. A missing file raises nothing: its stamp is `ABSENT_STAMP`.

        """
        if os.path.isdir(path):
            entries = self._tree_entries(os.fsdecode(path), self._left_out(own))
            return f"directory {_digest(entries)}"
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            if own is not None and glob.has_magic(os.fsdecode(path)):
                return self._stamp_pattern(path, own)
            return ABSENT_STAMP
        if not stat.S_ISREG(status.st_mode):
            # Reading a pipe or a device might block forever.
            return f"special {stat.S_IFMT(status.st_mode):o}"
        if not self.compares_contents:
            return f"{status.st_size} {status.st_mtime_ns}"
        return f"{status.st_size} {self._hash_of(path, status)}"

    def _hash_of(self, path: Any, status: os.stat_result) -> str:
        """Return the hash of the contents of a file, which is read once for each state that it has."""
        state = _state_of(status)
        found = self._hashes.get(state)
        if found is None:
            # Another write in the same tick of the clock of files would leave the state as it is.
            is_young = abs(time.time_ns() - status.st_mtime_ns) < 2 * CLOCK_TICK
            if is_young:
                time.sleep(2 * CLOCK_TICK / 1e9)
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()[:24]
            if len(self._hashes) >= MAX_HASHES:
                # Of several threads, too.
                self._hashes.clear()
            if not is_young or _state_of(os.stat(path)) == state:
                self._hashes[state] = found
        return found

    def _left_out(self, own: tuple[str, ...] | None) -> Callable[[str], bool]:
        """Return a function that tells of a resolved path whether it counts in no directory, and in no pattern."""
        outputs = {os.path.realpath(path) for path in own or ()}
        return lambda path: path in self._journal_files or path in outputs

    def _stamp_pattern(
        self, pattern: str | bytes | os.PathLike[Any], own: tuple[str, ...] | None
    ) -> str:
        is_left_out = self._left_out(own)
        # An output may be a directory, with matches in it.
        inside = tuple(f"{os.path.realpath(path)}{os.sep}" for path in own or ())
        stamps: list[str] = []
        for path in sorted(glob.glob(os.fsdecode(pattern), recursive=True)):
            real = os.path.realpath(path)
            if not is_left_out(real) and not real.startswith(inside):
                stamps.append(f"{path} {self._take_stamp(path, own)}")
        if stamps:
            return f"pattern {_digest(stamps)}"
        return ABSENT_STAMP

    def _tree_entries(
        self, root: str, is_left_out: Callable[[str], bool]
    ) -> Iterator[str]:
        """Yield the path below the root, the kind, and the stamp of each entry of a tree, but of what is left out.

        A link counts by its target and the contents there. A directory behind links is entered once: if it has been
        entered before, as in a loop, the link alone is named.
        """
        entered: set[str] = set()
        todo = [(root, "")]
        while todo:
            directory, below = todo.pop()
            real_directory = os.path.realpath(directory)
            entered.add(real_directory)
            try:
                names = sorted(os.listdir(directory))
            except PermissionError:
                yield f"{below} unreadable"
                continue
            for name in names:
                path = os.path.join(directory, name)
                if is_left_out(os.path.join(real_directory, name)):
                    continue
                link = ""
                if os.path.islink(path):
                    link = f"-> {os.readlink(path)}"
                if not os.path.isdir(path):
                    yield f"{below}{name} {link} {self._take_stamp(path)}"
                    continue
                yield f"{below}{name}/ {link}"
                if not link or os.path.realpath(path) not in entered:
                    todo.append((path, f"{below}{name}/"))

    def _stamp_appended_file(self, path: object) -> str:
        stamp = self._stamp(path)
        if stamp[:1].isdigit():
            return f"{stamp} {_hash_before(path, int(stamp.split()[0]))}"
        return stamp

    def _was_only_appended_to(
        self, path: str | bytes | os.PathLike[Any], old_stamp: str | None
    ) -> bool:
        """Return whether a file has only been appended to since this stamp, judging by its size and its old end."""
        with contextlib.suppress(OSError, ValueError):
            # Not every stamp has a size, and a forged stamp may have anything.
            size, *_, end = (old_stamp or ABSENT_STAMP).split()
            return (
                size.isdigit()
                and os.path.getsize(path) > int(size)
                and _hash_before(path, int(size)) == end
            )
        return False


def describe_stamp_change(old: str | None, new: str | None) -> str:
    ends = {ABSENT_STAMP: "is missing", None: "is no longer listed"}
    begins = {ABSENT_STAMP: "is new", None: "was not listed before"}
    return ends.get(new) or begins.get(old, "has changed")


def _state_of(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _digest(lines: Iterable[str]) -> str:
    return digest(chr(0).join(lines).encode(errors="surrogatepass"))


@contextlib.contextmanager
def _explain_errors(description: str, redact: bool) -> Any:
    try:
        yield
    except OSError as error:
        shown = f"{description}: {error.strerror}"
        if not redact:
            shown += f": {error.filename!r}"
        raise NotSerializable(shown) from None


def _hash_before(path: Any, end: int) -> str:
    with open(path, "rb") as file:
        start = max(0, end - END_BYTES)
        file.seek(start)
        return digest(file.read(end - start))
