"""Sources of arguments: the words after `:::`, the lines of files and of the standard input; and their products.

The first source is read on demand, so a million lines are never in memory at a time. A file without data yet, such as
a pipe, yields None instead of an item; the caller may then wait for `descriptor`.

```
a source ──► items ──► split into columns ──► linked, or combined with other sources ──► N at a time (-N)
```
"""

from __future__ import annotations

import itertools
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from .. import _posix as posix
from . import BatchError

STDIN: Final = "-"
SEPARATORS: Final = {":::": (False, False), ":::+": (False, True), "::::": (True, False), "::::+": (True, True)}
"""For each separator, whether files follow it, and whether the following source is linked to the one before."""
PIECE_BYTES: Final = 1 << 16

ESCAPES: Final = {r"\0": b"\0", r"\n": b"\n", r"\r": b"\r", r"\t": b"\t", r"\\": b"\\"}


Arguments = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """The rules by which arguments are read from the sources.

    Attributes:
        end: the delimiter between the items of a file, and between words if `cuts_words` is true.
        cuts_words: whether words of the command line are split at `end` too.
        columns: the separator of the columns of an item, which lose leading and trailing spaces; None if each item is
            one argument.
        has_header: whether the first item of each source names its columns.
        is_linked: whether the sources are read in lockstep; shorter ones start over when they are exhausted.
        items_per_command: the number of items for each command; None for 1. With 0, one command runs per item, but does
            not get it.

    """

    end: bytes = b"\n"
    cuts_words: bool = False
    columns: re.Pattern[str] | None = None
    has_header: bool = False
    is_linked: bool = False
    items_per_command: int | None = None

    def records(self, items: Iterable[str | None]) -> Iterator[Arguments | None]:
        """Yield the columns of each item, or the item itself; None stays None."""
        for item in items:
            if item is None or self.columns is None:
                yield None if item is None else (item,)
            else:  # a group of the separator that did not match is None
                yield tuple((column or "").strip() for column in self.columns.split(item))


@dataclass(frozen=True, slots=True)
class WordSource:
    """A source whose items are words of the command line."""

    items: Sequence[str]

    def as_they_come(self) -> Iterator[str | None]:
        """Yield the words."""
        return iter(self.items)


@dataclass(slots=True)
class LineSource:
    """A source whose items are the lines of a file.

    Attributes:
        path: the file; `-` for the standard input.
        end: the end of a line.
        descriptor: the open file.
        waits: whether reading blocks until there is data.

    """

    path: str
    end: bytes = b"\n"
    descriptor: int = field(default=-1, init=False)
    waits: bool = field(default=True, init=False)

    def open(self) -> None:
        """Open the file.

        Raises:
            BatchError: the file cannot be opened.

        """
        if self.path == STDIN:
            if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it may be closed
                raise BatchError("cannot read the arguments: the standard input is closed")
            self.descriptor = 0
            return
        try:
            self.descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise BatchError(f"cannot read the arguments in {self.path!r}: {error.strerror}") from None

    def close(self) -> None:
        """Close the file; the standard input stays open, because it is the program's."""
        if self.descriptor > 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def as_they_come(self) -> Iterator[str | None]:
        """Yield the lines, and None when there is no data yet, unless it `waits`.

        Raises:
            BatchError: the file cannot be read.

        """
        rest: list[bytes] = []
        while True:
            if not self.waits and not is_ready(self.descriptor, posix.POLLIN):
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
            return os.read(self.descriptor, PIECE_BYTES)
        except OSError as error:
            raise BatchError(f"cannot read the arguments in {self.path!r}: {error.strerror}") from None


def is_ready(descriptor: int, event: int) -> bool:
    """Return whether a read (`POLLIN`) or a write (`POLLOUT`) returns at once; a read does so at the end of a file."""
    poll = posix.poll()
    poll.register(descriptor, event)
    return bool(poll.poll(0))


Source = WordSource | LineSource
Group = list[Source]
"""Linked sources: their first items are taken together, then their second ones, and so on, up to the shortest."""


def parse(
    words: Sequence[str], files: Sequence[str] = (), reading: Reading = Reading()
) -> tuple[list[str], list[Group]]:
    """Split the words into those of the command and groups of sources; without any, the source is the standard input.

    Args:
        words: the command, the separators, and the words after them.
        files: the files of further sources, which come first.
        reading: the end of an item, and whether all sources are linked.

    Example:
        >>> parse(["cp", "{1}", "{2}", ":::", "a", "b", ":::+", "c", "d"])
        (['cp', '{1}', '{2}'], [[WordSource(items=['a', 'b']), WordSource(items=['c', 'd'])]])

    """
    command = list(itertools.takewhile(lambda word: word not in SEPARATORS, words))
    groups: list[Group] = [[LineSource(path, reading.end)] for path in files]
    separator, items = "", list[str]()
    for word in [*words[len(command) :], ":::"]:
        if word not in SEPARATORS:
            items.append(word)
            continue
        if separator:
            _append(groups, SEPARATORS[separator], items, reading)
        separator, items = word, []
    groups = groups or [[LineSource(STDIN, reading.end)]]
    return command, [list(itertools.chain.from_iterable(groups))] if reading.is_linked else groups


