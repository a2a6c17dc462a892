"""Stamps of the files that jobs read and write, and the clean-up of half-written files.

A stamp is a text: the size of a file and its time, or a hash of its contents. The stamp of a file that is appended to
also has a hash of its end, so it still matches after another job has appended to the same log.

The names in a `Depfile` are known only after the job has succeeded. So their stamps are taken then, and stored with
those of the outputs; a file that has changed since the job began gets a stamp that never matches.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Container, Iterable
from typing import Any, Final

from .._core.api.journals import Depfile, Work
from ._serialization import NotSerializable, digest

ABSENT: Final = "absent"
CHANGED_MEANWHILE: Final = "changed while the job ran"
PARTIAL: Final = ".partial"
"""The suffix for a file that an attempt left half-written."""
HASH_DIGITS: Final = 24
"""Hexadecimal digits kept of a hash of contents."""
END_BYTES: Final = 4096
"""Bytes hashed at the end of a file that is appended to."""


def path_text(path: Any) -> str:
    """Return a path as text that JSON can encode."""
    return os.fsdecode(path).encode(errors="backslashreplace").decode()


class Files:
    """The stamps of jobs' files in one run with a journal.

    Args:
        contents: compares files by their contents, not by size and time.
        own: the resolved paths of the journal's files, which are ignored in directories because they always change.

    """

    def __init__(self, contents: bool, own: Container[str]) -> None:
        self.contents: Final = contents
        self._journal_files: Final = own

    def read(self, work: Work) -> dict[str, str]:
        """Return the stamps of the files that a job reads.

        Raises:
            NotSerializable: one cannot be read.

        """
        return self._stamps(
            (path for path in work.reads if not isinstance(path, Depfile)), "a file that it reads", True
        )

    def depfile_stamps(self, work: Work, seconds: float) -> dict[str, str] | None:
        """Return the stamps of the files that a job's depfiles name; None if it has no depfile.

        Args:
            work: the files that the job reads and writes.
            seconds: the time that it has run until now.

        Raises:
            NotSerializable: a depfile cannot be read.

        """
        depfiles = [path for path in work.reads if isinstance(path, Depfile)]
        if not depfiles:
            return None
        began = time.time_ns() - int(seconds * 1e9)
        with _explain_errors("the file that says what it reads"):
            names = [path for depfile in depfiles for path in _paths_in_depfile(depfile)]
        stamps = self._stamps(names, "a file that it reads")
        for path in stamps:
            with contextlib.suppress(OSError):
                if os.stat(path).st_mtime_ns > began:
                    stamps[path] = CHANGED_MEANWHILE
        return stamps

    def output_stamps(self, work: Work) -> dict[str, str]:
        """Return the current stamps of the files that a job writes.

        Raises:
            NotSerializable: one cannot be read.

        """
        stamps = self._stamps((*work.writes, *work.begins_anew), "a file that it writes")
        with _explain_errors("a file that it writes"):
            stamps.update({path_text(path): self._stamp_of_log(path) for path in work.appends})
        return stamps

    def describe_changed_output(self, work: Work, then: dict[str, str]) -> str | None:
        """Describe the first change among a job's outputs; return None if there is none."""
        try:
            now = self.output_stamps(work)
        except NotSerializable as error:
            return str(error)
        logs = {path_text(path): path for path in work.appends}
        for path in {**then, **now}:
            if then.get(path) != now.get(path) and not (path in logs and self._has_grown(logs[path], then.get(path))):
                gone = now.get(path) == ABSENT
                return (
                    f"its output {path!r} {'is not there' if gone else describe_change(then.get(path), now.get(path))}"
                )
        return None

    def describe_changed_input(self, work: Work, then: dict[str, str] | None) -> str | None:
        """Describe the first change among the files in depfiles; return None if there is none, or no depfile."""
        if not any(isinstance(path, Depfile) for path in work.reads):
            return None
        if then is None:
            return "what its depfile names is not known"
        now = self._stamps(then, "a file that it reads")
        return next(
            (f"file {path!r} {describe_change(then[path], now[path])}" for path in then if then[path] != now[path]),
            None,
        )

    def put_aside(self, work: Work, before: dict[str, str]) -> None:
        """Rename the half-written files of an attempt that did not end.

        Args:
            work: the files that the job reads and writes. An output that it also reads stays where it is.
            before: the stamps of its files before that attempt.

        """
        reads = {os.path.realpath(path) for path in work.reads if not isinstance(path, Depfile)}
        for path in work.writes:
            then = before.get(path_text(path))
            with contextlib.suppress(OSError):  # the job itself reports this fault
                may_move = then is not None and os.path.realpath(path) not in reads and os.path.lexists(path)
                if may_move and self._stamp(path) != then:
                    _rename(os.fsdecode(path))

    def cut_back(self, path: Any, then: str) -> None:
        """Truncate a file to its size before an attempt that did not end.

        Args:
            path: the file.
            then: its stamp before that attempt.

        """
        with contextlib.suppress(OSError):
            if then == ABSENT and stat.S_ISREG(os.stat(path).st_mode):
                os.truncate(path, 0)
            elif self._has_grown(path, then):
                os.truncate(path, int(then.split()[0]))

    # ---- stamps

    def _stamps(self, paths: Iterable[Any], what: str, may_be_patterns: bool = False) -> dict[str, str]:
        with _explain_errors(what):
            return {path_text(path): self._stamp(path, may_be_patterns) for path in paths}

    def _stamp(self, path: Any, may_be_pattern: bool = False) -> str:
        """Return the stamp of a file, of all files in a directory, or of all that match a pattern.

        Raises:
            OSError: it cannot be read; a missing file has the stamp `ABSENT`.

        """
        if os.path.isdir(path):
            return f"directory {_digest(self._inside(path))}"
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return self._stamp_of_matching(path) if may_be_pattern and glob.has_magic(os.fsdecode(path)) else ABSENT
        if not stat.S_ISREG(status.st_mode):
            return f"special {stat.S_IFMT(status.st_mode):o}"  # a pipe or a device: to read it may never end
        if not self.contents:
            return f"{status.st_size} {status.st_mtime_ns}"
        with open(path, "rb") as file:
            return f"{status.st_size} {hashlib.file_digest(file, 'sha256').hexdigest()[:HASH_DIGITS]}"

    def _stamp_of_matching(self, pattern: Any) -> str:
        paths = sorted(glob.glob(os.fsdecode(pattern), recursive=True))
        matching = [
            f"{path} {self._stamp(path)}" for path in paths if os.path.realpath(path) not in self._journal_files
        ]
        return f"pattern {_digest(matching)}" if matching else ABSENT

    def _inside(self, path: Any) -> Iterable[str]:
        for directory, names, files in os.walk(os.fsdecode(path)):
            real = os.path.realpath(directory)
            names[:] = sorted(name for name in names if os.path.join(real, name) not in self._journal_files)
            for name in sorted(files):
                if os.path.join(real, name) not in self._journal_files:
                    yield f"{name} {self._stamp(os.path.join(directory, name))}"

    def _stamp_of_log(self, path: Any) -> str:
        stamp = self._stamp(path)
        return stamp if not stamp[:1].isdigit() else f"{stamp} {_hash_before(path, int(stamp.split()[0]))}"

    def _has_grown(self, path: Any, then: str | None) -> bool:
        """Return whether a file has only been appended to since the stamp `then`."""
        size, *_, end = (then or ABSENT).split() or [ABSENT]
        with contextlib.suppress(OSError):
            return size.isdigit() and os.path.getsize(path) > int(size) and _hash_before(path, int(size)) == end
        return False


