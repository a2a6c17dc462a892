"""The steps of a job on a node: commands, scripts, and file transfers.

A step holds user-supplied words, which may be jobs. When the job with the step runs, `_argv.fill_word` makes texts of
the words and of the results of these jobs.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, final

from ..._core.base._text_forms import is_among, name_in_errors, short_repr, shown_value
from ..._core.job._job import is_job
from ...abc import AbstractJob
from ..command._argv import (
    Template,
    convert_argument,
    display_command_line,
    display_text,
    granted,
    line_parts,
)
from ..command._spawn_options import is_path, path_tuple

Path = str | os.PathLike[str]


class Step:
    """A step of a job: a sequence of words, whose jobs are replaced by their results when the step runs."""

    __slots__ = ("words",)

    def __init__(self, words: Iterable[Any], subject: str | None = None) -> None:
        """Check and store the words. Errors name `subject` or, if it is None, the kind of step."""
        self.words: Final = tuple(words)
        for number, word in enumerate(self.words):
            if not (is_job(word) or isinstance(word, granted)):
                convert_argument(
                    word, number, subject or name_in_errors(type(self).__name__, True)
                )

    def __repr__(self) -> str:
        """Show the step as the user wrote it."""
        return self._describe()

    def _describe(self, depth: int | None = None) -> str:
        """Return the step as text, roughly as the user wrote it.

        Args:
            depth: the number of levels of nested calls to show for jobs among the words, or None for all.

        """
        return f"{type(self).__name__}({', '.join(display_text(word, depth) for word in self.words)})"

    def _files_read(self) -> Iterable[Any]:
        return ()

    def _files_written(self) -> Iterable[str]:
        return ()

    def _journal_key(self, words: Sequence[Any]) -> list[Any]:
        """Return a list that identifies the step in a journal, with `words` in place of the step's own."""
        return [type(self).__name__, *words]

    def __eq__(self, other: object) -> bool:
        """Return whether the other object is a step of the same type with the same words."""
        return type(other) is type(self) and other._journal_key(
            other.words
        ) == self._journal_key(self.words)

    def __hash__(self) -> int:
        """Return a hash that is the same for equal steps."""
        return hash((type(self), self.words))


class Command(Step):
    """A command: a line for the shell of the node, or a program and its arguments."""

    __slots__ = ("is_shell_line",)

    def __init__(self, value: str | Template | Sequence[Any], subject: str) -> None:
        """Check and store the parts of the line, or the words. Errors name `subject`."""
        self.is_shell_line: Final = isinstance(value, (str, Template))
        words: Any = value
        if self.is_shell_line:
            words = line_parts(value, subject)
        super().__init__(words, subject)

    def _journal_key(self, words: Sequence[Any]) -> list[Any]:
        key = super()._journal_key(words)
        if self.is_shell_line and len(self.words) > 1:
            key.append({"template": True})
        return key

    def _describe(self, depth: int | None = None) -> str:
        if self.is_shell_line:
            return display_command_line(self.words, True, depth)
        return " ".join(display_text(word, depth) for word in self.words)


class Program(Step):
    """A script with its arguments and included files."""

    __slots__ = ("_include_count",)

    def __init__(self, script: object, args: Iterable[Any], includes: object) -> None:
        """Store the script, its arguments and the included files as words."""
        is_one = is_job(includes) or isinstance(includes, bytes)
        if is_one:
            include_words = (includes,)
        else:
            include_words = path_tuple(includes, "includes", type(self).__name__)
        self._include_count: Final = len(include_words)
        super().__init__((script, *args, *include_words))

    def _split_words(
        self, words: Sequence[Any]
    ) -> tuple[Any, Sequence[Any], Sequence[Any]]:
        """Split the words of the step into the script, its arguments and the included files."""
        args_end = len(words) - self._include_count
        return words[0], words[1:args_end], words[args_end:]

    def _describe(self, depth: int | None = None) -> str:
        script, args, includes = self._split_words(
            [display_text(word, depth) for word in self.words]
        )
        words = [script, *args]
        if includes:
            words.append(f"includes=[{', '.join(includes)}]")
        return f"{type(self).__name__}({', '.join(words)})"

    def _files_read(self) -> Iterable[Any]:
        return [_expand_home(word) for word in self._split_words(self.words)[2]]

    def _journal_key(self, words: Sequence[Any]) -> list[Any]:
        key = super()._journal_key(words)
        if self._include_count:
            key.append({"includes": self._include_count})
        return key