def _append(groups: list[Group], flags: tuple[bool, bool], items: list[str], reading: Reading) -> None:
    are_files, linked = flags
    if reading.cuts_words and not are_files:
        items = [part for item in items for part in item.split(os.fsdecode(reading.end))]
    sources: Group = [LineSource(path, reading.end) for path in items] if are_files else [WordSource(items)]
    for source in sources:
        if linked and groups:
            groups[-1].append(source)
        else:
            groups.append([source])


class Product:
    """All combinations of the items of the groups; the last group varies fastest.

    Attributes:
        total: the number of commands; None if that would require reading all lines.
        names: those of the columns, from the first items of the sources; empty without a header.

    """

    def __init__(self, groups: Sequence[Group], reading: Reading = Reading()) -> None:
        """Open all files, and read all groups but the first.

        Raises:
            BatchError: a file cannot be read.

        """
        self._groups: Final = groups
        self._reading: Final = reading
        self._first: list[Arguments] | None = None
        self.total: int | None = None
        self.names: Final[list[str]] = []
        try:
            for source in self._files():
                source.open()
            self._records: Final = [[reading.records(source.as_they_come()) for source in group] for group in groups]
            if reading.has_header:
                for records in itertools.chain.from_iterable(self._records):
                    self.names.extend(next(filter(None, records), ()))
            self._others: Final = [self._read(group) for group in self._records[1:]]
            if self._lazy_source is None:
                self.count()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all files."""
        for source in self._files():
            source.close()

    def _files(self) -> Iterator[LineSource]:
        return (source for group in self._groups for source in group if isinstance(source, LineSource))

    @property
    def _lazy_source(self) -> LineSource | None:
        """The first source, if it is a file that can be read on demand."""
        source = self._groups[0][0]
        return source if isinstance(source, LineSource) and len(self._groups[0]) == 1 else None

    def _read(self, group: Sequence[Iterator[Arguments | None]]) -> list[Arguments]:
        """Return all arguments of a group; reading its files blocks."""
        columns = [[record for record in records if record is not None] for records in group]
        if self._reading.is_linked and all(columns):
            most = max(map(len, columns))
            columns = [list(itertools.islice(itertools.cycle(column), most)) for column in columns]
        return [sum(records, ()) for records in zip(*columns, strict=False)]

    def count(self) -> int:
        """Return the number of commands; read all sources first if necessary."""
        if self._first is None:
            self._first = self._read(self._records[0])
        combinations = math.prod([len(self._first), *map(len, self._others)])
        self.total = math.ceil(combinations / (self._reading.items_per_command or 1))
        return self.total

    @property
    def descriptor(self) -> int:
        """The file descriptor to wait for when there is no item yet."""
        return -1 if self._lazy_source is None else self._lazy_source.descriptor

    def items(self, *, blocking: bool) -> Iterator[Arguments | None]:
        """Yield the arguments of each command, once; and None when there are none yet, unless `blocking`."""
        if self._lazy_source is not None:
            self._lazy_source.waits = blocking
        number = self._reading.items_per_command
        if number is None:
            yield from self._combinations()
            return
        together: list[str] = []
        taken = 0
        for arguments in self._combinations():
            if arguments is None:
                yield None
                continue
            together += arguments if number else ()
            taken += 1
            if taken >= number:
                yield tuple(together)
                together, taken = [], 0
        if taken:
            yield tuple(together)

    def _combinations(self) -> Iterator[Arguments | None]:
        for first in self._records[0][0] if self._first is None else self._first:
            if first is None:
                yield None
                continue
            for rest in itertools.product(*self._others):
                yield sum(rest, first)


# ---- options


def delimiter(text: str) -> bytes:
    r"""Return the end of an argument, for `--delimiter`.

    Raises:
        ValueError: the text is empty.

    Example:
        >>> delimiter(","), delimiter(r"\t")
        (b',', b'\t')

    """
    if not text:
        raise ValueError("it is empty: give a character, such as , or \\t, or several")
    return ESCAPES.get(text, os.fsencode(text))


def column_separator(text: str) -> re.Pattern[str]:
    """Return the regular expression of the separator between two columns.

    Raises:
        ValueError: it is not a regular expression, or it matches the empty text.

    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(
            f"{text!r} is not a regular expression: {error}; a | or . of its own is written \\| or \\."
        ) from None
    if pattern.match(""):
        itself = f"; the character itself is written '\\{text}'" if text == "|" else ""
        raise ValueError(
            f"{text!r} is a regular expression that also matches the empty text: give the separator between two "
            f"columns, such as ,{itself}"
        )
    return pattern
