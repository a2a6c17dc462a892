"""The input of a command: its arguments, its environment, placeholders in both, and lines for a shell.

A line for a shell is a sequence of parts. Texts have the even places, and the values of a t-string (Python 3.14)
between them have the odd places. The shell gets each value as a single word.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, final

from ... import abc
from ..._core.base._text_forms import fit, name_in_errors, shown_value
from ..._core.job._job import is_job
from ..._core.job._job_options import flag, needs_expansion
from ..._core.run._current import propagated_env
from ._output_sinks import OutputSpool
from ._result import CommandResult, read_output
from ._shell_places import (
    COMMENT,
    VALUE,
    UnsafePlaceError,
    check_places,
    mark_of,
    quote,
)

if sys.version_info >= (3, 14):
    from string.templatelib import Template as Template
else:

    class Template:
        """The type of t-strings, which this version of Python does not have."""


SHELL: Final = "/bin/sh"
"""The shell of `shell=True`."""
MAX_LABEL_LENGTH: Final = 60
# These types are annotated as Any, because isinstance() with a generic class narrows a value to a partly unknown type.
PATH_LIKE_TYPE: Final[Any] = os.PathLike
BYTES_TYPES: Final[Any] = (bytes, bytearray, memoryview)
JOB_TYPE: Final[Any] = abc.AbstractJob
SHELL_SIGNS: Final = frozenset("|&;<>()$`*?[\"'\\")
"""Characters that have a meaning only in a shell."""
SHELL_WORDS: Final = frozenset(
    {"|", "||", "&&", "&", ";", "<", ">", ">>", "2>", "2>&1"}
)
"""Arguments that a newcomer writes for a shell, which no shell sees."""
FILE_PATTERN: Final = re.compile(r"(\S*/)?\*(\.\w+)?")
"""Matches a pattern for names of files, such as "data/*.csv"."""
MAX_LABEL_ARGUMENTS_PER_END: Final = 20
"""The maximum number of arguments from the start of a command, and also from its end, in a default label."""


def check_arguments(command: Any, shell: bool, subject: str) -> tuple[Any, ...]:
    """Check the user's command, and return its arguments, with jobs and placeholders unchanged.

    Raises:
        TypeError: the command is not a list, or, with `shell`, not a string. Or an element cannot be an argument.
        ValueError: the command is empty, or an argument contains a NUL.

    """
    if flag(shell, "shell", subject):
        if not isinstance(command, (str, bytes, JOB_TYPE, Template)):
            raise TypeError(
                f"{subject}: with shell=True give one string, not {shown_value(command, subject)}"
            )
        parts = line_parts(command, subject, SHELL)
        if (
            len(parts) == 1
            and isinstance(parts[0], (str, bytes))
            and not parts[0].strip()
        ):
            raise ValueError(f"{subject}: the command is empty: give a command line")
        command = SHELL, "-c", *parts
    elif isinstance(
        command, (str, bytes, PATH_LIKE_TYPE, JOB_TYPE, Template)
    ) or not hasattr(command, "__iter__"):
        example = ""
        if isinstance(command, (str, bytes, PATH_LIKE_TYPE, JOB_TYPE)):
            text = display_text(command)
            if SHELL_SIGNS.intersection(text):
                words = ["sh", "-c", text]
            else:
                words = text.split()
            example = f", such as CommandJob({shown_value(words, subject)})"
        raise TypeError(
            f"{subject}: found {shown_value(command, subject)}; give a list{example}, or a string with shell=True"
        )
    arguments: tuple[Any, ...] = tuple(command)
    if not arguments:
        raise ValueError(
            f"{subject}: the command is empty: give a program and its arguments"
        )
    for number, argument in enumerate(arguments):
        if not isinstance(argument, (JOB_TYPE, granted)):
            convert_argument(argument, number, subject)
    if isinstance(arguments[0], (str, bytes)) and not arguments[0]:
        raise ValueError(f"{subject}: argument 0 is empty: give the name of a program")
    return arguments


def shell_advice(command: Sequence[str | bytes]) -> str:
    """Return the advice for a failed command that has a word for a shell among its arguments, or ""."""
    for word in command:
        text = os.fsdecode(word)
        is_pattern = FILE_PATTERN.fullmatch(text) is not None
        if text in SHELL_WORDS or is_pattern or needs_expansion(text):
            return f"{word!r} is an argument here; for a shell, give one string and shell=True"
    return ""


def convert_argument(argument: object, number: int | str, subject: str) -> str | bytes:
    """Convert an argument to a string or bytes. A `CommandResult` becomes its output, as in a shell's `$(...)`.

    Args:
        argument: the argument, which must not be a placeholder.
        number: the position of the argument, for error messages.
        subject: the name of the job, for error messages.

    Raises:
        TypeError: the argument cannot be converted, or is a result without captured output.
        ValueError: the argument contains a NUL.

    """
    value: Any = argument
    result: Any = argument
    if isinstance(argument, CommandResult):
        result = cast(
            bytes,
            read_output(_captured_output(argument, f"{subject}: argument {number}")),
        ).rstrip(b"\n")
    elif isinstance(argument, (int, float)) and not isinstance(argument, bool):
        result = str(argument)
    elif isinstance(argument, PATH_LIKE_TYPE):
        result = os.fspath(value)  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(result, (str, bytes)):
        raise TypeError(
            f"{subject}: argument {number} is {shown_value(argument, subject)}, a {type(argument).__name__}: "
            f"give a string, bytes, a path, a number, or a job whose result is one"
        )
    if b"\0" in os.fsencode(result):
        raise ValueError(
            f"{subject}: argument {number} contains a NUL, which cannot be passed to a program"
        )
    return result


def _captured_output(result: CommandResult, subject: str) -> bytes | OutputSpool:
    if result._stdout is None:
        raise TypeError(
            f"{subject} is the result of a command whose output was not captured: "
            f"give that command stdout=subprocess.PIPE"
        )
    return result._stdout


def fill_argument(
    value: object, place: int | str, job: abc.AbstractJob[Any]
) -> str | bytes:
    """Convert an argument of a job to a string or bytes, with its granted resources filled in. Errors name `place`."""
    filled = value
    if isinstance(value, granted):
        filled = value.text(job)
    return convert_argument(filled, place, name_in_errors(repr(job.label), job.redact))


def fill_word(value: object, place: int | str, job: abc.AbstractJob[Any]) -> str:
    """Return a word of a step, or the value of a placeholder, as text, with the granted resources filled in."""
    return os.fsdecode(fill_argument(value, place, job))


def check_stdin(value: Any, subject: str) -> Any:
    """Check that `value` can be the standard input of a command, and return it, or the output of a `CommandResult`.

    Raises:
        TypeError: the value is not bytes, a captured output, a path, a file descriptor, an open file that has a
            descriptor, or None.

    """
    if isinstance(value, CommandResult):
        return _captured_output(value, f"stdin of {subject}")
    if not isinstance(value, bool):
        if value is None or isinstance(
            value, (*BYTES_TYPES, OutputSpool, int, str, PATH_LIKE_TYPE)
        ):
            return value
        with contextlib.suppress(AttributeError, OSError, ValueError):
            # Raises an error for an io.BytesIO, which has this method but no descriptor.
            value.fileno()
            return value
    raise TypeError(
        f"stdin of {subject}: {shown_value(value, subject)}, a {type(value).__name__}: "
        f"give bytes, a path, an open file, or a job"
    )


def join_command(arguments: Iterable[str | bytes], shell: bool) -> str:
    """Return a command as a line: the script of `sh -c` if `shell`, otherwise the arguments, quoted where needed."""
    words = [os.fsdecode(argument) for argument in arguments]
    if shell:
        return words[2]
    return shlex.join(words)


def display_command_line(
    command: Sequence[Any], shell: bool, depth: int | None = None
) -> str:
    """Join the user's command into a shell command line, with jobs replaced by their labels. See `display_text`."""
    if not shell:
        return " ".join(_quoted_text(word, depth) for word in command)
    return "".join(
        (_quoted_text if number % 2 else display_text)(part, depth)
        for number, part in enumerate(command)
    )