@final
class Script(Program):
    """A local script to run on a node: a step of an `SshJob`.

    Use it for a script in a file.

    The script is read when its step begins, sent to the node, run by the interpreter in its first line (#!) or by
    `/bin/sh`, and removed afterwards.

    Args:
        path: the script, relative to this program's working directory.
        args: the script's arguments: strings, numbers, paths, or jobs, which are replaced by their results.
        includes: local files and directories to copy to the script's directory on the node while it runs. The script
            can load such a file by `. "$(dirname "$0")/functions.sh"`.

    Raises:
        TypeError, ValueError: an argument has the wrong type, or contains a NUL.

    Example:
        >>> Script("warm-up.sh", "--seconds", 3)
        Script(warm-up.sh, --seconds, 3)

    """

    __slots__ = ()

    def __init__(
        self,
        path: Path | AbstractJob[Any],
        /,
        *args: object,
        includes: Iterable[Path | AbstractJob[Any]] = (),
    ) -> None:
        super().__init__(path, args, includes)

    def _files_read(self) -> Iterable[Any]:
        return [_decode_path(self.words[0]), *super()._files_read()]


@final
class ScriptText(Program):
    """The text of a script to run on a node: a step of an `SshJob`.

    Use it for a script that the program makes.

    Args:
        text: the script. It is run by the interpreter in its first line (#!) or by `/bin/sh`.
        args: the script's arguments: strings, numbers, paths, or jobs, which are replaced by their results.
        includes: local files and directories to copy to the script's directory on the node. See `Script`.

    Raises:
        TypeError, ValueError: an argument has the wrong type, or contains a NUL.

    Example:
        >>> ScriptText("for name in $*; do touch $name; done", "a", "b").words[1:]
        ('a', 'b')

    """

    __slots__ = ()

    def __init__(
        self,
        text: str | AbstractJob[Any],
        /,
        *args: object,
        includes: Iterable[Path | AbstractJob[Any]] = (),
    ) -> None:
        super().__init__(text, args, includes)


class CopyStep(Step):
    """A step that copies files. Its last word is the destination."""

    __slots__ = ()

    def __init__(
        self, *sources: Path | AbstractJob[Any], to: Path | AbstractJob[Any]
    ) -> None:
        if not sources:
            raise ValueError(
                f"{type(self).__name__}(): give the files and directories to be copied, and to="
            )
        super().__init__((*sources, to))

    def _describe(self, depth: int | None = None) -> str:
        *sources, to = (display_text(word, depth) for word in self.words)
        return f"{type(self).__name__}({', '.join(sources)}, to={to})"


@final
class Push(CopyStep):
    """Local files and directories to copy to a node: a step of an `SshJob`.

    Use it to send files that the commands on the node need.

    Permissions and modification times are kept. A copy gets its name only when it is complete. A file then replaces a
    file, or goes into a directory that has its name. A directory is merged into a directory that has its name, where
    all else stays. Symbolic links, pipes and devices in directories are skipped.

    Args:
        sources: files and directories, relative to this program's working directory, or jobs, which are replaced by
            their results. A leading `~` is the home directory.
        to: the destination, relative to the node's home directory: the directory for the copies if it ends with a "/"
            or there are several sources, otherwise the path of the copy. Missing directories are created.

    Raises:
        TypeError, ValueError: an argument is not a path, or there is no source.
        ValueError: when the job runs: a source is neither a file nor a directory.

    Example:
        >>> Push("setup.sh", "data", to="experiment/")
        Push(setup.sh, data, to=experiment/)

    """

    __slots__ = ()

    def __init__(
        self, *sources: Path | AbstractJob[Any], to: Path | AbstractJob[Any]
    ) -> None:
        super().__init__(*sources, to=to)
        if is_among(to, ("", b"")):
            raise ValueError(
                f"Push(): to={short_repr(to)} is empty: give a path on the node, or '~'"
            )

    def _files_read(self) -> Iterable[Any]:
        return [_expand_home(word) for word in self.words[:-1]]


@final
class Pull(CopyStep):
    """Files and directories to copy from a node: a step of an `SshJob`.

    Use it to bring results home.

    Permissions and modification times are kept. A copy gets its name only when it is complete. A file then replaces a
    file, or goes into a directory that has its name. A directory is merged into a directory that has its name, where
    all else stays. A copy that another job of the run has pulled is replaced only by a job that requires that one; the
    files in a directory are not compared. Symbolic links in directories are skipped. The result of the step is the list
    of the local paths of the copies. A journal cannot tell whether the files on the node have changed, so an `SshJob`
    of Pulls alone always runs: its `save` is None, unless you set it.

    Args:
        sources: files and directories on the node, relative to the home directory. `*`, `?` and `[...]` are wildcards,
            unless a backslash precedes them. Braces stand for themselves: for `{node}` give `f"{node}.log"`. `tree/.`
            is what is in `tree`. Jobs are replaced by their results.
        to: the destination, relative to this program's working directory: the directory for the copies if it ends with
            a "/" or there are several sources, otherwise the path of the copy. Missing directories are created.
            `{node}` is replaced by the hostname of the node.

    Raises:
        TypeError, ValueError: an argument is not a path, or there is no source.
        ValueError: when the job runs: a job that it does not require has pulled the same copy, or a source is or
            matches `..`, as `.*` does (write `.[!.]*`).

    Example:
        >>> Pull("experiment/*.log", to="logs/{node}/")
        Pull(experiment/*.log, to=logs/{node}/)

    """

    __slots__ = ()

    def __init__(
        self, *sources: Path | AbstractJob[Any], to: Path | AbstractJob[Any]
    ) -> None:
        # Each class has a signature of its own, so that a TypeError names the class.
        super().__init__(*sources, to=to)

    def _files_written(self) -> Iterable[str]:
        """Return the copies with names known before the run: no wildcards, no results of jobs."""
        *sources, to = map(_expand_home, self.words)
        if not is_path(to):
            return []
        if not is_directory(to, len(sources)) and not os.path.isdir(to):
            return [to]
        copies: list[str] = []
        for source in filter(is_path, sources):
            path: str = source.rstrip("/")
            if set(path).isdisjoint("*?["):
                copies.append(os.path.join(to, os.path.basename(path)))
        return copies


