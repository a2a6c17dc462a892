"""Sources of arguments: words of the command line, lines of files or of standard input, and their combinations.

The first source is read on demand, so that a million lines do not have to fit in memory. Only a short file is read in
advance, to know the number of commands. While no data is available, for example in a pipe, a source that does not block
yields None. The caller can then wait until the descriptor is readable.

```
a source ──► items ──► split into columns ──► linked, or combined with other sources ──► N at a time (-N)
```
"""

from __future__ import annotations

import itertools
import math
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from .. import _posix as posix
from . import BatchError

STDIN: Final = "-"
SEPARATORS: Final = {
    ":::": (False, False),
    ":::+": (False, True),
    "::::": (True, False),
    "::::+": (True, True),
}
"""For each separator: whether the words after it name files, and whether it links its source to the source before."""
READ_SIZE: Final = 1 << 16
MAX_COUNTED_SIZE: Final = 1 << 20
"""The maximum size, in bytes, of a file whose lines are counted before the batch starts."""


Arguments = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LineFilling:
    """The rule by which each command gets as many items as its line holds.

    Attributes:
        measure: returns the size of a line with these arguments, in bytes. It is the sum of the sizes of the arguments.
        max_size: the maximum size of a line. A single item may exceed it.
        slots: the number of commands that share the items that do not fill another line.

    """

    measure: Callable[[Sequence[str]], int]
    max_size: int
    slots: int

    def divide(self, items: Iterable[Arguments | None]) -> Iterator[Arguments | None]:
        """Yield the arguments of each command. For None, yield None."""
        empty_size = self.measure(())
        chosen = list[Arguments]()
        size = empty_size
        for item in items:
            if item is None:
                yield None
                continue
            # With blanks between arguments.
            item_size = self.measure(item) - empty_size + len(item)
            if chosen and size + item_size > self.max_size:
                # To add up tuples would take time in proportion to the square of their number.
                yield tuple(itertools.chain.from_iterable(chosen))
                chosen = []
                size = empty_size
            chosen.append(item)
            size += item_size
        share = math.ceil(len(chosen) / self.slots)
        for start in range(0, len(chosen), share or 1):
            yield tuple(itertools.chain.from_iterable(chosen[start : start + share]))


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingRules:
    """The rules for reading arguments from the sources.

    Attributes:
        delimiter: the bytes after each item of a file.
        column_pattern: the separator of columns. It splits each item into several arguments, and spaces around them are
            removed. If it is None, each item is a single argument.
        items_per_command: the number of items for each command, or None for 1. If it is 0, a command without arguments
            runs for each item.
        line_filling: the rule by which each command gets as many items as its line holds, or None for no such rule.

    """

    delimiter: bytes = b"\n"
    column_pattern: re.Pattern[str] | None = None
    items_per_command: int | None = None
    line_filling: LineFilling | None = None

    def parse_items(self, items: Iterable[str | None]) -> Iterator[Arguments | None]:
        """Yield the arguments of each item, which are its columns if items have columns. For None, yield None."""
        for item in items:
            if item is None:
                yield None
            elif self.column_pattern is None:
                yield (item,)
            else:
                # If the pattern has groups, `split` returns them, too. A group that did not match is None.
                columns = self.column_pattern.split(item)
                yield tuple((column or "").strip() for column in columns)


