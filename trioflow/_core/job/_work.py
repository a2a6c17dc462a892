"""What a job tells a journal of its work: what identifies it, and which files it reads and writes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, final

Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]


@dataclass(frozen=True, slots=True)
class Hidden:
    """A value of which a journal keeps a hash alone: an environment, for example, with passwords in it.

    Args:
        value: the value.

    """

    value: Any


@final
@dataclass(frozen=True, slots=True)
class Depfile:
    """A file in which a compiler says what it has read, in the form that make reads: `gcc -MMD` writes one.

    A command with `reads=Depfile("main.d")` runs again when one of the files has changed that this file names, or when
    one of them is gone. What these are is known once the command has succeeded: a journal keeps it. A command that does
    not write the file has failed.

    Args:
        path: the file.
        cwd: the directory that names in it are relative to; None for that of the command.

    Example:
        >>> job = CommandJob(
        ...     ["gcc", "-MMD", "-c", "main.c"], reads=["main.c", Depfile("main.d")], writes=["main.o"]
        ... )

    """

    path: Path
    cwd: Path | None = None


@final
@dataclass(frozen=True, slots=True)
class Optional:
    """A file that a command may write, among its `writes`: if it is not there, the command has not failed.

    Args:
        path: the file.

    Example:
        >>> job = CommandJob(["make"], writes=["program", Optional("warnings.txt")])

    """

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a job does, as far as a journal has to know it; see `AbstractJob.for_journal`.

    A result holds as long as a later run finds all of this as it was. Jobs among the arguments and options stand for
    their results, in lists, tuples and the values of dicts too.

    Args:
        what: the kind of work: "command", for example.
        arguments: what it works on, in its order.
        options: what else decides how it is done, in an order that stays. All of them None or False are as none.
        reads: files, directories and patterns, such as `src/**/*.c`, that it reads; and each `Depfile`.
        writes: those that it writes anew. What an attempt that came to no end has left of them is renamed to
            NAME.partial before the job runs again.
        appends: files that it appends to. They are cut back to the length that they had before such an attempt.
        begins_anew: files that each attempt begins anew, so that nothing has to be done about them.

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
        """Take text or a path alone for a list of one, and what can be walked through only once as it is now."""
        for name in ("arguments", "options", "reads", "writes", "appends", "begins_anew"):
            given: Any = getattr(self, name)
            object.__setattr__(self, name, (given,) if _is_path(given) else tuple(given))


def _is_path(given: Any) -> bool:
    """Return whether this names a file, or a file with the names of files."""
    return isinstance(given, (str, bytes, os.PathLike, Depfile))