def is_directory(to: str, source_count: int) -> bool:
    """Return whether the destination of a `CopyStep` is the directory for its copies, whatever is there."""
    return to.endswith("/") or to == "~" or source_count > 1


def parse_steps(value: object, subject: str) -> tuple[Step, ...]:
    """Parse the `command` of an `SshJob` into its steps.

    Raises:
        TypeError: the command, or an element of it, is not a step.
        ValueError: there is no step, or a list looks like the words of a command.

    """
    if not isinstance(value, list):
        return (_parse_step(value, subject),)
    step_list: list[Any] = value  # pyright: ignore[reportUnknownVariableType]
    if not step_list:
        raise ValueError(f"{subject}: the list of commands is empty: give at least one")
    if any(isinstance(step, str) and step.startswith("-") for step in step_list[1:]):
        line = shown_value(shlex.join(map(str, step_list)), subject)
        words = shown_value(tuple(step_list), subject)
        raise ValueError(
            f"{subject}: a list contains several commands, which run one after another; "
            f"for one command with arguments write a string, {line}, or a tuple: {words}"
        )
    return tuple(_parse_step(step, subject) for step in step_list)


def _parse_step(value: object, subject: str) -> Step:
    if isinstance(value, Step):
        return value
    if isinstance(value, (str, tuple, Template)):
        if not value or (isinstance(value, str) and not value.strip()):
            raise ValueError(f"{subject}: the command is empty")
        return Command(value, subject)  # pyright: ignore[reportUnknownArgumentType]
    raise TypeError(
        f"{subject}: {shown_value(value, subject)} is not a command: give a command (a string, or a tuple of words), "
        f"a Script, a ScriptText, a Push, a Pull, or several of these in a list"
    )


class PlaceholderValues:
    """The values of the placeholders in braces, which are `{node}` and the names in `values=`."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.by_name: Final = dict(values)
        self._pattern: Final = re.compile(
            "|".join(re.escape(f"{{{name}}}") for name in self.by_name)
        )

    def fill(self, text: str) -> str:
        """Replace the placeholders in a text with their values. Keep other braces."""
        return self._pattern.sub(lambda match: str(self.by_name[match[0][1:-1]]), text)

    def split(self, parts: Sequence[Any]) -> tuple[list[Any], list[str]]:
        """Split the texts of a line at their placeholders.

        Returns:
            The parts of the line, with the values at the odd places, and the names of these values in errors.

        """
        split_parts = list[Any]()
        names = list[str]()
        for number, part in enumerate(parts):
            if number % 2:
                split_parts.append(part)
                names.append("a value")
                continue
            text, *others = re.split(f"({self._pattern.pattern})", os.fsdecode(part))
            split_parts.append(text)
            for placeholder, following in zip(others[::2], others[1::2], strict=True):
                split_parts += self.by_name[placeholder[1:-1]], following
                names.append(placeholder)
        return split_parts, names


def _expand_home(word: Any) -> Any:
    """Expand a leading `~` in a word that is a path. Return other words unchanged."""
    word = _decode_path(word)
    if is_path(word):
        return os.path.expanduser(word)
    return word


def _decode_path(value: object) -> Any:
    if isinstance(value, bytes):
        return os.fsdecode(value)
    return value


def interpreter(script: bytes) -> list[str]:
    """Return the command that interprets a script.

    It is the interpreter in the script's first line (#!), with an argument at most, as the kernel parses it. Without
    such a line, it is `/bin/sh`.
    """
    words: list[str] = []
    if script.startswith(b"#!"):
        first, _, _ = script[2:].partition(b"\n")
        words = os.fsdecode(first).strip().split(None, 1)
    return words or ["/bin/sh"]
