"""The files that jobs read and write: what tells one state of a file from another, and what is done with half a file.

A stamp is a text: the size of a file and its time, or a hash of its contents. That of a file which is appended to has a
hash of its end as well: so it still holds when somebody else, another job with the same log, has appended more.

What a `Depfile` names is known when the job has succeeded. So its stamps are kept with those of what the job has
written, and are of that time; a file that has changed since the job began has none that could come again.
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
MEANWHILE: Final = "changed while the job ran"
PARTIAL: Final = ".partial"
"""Appended to the name of a file that an attempt has left half-written."""
DIGITS: Final = 24
"""Of a hash of contents."""
END: Final = 4096
"""Bytes before the end of a file that is appended to which are hashed."""


def shown(path: Any) -> str:
    """Return a path as text that JSON can have."""
    return os.fsdecode(path).encode(errors="backslashreplace").decode()


class Files:
    """The files of jobs, as one run with a journal sees them.

    Args:
        contents: whether files count by their contents.
        own: the files of the journal, without links: they change all the time, and count for nothing in a directory.

    """

    def __init__(self, contents: bool, own: Container[str]) -> None:
        self.contents: Final = contents
        self._own: Final = own

    def read(self, work: Work) -> dict[str, str]:
        """Return the stamps of the files that a job reads.

        Raises:
            NotSerializable: one cannot be read.

        """
        return self._stamps((one for one in work.reads if not isinstance(one, Depfile)), "a file that it reads", True)

    def named(self, work: Work, seconds: float) -> dict[str, str] | None:
        """Return the stamps of the files that a job has read, as its depfiles say; None if it has none.

        Args:
            work: what the job reads and writes.
            seconds: how long it has run until now.

        Raises:
            NotSerializable: a depfile cannot be read.

        """
        depfiles = [one for one in work.reads if isinstance(one, Depfile)]
        if not depfiles:
            return None
        began = time.time_ns() - int(seconds * 1e9)
        with _explained("the file that says what it reads"):
            names = [path for one in depfiles for path in _named_in(one)]
        stamps = self._stamps(names, "a file that it reads")
        for path in stamps:
            with contextlib.suppress(OSError):
                if os.stat(path).st_mtime_ns > began:
                    stamps[path] = MEANWHILE
        return stamps

    def written(self, work: Work) -> dict[str, str]:
        """Return the stamps of the files that a job writes, as they are now.

        Raises:
            NotSerializable: one cannot be read.

        """
        found = self._stamps((*work.writes, *work.begins_anew), "a file that it writes")
        with _explained("a file that it writes"):
            found.update({shown(path): self._stamp_of_log(path) for path in work.appends})
        return found

    def change(self, work: Work, then: dict[str, str]) -> str | None:
        """Return what has changed among the files that a job has written; None if nothing has."""
        try:
            now = self.written(work)
        except NotSerializable as error:
            return str(error)
        logs = {shown(path): path for path in work.appends}
        for path in {**then, **now}:
            if then.get(path) != now.get(path) and not (path in logs and self._has_grown(logs[path], then.get(path))):
                gone = now.get(path) == ABSENT
                return f"its output {path!r} {'is not there' if gone else change(then.get(path), now.get(path))}"
        return None

    def change_of_named(self, work: Work, then: dict[str, str] | None) -> str | None:
        """Return what has changed among the files that a depfile named; None if nothing has, or there is no depfile."""
        if not any(isinstance(one, Depfile) for one in work.reads):
            return None
        if then is None:
            return "what its depfile names is not known"
        now = self._stamps(then, "a file that it reads")
        return next(
            (f"file {path!r} {change(then[path], now[path])}" for path in then if then[path] != now[path]), None
        )

    def put_aside(self, work: Work, before: dict[str, str]) -> None:
        """Rename what an attempt that came to no end has left half-written.

        Args:
            work: what the job reads and writes. What it also reads stays where it is.
            before: the stamps of its files before that attempt.

        """
        reads = {os.path.realpath(one) for one in work.reads if not isinstance(one, Depfile)}
        for path in work.writes:
            then = before.get(shown(path))
            with contextlib.suppress(OSError):  # then the job itself will say so
                may_move = then is not None and os.path.realpath(path) not in reads and os.path.lexists(path)
                if may_move and self._stamp(path) != then:
                    _rename(os.fsdecode(path))

    def cut_back(self, path: Any, then: str) -> None:
        """Cut from a file what an attempt that came to no end has appended to it.

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
        with _explained(what):
            return {shown(path): self._stamp(path, may_be_patterns) for path in paths}

    def _stamp(self, path: Any, may_be_pattern: bool = False) -> str:
        """Return the stamp of a file, of a directory by those of all files in it, or of all that match a pattern.

        Raises:
            OSError: it cannot be read; a file that is not there has a stamp of its own.

        """
        if os.path.isdir(path):
            return f"directory {_digest(self._inside(path))}"
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return self._stamp_of_matching(path) if may_be_pattern and glob.has_magic(os.fsdecode(path)) else ABSENT
        if not stat.S_ISREG(found.st_mode):
            return f"special {stat.S_IFMT(found.st_mode):o}"  # a pipe or a device: to read it may never end
        if not self.contents:
            return f"{found.st_size} {found.st_mtime_ns}"
        with open(path, "rb") as file:
            return f"{found.st_size} {hashlib.file_digest(file, 'sha256').hexdigest()[:DIGITS]}"

    def _stamp_of_matching(self, pattern: Any) -> str:
        found = sorted(glob.glob(os.fsdecode(pattern), recursive=True))
        matching = [f"{path} {self._stamp(path)}" for path in found if os.path.realpath(path) not in self._own]
        return f"pattern {_digest(matching)}" if matching else ABSENT

    def _inside(self, path: Any) -> Iterable[str]:
        for directory, names, files in os.walk(os.fsdecode(path)):
            real = os.path.realpath(directory)
            names[:] = sorted(name for name in names if os.path.join(real, name) not in self._own)
            for name in sorted(files):
                if os.path.join(real, name) not in self._own:
                    yield f"{name} {self._stamp(os.path.join(directory, name))}"

    def _stamp_of_log(self, path: Any) -> str:
        stamp = self._stamp(path)
        return stamp if not stamp[:1].isdigit() else f"{stamp} {_hash_before(path, int(stamp.split()[0]))}"

    def _has_grown(self, path: Any, then: str | None) -> bool:
        """Return whether a file is as it was, but for what was appended to it since."""
        size, *_, end = (then or ABSENT).split() or [ABSENT]
        with contextlib.suppress(OSError):
            return size.isdigit() and os.path.getsize(path) > int(size) and _hash_before(path, int(size)) == end
        return False


