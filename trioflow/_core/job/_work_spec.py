"""The description of a job's work for a journal: its identity, and the files that it reads and writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


@dataclass(frozen=True, slots=True)
class HashOnly:
    """A value that a journal stores only as a hash, such as an environment with passwords in it.

    Args:
        value: the value to hash.

    """

    value: Any


@dataclass(frozen=True, slots=True)
class LocalDirectory:
    """The local directory where work is done, among its options. It counts relative to the journal's directory.

    Args:
        path: the directory, or None for `within`.
        within: the directory that a relative `path` belongs to, or None for the current directory.

    """

    path: Path | None = None
    within: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The identity of a job's work, and its files, for a journal. See `JobKind.for_journal`.

    A stored result is valid as long as all of this is unchanged. Jobs among the arguments and options, also in lists,
    tuples and the values of dicts, are replaced by their results.

    Args:
        what: the kind of work, such as "command".
        arguments: the arguments of the work, in order.
        options: its other settings, in a fixed order, or a dict with a name for each, which the reason for another run
            uses: `{"option level=": 9}`. Options in a dict count as absent if they are None or False. Without a dict,
            they count as absent only all together.
        reads: files, directories and patterns, such as `src/**/*.c`, that the work reads.
        writes: files and directories that the work creates or replaces. The remains of an unfinished attempt are
            renamed to NAME.partial before the job runs again.
        appends: files to which the work appends: they match as long as they have only been appended to.
        begins_anew: files that each attempt overwrites from the beginning, so that nothing has to be cleaned up.
        rejects: called with a stored result: the reason why it would be a failure now, or None. It may be called
            several times, and changes nothing.

    Example:
        >>> class Compress(AbstractJob):
        ...     def __init__(self, path, **options):
        ...         super().__init__(**options)
        ...         self.path = path
        ...
        ...     def for_journal(self):
        ...         return Work(what="compress", reads=[self.path], writes=[self.path + ".gz"])

    """

    what: str
    arguments: Iterable[Any] = ()
    options: Iterable[Any] | Mapping[str, Any] = ()
    reads: Iterable[Path] = ()
    writes: Iterable[Path] = ()
    appends: Iterable[Path] = ()
    begins_anew: Iterable[Path] = ()
    rejects: Callable[[Any], str | None] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Convert each field but `what` to a tuple. A single path becomes a tuple with this path."""
        for name in (
            "arguments",
            "options",
            "reads",
            "writes",
            "appends",
            "begins_anew",
        ):
            value: Any = getattr(self, name)
            if name == "options" and isinstance(value, Mapping):
                continue
            if isinstance(value, (str, bytes, os.PathLike)):
                value = (value,)
            object.__setattr__(self, name, tuple(value))