def default_label(command: Sequence[Any], shell: bool, depth: int) -> str:
    """Return the default label of a command: its shortened command line, with labels nested at most `depth` deep."""
    if not shell and len(command) > 2 * MAX_LABEL_ARGUMENTS_PER_END:
        command = (
            *command[:MAX_LABEL_ARGUMENTS_PER_END],
            "…",
            *command[-MAX_LABEL_ARGUMENTS_PER_END:],
        )
    return shorten_command_line(display_command_line(command, shell, depth))


def shorten_command_line(text: str) -> str:
    """Shorten a command line to `MAX_LABEL_LENGTH` characters by omitting its middle, and put it on a single line."""
    # First to a length with which the blanks are found quickly.
    text = fit(text, 4 * MAX_LABEL_LENGTH, keep="ends")
    return fit(" ".join(text.split()), MAX_LABEL_LENGTH, keep="ends")


def _quoted_text(argument: object, depth: int | None) -> str:
    text = display_text(argument, depth)
    if isinstance(argument, (JOB_TYPE, granted)) or text == "…":
        return text
    return shlex.quote(text)


def display_text(argument: Any, depth: int | None = None) -> str:
    """Return an argument as text for display. A job is shown by its label in angle brackets.

    If `depth` is given, the text is for a default label, whose labels of jobs are nested at most `depth` deep.
    """
    if isinstance(argument, JOB_TYPE):
        if depth is None:
            label = argument.label
        else:
            label = abc.label_inside(argument, depth)
        return f"<{label}>"
    if isinstance(argument, (bytes, PATH_LIKE_TYPE)):
        return os.fsdecode(argument)
    return str(argument)