@dataclass(slots=True)
class LineSource:
    """A source whose items are the lines of a file.

    Attributes:
        path: the file, or `-` for standard input.
        delimiter: the bytes after each line.
        descriptor: the descriptor of the open file, or -1 while the file is closed.
        is_blocking: whether reading blocks until data is available.
        is_kept: whether all lines are read before the first command starts.

    """

    path: str
    delimiter: bytes = b"\n"
    descriptor: int = field(default=-1, init=False)
    is_blocking: bool = field(default=True, init=False)
    is_kept: bool = field(default=False, init=False)

    def open(self) -> None:
        if self.path == STDIN:
            if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it may be closed
                raise BatchError("cannot read the arguments: standard input is closed")
            self.descriptor = 0
            return
        try:
            self.descriptor = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise BatchError(
                f"cannot read the arguments from {self.path!r}: {error.strerror}"
            ) from None

    def is_short_file(self) -> bool:
        """Return whether all lines are there, and are few enough to be counted in advance."""
        return (
            self._is_regular() and os.fstat(self.descriptor).st_size <= MAX_COUNTED_SIZE
        )

    def _is_regular(self) -> bool:
        return stat.S_ISREG(os.fstat(self.descriptor).st_mode)

    def close(self) -> None:
        if self.descriptor > 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __iter__(self) -> Iterator[str | None]:
        """Yield the lines. If the source is not blocking, yield None whenever no data is available yet.

        Raises:
            BatchError: the file cannot be read, or is a pipe or a device whose contents are too large to keep.

        """
        # The parts of a line whose end has not been read yet.
        unfinished_parts: list[bytes] = []
        max_size = math.inf if self._is_regular() else posix.MAX_STREAM_SIZE
        kept_size = 0
        while True:
            if not self.is_blocking and not posix.is_ready(
                self.descriptor, posix.POLLIN
            ):
                yield None
            elif chunk := self._read():
                *lines, last = chunk.split(self.delimiter)
                if lines:
                    yield os.fsdecode(b"".join([*unfinished_parts, lines[0]]))
                    yield from map(os.fsdecode, lines[1:])
                    unfinished_parts.clear()
                unfinished_parts.append(last)
                kept_size += len(chunk)
                if lines and not self.is_kept:
                    kept_size = len(last)
                if kept_size > max_size:
                    where = "without the end of a line"
                    if self.is_kept:
                        where = "before the first command starts"
                    raise BatchError(
                        f"cannot read the arguments from {self.path!r}: more than {posix.MAX_STREAM_SIZE >> 20} MiB "
                        f"{where}; end each with a newline, or a NUL and give -0; an endless source must come alone"
                    )
            else:
                break
        if line := b"".join(unfinished_parts):
            yield os.fsdecode(line)

    def _read(self) -> bytes:
        try:
            return os.read(self.descriptor, READ_SIZE)
        except OSError as error:
            raise BatchError(
                f"cannot read the arguments from {self.path!r}: {error.strerror}"
            ) from None


SourceGroup = list[list[str] | LineSource]
"""Linked sources: words, or a file. Each command gets an item from each, until the shortest source is exhausted."""


def parse_sources(
    words: Sequence[str],
    files: Sequence[str] = (),
    rules: ReadingRules = ReadingRules(),
) -> tuple[list[str], list[SourceGroup]]:
    """Split the words of a command line into the command and groups of sources.

    Without sources, there is a single group: standard input.

    Args:
        words: the words of the command, followed by separators with the words of their sources.
        files: the files of further sources, which come before the sources in `words`.
        rules: the rules for reading. Only the delimiter matters here.

    Example:
        >>> parse_sources(["cp", "{1}", "{2}", ":::", "a", "b", ":::+", "c", "d"])
        (['cp', '{1}', '{2}'], [[['a', 'b'], ['c', 'd']]])

    """
    command = list(itertools.takewhile(lambda word: word not in SEPARATORS, words))
    groups: list[SourceGroup] = [[LineSource(path, rules.delimiter)] for path in files]
    sections: list[tuple[str, list[str]]] = []
    items: list[str] = []
    for word in words[len(command) :]:
        if word in SEPARATORS:
            items = []
            sections.append((word, items))
        else:
            items.append(word)
    for separator, items in sections:
        are_files, are_linked = SEPARATORS[separator]
        sources: SourceGroup = [items]
        if are_files:
            sources = [LineSource(path, rules.delimiter) for path in items]
        for source in sources:
            if are_linked and groups:
                groups[-1].append(source)
            else:
                groups.append([source])
    return command, groups or [[LineSource(STDIN, rules.delimiter)]]


