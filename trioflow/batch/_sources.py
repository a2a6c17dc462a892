"""Where arguments come from: the words after `:::`, the lines of files and of the standard input; and their products.

The first source is read as its items are needed, so a million lines are never in memory at once. A file that has
nothing to read yet, such as a pipe, gives None instead of an item; the caller may wait for `descriptor` then.
"""

from __future__ import annotations

import itertools
import math
import os
import select
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from . import BatchError

SEPARATORS: Final = {":::": (False, False), ":::+": (False, True), "::::": (True, False), "::::+": (True, True)}
"""Each with two flags: whether files follow, and whether the source is linked to the one before."""
STDIN: Final = "-"
PIECE: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Values:
    """A source whose items are words of the command line."""

    items: Sequence[str]

    def __iter__(self) -> Iterator[str]:
        return iter(self.items)


@dataclass(slots=True)
class Lines:
    """A source whose items are the lines of a file.

    Attributes:
        path: the file; `-` for the standard input.
        end: what ends a line.
        descriptor: the open file.

    """

    path: str
    end: bytes = b"\n"
    descriptor: int = field(default=-1, init=False)

    def open(self) -> None:
        """Open the file.

        Raises:
            BatchError: the file cannot be opened.

        """
        if self.path == STDIN:
            if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - the caller has closed it
                raise BatchError("cannot read the arguments: the standard input is closed")
            self.descriptor = 0
            return
        try:
            self.descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise BatchError(f"cannot read the arguments in {self.path!r}: {error.strerror}") from None

    def close(self) -> None:
        """Close the file; the standard input stays open, as it is not ours."""
        if self.descriptor > 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __iter__(self) -> Iterator[str]:
        return (line for line in self.as_they_come(blocking=True) if line is not None)

    def as_they_come(self, *, blocking: bool = False) -> Iterator[str | None]:
        """Yield the lines, and None wherever there is nothing to read yet.

        Raises:
            BatchError: the file cannot be read.

        """
        rest: list[bytes] = []
        while True:
            if not blocking and not readable(self.descriptor):
                yield None
            elif piece := self._read():
                *lines, last = piece.split(self.end)
                if lines:
                    yield os.fsdecode(b"".join([*rest, lines[0]]))
                    yield from map(os.fsdecode, lines[1:])
                    rest.clear()
                rest.append(last)
            else:
                break
        if line := b"".join(rest):
            yield os.fsdecode(line)

    def _read(self) -> bytes:
        try:
            return os.read(self.descriptor, PIECE)
        except OSError as error:
            raise BatchError(f"cannot read the arguments in {self.path!r}: {error.strerror}") from None


def readable(descriptor: int) -> bool:
    """Return whether a read would not block; at the end of a file it would not."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


Source = Values | Lines
Group = list[Source]
"""Linked sources: their first items are taken together, then their second ones, and so on, as long as all have one."""


def parse(words: Sequence[str], files: Sequence[str] = (), end: bytes = b"\n") -> tuple[list[str], list[Group]]:
    """Return the words of the command, and the groups of sources; if there are none, the standard input is the source.

    Args:
        words: the command, the separators, and what follows them.
        files: the files of further sources, which come first.
        end: what ends a line of a file.

    Example:
        >>> parse(["cp", "{1}", "{2}", ":::", "a", "b", ":::+", "c", "d"])
        (['cp', '{1}', '{2}'], [[Values(items=['a', 'b']), Values(items=['c', 'd'])]])

    """
    command = list(itertools.takewhile(lambda word: word not in SEPARATORS, words))
    groups: list[Group] = [[Lines(path, end)] for path in files]
    separator, items = "", list[str]()
    for word in [*words[len(command) :], ":::"]:
        if word not in SEPARATORS:
            items.append(word)
            continue
        if separator:
            _append(groups, separator, items, end)
        separator, items = word, []
    return command, groups or [[Lines(STDIN, end)]]


def _append(groups: list[Group], separator: str, items: list[str], end: bytes) -> None:
    are_files, linked = SEPARATORS[separator]
    sources: Group = [Lines(path, end) for path in items] if are_files else [Values(items)]
    for source in sources:
        if linked and groups:
            groups[-1].append(source)
        else:
            groups.append([source])


Arguments = tuple[str, ...]


class Product:
    """All combinations of the items of the groups; the last group varies fastest.

    Attributes:
        total: how many there are; None as long as this would take reading all lines.

    """

    def __init__(self, groups: Sequence[Group]) -> None:
        """Open all files, and read all groups but the first.

        Raises:
            BatchError: a file cannot be read.

        """
        self._groups: Final = groups
        self._first: list[Arguments] | None = None
        self.total: int | None = None
        try:
            for source in self._files():
                source.open()
            self._others: Final = [list(zip(*group, strict=False)) for group in groups[1:]]
            if self._lazy is None:
                self.count()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all files."""
        for source in self._files():
            source.close()

    def _files(self) -> Iterator[Lines]:
        return (source for group in self._groups for source in group if isinstance(source, Lines))

    @property
    def _lazy(self) -> Lines | None:
        """The first source, if it is a file that can be read as its lines are needed."""
        source = self._groups[0][0]
        return source if isinstance(source, Lines) and len(self._groups[0]) == 1 else None

    def count(self) -> int:
        """Read everything, unless that has been done, and return how many combinations there are."""
        if self._first is None:
            self._first = list(zip(*self._groups[0], strict=False))
        self.total = math.prod([len(self._first), *map(len, self._others)])
        return self.total

    @property
    def descriptor(self) -> int:
        """The file descriptor to wait for when there is no item yet."""
        return -1 if self._lazy is None else self._lazy.descriptor

    def items(self, *, blocking: bool) -> Iterator[Arguments | None]:
        """Yield the combinations, once; and None wherever the next line is not there yet, unless `blocking`."""
        for first in self._first_items(blocking):
            if first is None:
                yield None
                continue
            for rest in itertools.product(*self._others):
                yield sum(rest, first)

    def _first_items(self, blocking: bool) -> Iterable[Arguments | None]:
        if self._first is not None:
            return self._first
        assert self._lazy is not None
        return (None if line is None else (line,) for line in self._lazy.as_they_come(blocking=blocking))