def change(old: str | None, new: str | None) -> str:
    """Say in words how a file has changed, by its stamps."""
    if new in (ABSENT, None):
        return "is not there any more" if new else "does not count any more"
    if old in (ABSENT, None):
        return "was not there" if old else "did not count"
    return "has changed while the job ran" if old == MEANWHILE else "has changed"


def _named_in(depfile: Depfile) -> list[str]:
    """Return the files that a depfile names."""
    with open(depfile.path, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    try:
        found = names_in_rules(text)
    except NotSerializable as error:
        raise NotSerializable(f"what it reads, by {shown(depfile.path)!r}, {error}") from None
    return found if depfile.cwd is None else [os.path.join(os.fsdecode(depfile.cwd), one) for one in found]


def _digest(lines: Iterable[str]) -> str:
    return digest(chr(0).join(lines).encode(errors="surrogatepass"))


@contextlib.contextmanager
def _explained(what: str) -> Any:
    try:
        yield
    except OSError as error:
        raise NotSerializable(f"{what}: {error.strerror}: {error.filename!r}") from None


def _hash_before(path: Any, end: int) -> str:
    """Return a hash of the bytes of a file before a place."""
    with open(path, "rb") as file:
        start = max(0, end - END)
        file.seek(start)
        return digest(file.read(end - start))


def _rename(path: str) -> None:
    """Rename a file or a directory to NAME.partial, in the place of what an earlier attempt has left there."""
    path = path.rstrip("/") or "/"
    target = path + PARTIAL
    if os.path.isdir(target) and not os.path.islink(target):
        shutil.rmtree(target)
    elif os.path.isdir(path) and os.path.lexists(target):
        os.unlink(target)
    os.replace(path, target)


# ---- depfiles

# What a compiler says that it has read: the rules that `gcc -MMD` writes for make.
#
# ```
# main.o: main.c \
#   a\ name\ with\ spaces.h table.h
# table.h:
# ```
#
# What stands before a colon is made, and what stands behind it is read. Before a space, a backslash belongs to the name
# that goes on there; two are one backslash, at the end of a name. `\#`, `\:` and `$$` are `#`, `:` and `$`. A line that
# begins with `#` says nothing (rustc writes some).
WORD: Final = re.compile(r"(?:[^\s\\]|\\+(?![\\ \t])|(?<!\\)(?:\\\\)*\\[ \t]|(?<!\\)(?:\\\\)+(?=[ \t]))+")
ESCAPED: Final = re.compile(r"(\\+)([ \t]|$)|\\([#:])|\$(\$)")
COLON: Final = re.compile(r":(?=[ \t]|$)")


def names_in_rules(text: str) -> list[str]:
    """Return the names of the files that are read, each once, in their order.

    Raises:
        NotSerializable: there is no rule in the text, or something that is not one.

    """
    found: dict[str, None] = {}
    rules = [line for line in re.sub(r"\\\r?\n", " ", text).splitlines() if line.strip() and line[0] != "#"]
    for rule in rules:
        colon = _first_colon(rule)
        if colon is None:
            raise NotSerializable(f"which has no rule of make: {rule[:60]!r}")
        found.update((_plain(word), None) for word in WORD.findall(rule, colon + 1))
    if not rules:
        raise NotSerializable("which is empty")
    return list(found)


def _first_colon(rule: str) -> int | None:
    """Return where the names end of what a rule makes."""
    return next(
        (found.start() for found in COLON.finditer(rule) if rule[found.start() - 1 : found.start()] != "\\"), None
    )


def _plain(word: str) -> str:
    """Return a name without what make needs to read it."""
    return ESCAPED.sub(lambda one: _half(one[1]) + one[2] if one[1] else one[3] or one[4], word)


def _half(backslashes: str) -> str:
    return backslashes[: len(backslashes) // 2]