class SourceProduct:
    """All combinations of items from the groups of sources. The item of the last group varies fastest.

    Attributes:
        total: the number of commands, or None if it is unknown, because not all lines have been read.

    """

    def __init__(
        self, groups: Sequence[SourceGroup], rules: ReadingRules = ReadingRules()
    ) -> None:
        """Open all files, and read all groups of sources except the first.

        Raises:
            BatchError: a file cannot be read.

        """
        self._groups: Final = groups
        self._rules: Final = rules
        self._first_group_arguments: list[Arguments] | None = None
        self.total: int | None = None
        try:
            for source in self._line_sources():
                source.open()
                source.is_kept = source is not self._lazy_source
            self._record_iterators: Final = [
                [rules.parse_items(source) for source in group] for group in groups
            ]
            self._other_groups_arguments: Final = [
                self._read_group(group) for group in self._record_iterators[1:]
            ]
            if self._lazy_source is None or self._lazy_source.is_short_file():
                self.count_commands()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for source in self._line_sources():
            source.close()

    def _line_sources(self) -> Iterator[LineSource]:
        sources = itertools.chain.from_iterable(self._groups)
        return (source for source in sources if isinstance(source, LineSource))

    @property
    def _lazy_source(self) -> LineSource | None:
        """The first source if it can be read on demand, because it is a file without linked sources, otherwise None."""
        source = self._groups[0][0]
        if isinstance(source, LineSource) and len(self._groups[0]) == 1:
            return source
        return None

    def _read_group(
        self, group: Sequence[Iterator[Arguments | None]]
    ) -> list[Arguments]:
        """Read all sources of a group, and return the arguments from each set of linked items."""
        sources = [
            [record for record in records if record is not None] for records in group
        ]
        return [sum(records, ()) for records in zip(*sources, strict=False)]

    def count_commands(self) -> int:
        """Return the number of commands. If the first group has not been read, read it completely."""
        if self._first_group_arguments is None:
            self._first_group_arguments = self._read_group(self._record_iterators[0])
        combinations = math.prod(
            [len(self._first_group_arguments), *map(len, self._other_groups_arguments)]
        )
        self.total = math.ceil(combinations / (self._rules.items_per_command or 1))
        if self._rules.line_filling is not None:
            self.total = sum(1 for _ in self.iter_arguments(blocking=True))
        return self.total

    @property
    def descriptor(self) -> int:
        """The descriptor that becomes readable when another item may be available, or -1 if all items were read."""
        if self._lazy_source is None:
            return -1
        return self._lazy_source.descriptor

    def iter_arguments(self, *, blocking: bool) -> Iterator[Arguments | None]:
        """Yield the arguments of each command. Unless `blocking`, yield None whenever no item is available yet."""
        if self._lazy_source is not None:
            self._lazy_source.is_blocking = blocking
        items_per_command = self._rules.items_per_command
        if self._rules.line_filling is not None:
            yield from self._rules.line_filling.divide(self._combinations())
            return
        if items_per_command is None:
            yield from self._combinations()
            return
        merged_arguments: list[str] = []
        item_count = 0
        for arguments in self._combinations():
            if arguments is None:
                yield None
                continue
            if items_per_command:
                merged_arguments += arguments
            item_count += 1
            if item_count >= items_per_command:
                yield tuple(merged_arguments)
                merged_arguments = []
                item_count = 0
        if item_count:
            yield tuple(merged_arguments)

    def _combinations(self) -> Iterator[Arguments | None]:
        group: Iterable[Arguments | None] = self._record_iterators[0][0]
        if self._first_group_arguments is not None:
            group = self._first_group_arguments
        for first_arguments in group:
            if first_arguments is None:
                yield None
                continue
            for other_arguments in itertools.product(*self._other_groups_arguments):
                yield sum(other_arguments, first_arguments)


# ---- options


def parse_column_separator(text: str) -> re.Pattern[str]:
    """Parse the value of `--colsep`: the regular expression of the separator between two columns.

    Raises:
        ValueError: the text is not a regular expression, or the expression matches the empty text.

    """
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise ValueError(
            f"{text!r} is not a regular expression: {error}; write | or . as \\| or \\."
        ) from None
    if pattern.match(""):
        hint = ""
        if text == "|":
            hint = f"; write a literal | as '\\{text}'"
        raise ValueError(
            f"{text!r} is a regular expression that matches the empty string: give the separator between two "
            f"columns, such as ,{hint}"
        )
    return pattern
