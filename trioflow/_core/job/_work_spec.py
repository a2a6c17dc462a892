"""The description of a job's work for a journal: its identity, and the files that it reads and writes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


@dataclass(frozen=True, slots=True)
class HashOnly:
    """A value that a journal stores only as a hash, such as an environment with passwords in it.

    Args:
        value: the value to hash.

    """

    value: Any


@final
@dataclass(frozen=True, slots=True)
class Depfile:
    """A dependency file, in which a compiler lists the files that it has read, in make's format, as by `gcc -MMD`.

    A command with `reads=Depfile("main.d")` runs again when one of the listed files has changed or is gone. The journal
    stores the list when the command has succeeded. A command that does not write the file fails.

    Args:
        path: the path of the dependency file.
        cwd: the base directory of the relative paths in it; None for that of the command.

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
    """A file that a command may write: an item of `writes` that may be missing when the command has ended.

    Args:
        path: the path of the file.

    Example:
        >>> job = CommandJob(["make"], writes=["program", OptionalFile("warnings.txt")])

    """

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The identity of a job's work, and its files, for a journal; see `AbstractJob.for_journal`.

    A stored result is valid as long as all of this is unchanged. Jobs among the arguments and options, also in lists,
    tuples and the values of dicts, are replaced by their results.

    Args:
        what: the kind of the work, such as "command".
        arguments: the arguments of the work, in order.
        options: its other settings, in a fixed order. If all of them are None or False, they count as absent.
        reads: files, directories and patterns, such as `src/**/*.c`, that the work reads; and each `Depfile`.
        writes: files and directories that the work creates or replaces. The remains of an unfinished attempt are
            renamed to NAME.partial before the job runs again.
        appends: files to which the work appends. Before the job runs again, they are truncated to their length before
            the unfinished attempt.
        begins_anew: files that each attempt overwrites from the beginning, so that nothing has to be cleaned up.

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
        """Convert each field but `what` to a tuple; a single text, path or `Depfile` becomes a tuple of one."""
        for name in ("arguments", "options", "reads", "writes", "appends", "begins_anew"):
            value: Any = getattr(self, name)
            object.__setattr__(self, name, (value,) if _is_path(value) else tuple(value))


def _is_path(value: Any) -> bool:
    """Return whether `value` is a single path or `Depfile`, not an iterable of these."""
    return isinstance(value, (str, bytes, os.PathLike, Depfile))