def describe_change(old: str | None, new: str | None) -> str:
    """Describe the change between two stamps of a file."""
    if new in (ABSENT, None):
        return "is not there any more" if new else "does not count any more"
    if old in (ABSENT, None):
        return "was not there" if old else "did not count"
    return "has changed while the job ran" if old == CHANGED_MEANWHILE else "has changed"


def _paths_in_depfile(depfile: Depfile) -> list[str]:
    """Return the paths that a depfile names, resolved against its `cwd`."""
    with open(depfile.path, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    try:
        names = names_in_rules(text)
    except NotSerializable as error:
        raise NotSerializable(f"what it reads, by {path_text(depfile.path)!r}, {error}") from None
    return names if depfile.cwd is None else [os.path.join(os.fsdecode(depfile.cwd), name) for name in names]


def _digest(lines: Iterable[str]) -> str:
    return digest(chr(0).join(lines).encode(errors="surrogatepass"))


@contextlib.contextmanager
def _explain_errors(what: str) -> Any:
    try:
        yield
    except OSError as error:
        raise NotSerializable(f"{what}: {error.strerror}: {error.filename!r}") from None


def _hash_before(path: Any, end: int) -> str:
    """Return a hash of up to `END` bytes of a file before the offset `end`."""
    with open(path, "rb") as file:
        start = max(0, end - END_BYTES)
        file.seek(start)
        return digest(file.read(end - start))


def _rename(path: str) -> None:
    """Rename a file or a directory to NAME.partial, and replace one left by an earlier attempt."""
    path = path.rstrip("/") or "/"
    target = path + PARTIAL
    if os.path.isdir(target) and not os.path.islink(target):
        shutil.rmtree(target)
    elif os.path.isdir(path) and os.path.lexists(target):
        os.unlink(target)
    os.replace(path, target)


# ---- depfiles

# A compiler lists the files that it read as rules for make; `gcc -MMD` writes:
#
# ```
# main.o: main.c \
#   a\ name\ with\ spaces.h table.h
# table.h:
# ```
#
# Targets come before the colon, files read come after it. A backslash escapes a space in a name; two before a space
# are one backslash, at the end of a name. `\#`, `\:` and `$$` are `#`, `:` and `$`. A line that begins with `#` is a
# comment (rustc writes some).
WORD: Final = re.compile(r"(?:[^\s\\]|\\+(?![\\ \t])|(?<!\\)(?:\\\\)*\\[ \t]|(?<!\\)(?:\\\\)+(?=[ \t]))+")
ESCAPED: Final = re.compile(r"(\\+)([ \t]|$)|\\([#:])|\$(\$)")
COLON: Final = re.compile(r":(?=[ \t]|$)")


def names_in_rules(text: str) -> list[str]:
    """Return the names after the colons of make's rules, each once, in order.

    Raises:
        NotSerializable: the text is empty, or has a line that is not a rule.

    """
    names: dict[str, None] = {}
    rules = [line for line in re.sub(r"\\\r?\n", " ", text).splitlines() if line.strip() and line[0] != "#"]
    for rule in rules:
        colon = _first_colon(rule)
        if colon is None:
            raise NotSerializable(f"which has no rule of make: {rule[:60]!r}")
        names.update((_unescape(word), None) for word in WORD.findall(rule, colon + 1))
    if not rules:
        raise NotSerializable("which is empty")
    return list(names)


def _first_colon(rule: str) -> int | None:
    """Return the position of the colon after the targets of a rule; None if there is none."""
    return next(
        (match.start() for match in COLON.finditer(rule) if rule[match.start() - 1 : match.start()] != "\\"), None
    )


def _unescape(word: str) -> str:
    """Return a name without make's escapes."""
    return ESCAPED.sub(lambda match: _half(match[1]) + match[2] if match[1] else match[3] or match[4], word)


def _half(backslashes: str) -> str:
    return backslashes[: len(backslashes) // 2]
