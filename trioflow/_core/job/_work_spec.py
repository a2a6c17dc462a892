"""A job's description for a journal: the identity of its work, and the files that it reads and writes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


@dataclass(frozen=True, slots=True)
class HashOnly:
    """A value of which a journal keeps only a hash: an environment, for example, with passwords in it.

    Args:
        value: the value.

    """

    value: Any


@final
@dataclass(frozen=True, slots=True)
class Depfile:
    """A file in which a compiler lists the files that it has read, in make's format: `gcc -MMD` writes one.

    A command with `reads=Depfile("main.d")` runs again when one of the files that this file names has changed, or is
    gone. The list is known once the command has succeeded: a journal keeps it. A command that does not write the file
    fails.

    Args:
        path: the file.
        cwd: the base directory of relative names in it; None for the command's.

    Example:
        >>> job = CommandJob(
        ...     ["gcc", "-MMD", "-c", "main.c"], reads=["main.c", Depfile("main.d")], writes=["main.o"]
        ... )

    """

    path: Path
    cwd: Path | None = None


@final
@dataclass(frozen=True, slots=True)
class OptionalFile:
    """A file that a command may write, among its `writes`: if it is missing, the command has not failed.

    Args:
        path: the file.

    Example:
        >>> job = CommandJob(["make"], writes=["program", OptionalFile("warnings.txt")])

    """

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A job's work as a journal identifies it; see `AbstractJob.for_journal`.

    A result is valid as long as a later run finds all of this unchanged. Jobs among the arguments and options, also in
    lists, tuples and the values of dicts, are replaced by their results.

    Args:
        what: the kind of work: "command", for example.
        arguments: the arguments of the work, in order.
        options: its other settings, in a fixed order. All of them None or False count as none.
        reads: files, directories and patterns, such as `src/**/*.c`, that it reads; and each `Depfile`.
        writes: those that it writes anew. What an unfinished attempt has left of them is renamed to NAME.partial before
            the job runs again.
        appends: files that it appends to. They are truncated to their length before such an attempt.
        begins_anew: files that each attempt overwrites, so that they need no care.

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
    options: Iterable[Any] = ()
    reads: Iterable[Path | Depfile] = ()
    writes: Iterable[Path] = ()
    appends: Iterable[Path] = ()
    begins_anew: Iterable[Path] = ()

    def __post_init__(self) -> None:
        """Wrap a single text or path in a tuple, and copy iterables that can be read only once."""
        for name in ("arguments", "options", "reads", "writes", "appends", "begins_anew"):
            value: Any = getattr(self, name)
            object.__setattr__(self, name, (value,) if _is_path(value) else tuple(value))


def _is_path(value: Any) -> bool:
    """Return whether `value` is a path or a `Depfile`."""
    return isinstance(value, (str, bytes, os.PathLike, Depfile))