# ---- placeholders for granted resources


@final
@dataclass(frozen=True, slots=True)
class granted:
    r"""A placeholder for granted resources, in the arguments or `env` of a `CommandJob` or `SshJob`.

    Use it when a command has to know which units it got.

    It is replaced when the job starts. Named units are replaced by their names, joined by commas as
    `CUDA_VISIBLE_DEVICES` requires. A `Rate` is replaced by the amounts taken, such as `requests=1,tokens=800`. Any
    other resource is replaced by the granted amount.

    Args:
        name: the name of a resource that the job needs.

    Raises:
        ValueError: the job does not need this resource. Raised when the job is created.

    Example:
        >>> import subprocess
        >>> job = CommandJob(["echo", granted("gpu")], needs={"gpu": 2}, stdout=subprocess.PIPE)
        >>> Scheduler(job, pool=Pool(gpu=["0", "1", "2"])).run()
        True
        >>> job.result().stdout
        b'0,1\n'

    """

    name: str

    def text(self, job: abc.AbstractJob[Any]) -> str:
        """Return the resources granted to `job`, as text."""
        grant = job.granted[self.name]
        if isinstance(grant, Mapping):
            return ",".join(f"{key}={amount}" for key, amount in grant.items())  # pyright: ignore[reportUnknownVariableType]
        if isinstance(grant, (int, float)):
            return str(grant)
        return ",".join(map(str, grant))

    def __str__(self) -> str:
        """Return the placeholder as it appears in labels."""
        return f"{{{self.name}}}"


def check_placeholders(
    values: Iterable[Any], job: abc.AbstractJob[Any], subject: str
) -> None:
    """Check that the job needs the resource of each placeholder among the values.

    Raises:
        ValueError: a placeholder names a resource that the job does not need.

    """
    for value in values:
        if isinstance(value, granted) and value.name not in job.needs:
            raise ValueError(
                f"{subject}: it uses granted({value.name!r}), but does not need that resource: "
                f"add needs={{{value.name!r}: 1}}, or remove granted()"
            )


# ---- the environment


def encode_environment(
    env: Mapping[Any, Any] | None, subject: str
) -> dict[bytes, bytes] | None:
    """Encode an environment as bytes, with an empty value for each `granted()` placeholder. If it is None, return None.

    Raises:
        TypeError, ValueError: a name or value cannot be in an environment.

    """
    if env is None:
        return None
    check_mapping(env, "env", subject)
    if _is_encoded(env):
        return dict(env)
    variables: dict[bytes, bytes] = {}
    for name, given in env.items():
        value = "" if isinstance(given, granted) else given
        try:
            encoded_name = os.fsencode(name)
            encoded_value = os.fsencode(value)
        except TypeError:
            raise TypeError(
                f"env of {subject}: {shown_value(name, subject)}: {shown_value(value, subject)}; "
                "names and values must be strings"
            ) from None
        if (
            b"=" in encoded_name
            or b"\0" in encoded_name + encoded_value
            or not encoded_name
        ):
            raise ValueError(
                f"env of {subject}: {shown_value(name, subject)}: {shown_value(value, subject)}; "
                f"a name must not be empty or contain '=', and neither may contain a NUL"
            )
        variables[encoded_name] = encoded_value
    return variables


def counted_variables(
    env: Mapping[bytes, bytes] | None, redact: bool
) -> dict[str, Any]:
    """Return the variables that count in a journal, by name: variables that differ from this program's.

    The others differ between any two terminals. If variables of this program are missing, the names count, too.
    """
    own: Mapping[bytes, bytes] = getattr(os, "environb", {})
    counted = {
        name: value for name, value in (env or {}).items() if own.get(name) != value
    }
    if env is None or own.keys() <= env.keys():
        names = None
    else:
        names = abc.HashOnly(sorted(env))
    variables: dict[str, Any] = {}
    if redact:
        variables["environment"] = None
        if counted:
            variables["environment"] = abc.HashOnly(counted)
    else:
        for name, value in counted.items():
            variables[f"variable {os.fsdecode(name)!r}"] = abc.HashOnly(value)
    variables["set of variables"] = names
    return variables


def propagated_variables(
    get_command_variable: Callable[[str], str | None],
) -> Mapping[str, str]:
    """Return the current job's variables for a command's environment, except those that the user has set with `env=`.

    Args:
        get_command_variable: a function that returns the value of a variable in the command's `env=`, or None if the
            variable is not there. A value that is the same in this program's environment does not count as set by
            the user.

    """
    variables: dict[str, str] = {}
    for name, value in propagated_env().items():
        user_value = get_command_variable(name)
        if user_value is None or user_value == os.environ.get(name):
            variables[name] = value
    return variables


def check_mapping(value: object, name: str, subject: str) -> None:
    """Check that the value of the option `name` is a mapping.

    Raises:
        TypeError: the value is not a mapping.

    """
    if not isinstance(value, Mapping):
        raise TypeError(
            f"{name} of {subject}: found {type(value).__name__}; give a dict of names and values, or None"
        )


def _is_encoded(env: Mapping[Any, Any]) -> bool:
    """Return whether an environment consists of valid bytes, so that it needs no conversion.

    All names and values are checked together for speed. A batch passes the same environment to each command. Checking a
    hundred variables one by one would take a fifth of the batch's CPU time.
    """
    if not {*map(type, env), *map(type, env.values())} <= {bytes} or b"" in env:
        return False
    names = b"".join(env)
    return b"=" not in names and b"\0" not in names + b"".join(env.values())


def variables_with_placeholders(env: Mapping[Any, Any] | None) -> dict[bytes, granted]:
    """Return the variables whose values are `granted()` placeholders, to be filled in when the command starts."""
    if not env or granted not in map(type, env.values()):
        return {}
    placeholders: dict[bytes, granted] = {}
    for name, value in env.items():
        if isinstance(value, granted):
            placeholders[os.fsencode(name)] = value
    return placeholders


# ---- lines for a shell

CONVERSIONS: Final[Mapping[str, Callable[[object], str]]] = {
    "r": repr,
    "s": str,
    "a": ascii,
}


def line_parts(line: object, subject: str, shell: str = "") -> tuple[Any, ...]:
    """Return the parts of a line, which is a t-string, or anything else as the only part.

    `shell` is the path of the shell that will run it, or "" if that may be any.

    Raises:
        TypeError: a value with a format or a conversion is a job or a placeholder, which has no text yet.
        ValueError: the t-string is empty, or a value is at a place where quoting does not protect it, as inside quotes.

    """
    if not isinstance(line, Template):
        return (line,)
    template = cast(Any, line)
    text, *texts = template.strings
    if not texts and not text.strip():
        raise ValueError(f"{subject}: the command is empty: give a command line")
    parts = [text]
    names = [
        shown_value(f"{{{each.expression}}}", subject)
        for each in template.interpolations
    ]
    for interpolation, name, text in zip(
        template.interpolations, names, texts, strict=True
    ):
        value = interpolation.value
        if interpolation.conversion or interpolation.format_spec:
            if is_job(value) or isinstance(value, granted):
                raise TypeError(
                    f"{subject}: {name} has no value yet: remove its conversion and format"
                )
            if (convert := CONVERSIONS.get(interpolation.conversion)) is not None:
                value = convert(value)
            value = format(value, interpolation.format_spec)
        parts += value, text
    check_line(parts, names, subject, shell)
    return tuple(parts)


def check_line(
    parts: Sequence[Any], names: Sequence[str], subject: str, shell: str = ""
) -> None:
    """Check that the values of a line are where quoting protects them.

    Args:
        parts: the parts of the line, with jobs and placeholders for values that are not known yet.
        names: the names of the values in errors.
        subject: the name of the job, for errors.
        shell: the path of the shell that will run the line, or "" if it may be any.

    Raises:
        ValueError: a value is somewhere else.

    """
    marks = [mark_of(_known_text(value)) for value in parts[1::2]]
    texts = [*map(os.fsdecode, parts[::2])]
    try:
        places = check_places(texts, marks, shell)
        for number, mark in enumerate(marks):
            if mark == VALUE and places[number] == COMMENT:
                raise UnsafePlaceError(
                    number, "in a comment", "put it where a word of its own may be"
                )
    except UnsafePlaceError as place:
        raise ValueError(
            f"{subject}: {names[place.number]} is {place.name}, where the quotes around each value do not protect it: "
            f"{place.remedy}"
        ) from None


def _known_text(value: object) -> str:
    """Return the text of a value that is known, and otherwise the empty text, which needs quotes."""
    if isinstance(value, (int, float)):
        return str(value)
    if not isinstance(value, (str, bytes, os.PathLike)):
        return ""
    return os.fsdecode(cast(Any, value))


def join_line(parts: Sequence[str | bytes], shell: str = "") -> str | bytes:
    """Join the parts of a line for this shell, or for any, with each value quoted."""
    if len(parts) == 1:
        return parts[0]
    texts = [*map(os.fsdecode, parts)]
    places = check_places(texts[::2], [*map(mark_of, texts[1::2])], shell)
    texts[1::2] = map(quote, texts[1::2], places)
    return "".join(texts)
