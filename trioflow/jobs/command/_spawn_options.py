"""The options of `CommandJob` and `SshJob` that concern their processes, checked when the job is created."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from subprocess import DEVNULL, PIPE, STDOUT
from typing import Any, Final, Literal, get_args

from ... import abc
from ..._core.base._text_forms import is_among, name_in_errors, shown_value
from ..._core.job._function import reject_text
from ..._core.job._job_options import callback, duration, file_path, flag
from . import _argv, _result

PinOption = Literal["slot"]
LeftoversOption = Literal["wait", "end"]
AnyPath = str | bytes | os.PathLike[str] | os.PathLike[bytes]
SUBPROCESS_CONSTANTS: Final = (PIPE, DEVNULL, STDOUT)
DESCRIPTOR_LIMIT: Final = 1 << 31
"""The first number that is too large for a descriptor, which is a C `int`."""


def subject_of(options: abc.JobOptions, kind: str) -> str:
    """Return the name of a job that is made with these options, for errors."""
    label = repr(options.get("label") or kind)
    return name_in_errors(label, options.get("redact", False))


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """The options of a command that concern its process. See `CommandJob`."""

    shell: bool = False
    cwd: Any = None
    env: Mapping[bytes, bytes] | None = None
    stdin: Any = None
    stdout: Any = None
    stderr: Any = None
    # None: any exit code counts as success.
    success_codes: frozenset[int] | None = _result.ZERO_ONLY
    terminate_grace: float = 5.0
    # Called with the job.
    on_start: Callable[[Any], object] | None = None
    # The job and a line.
    on_line: Callable[[Any, str], object] | None = None
    tag: bool | str = False
    nice: int | None = None
    memory_limit: int | None = None
    pin: PinOption | None = None
    leftovers: LeftoversOption = "wait"
    append: bool = True

    def validate(self, subject: str) -> None:
        """Check the options of the job called `subject`.

        Raises:
            TypeError, ValueError: an option is invalid.

        """
        reject_text(
            (self.cwd, self.env, self.stdin, self.stdout, self.stderr),
            f"an option of {subject}",
        )
        duration(self.terminate_grace, "terminate_grace", subject)
        for name in ("on_start", "on_line"):
            callback(getattr(self, name), name, subject)
        if not is_among(self.pin, (None, *get_args(PinOption))):
            raise ValueError(
                f"pin={shown_value(self.pin, subject)} of {subject}: choose 'slot' or None"
            )
        if not is_among(self.leftovers, get_args(LeftoversOption)):
            choices = " or ".join(map(repr, get_args(LeftoversOption)))
            raise ValueError(
                f"leftovers={shown_value(self.leftovers, subject)} of {subject}: choose {choices}"
            )
        if self.pin is not None and not hasattr(os, "sched_setaffinity"):
            raise ValueError(
                f"pin={shown_value(self.pin, subject)} of {subject}: this system binds no process to CPUs"
            )
        flag(self.append, "append", subject)
        if not isinstance(self.tag, (bool, str)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"tag={shown_value(self.tag, subject)} of {subject}: "
                f"give True, False, or a template such as '{{label}}: '"
            )
        if self.cwd is not None and not isinstance(self.cwd, bytes):
            # On a node, "~/x" is in the home directory. Here, a missing directory is named at the start.
            file_path(self.cwd, "cwd", subject, expands=True)
        _argv.check_stdin(self.stdin, subject)
        if isinstance(self.stdin, int) and self.stdin in (
            PIPE,
            STDOUT,
        ):
            raise ValueError(
                f"stdin of {subject}: PIPE and STDOUT are only for output; give bytes, a path, an open file, or a job"
            )
        self._check_output("stdout", self.stdout, subject)
        self._check_output("stderr", self.stderr, subject)

    def check_files_open(self, subject: str) -> None:
        """Check that the files given by the user are still open, before the command starts.

        Raises:
            ValueError: a file is closed.

        """
        for name in ("stdin", "stdout", "stderr"):
            if getattr(getattr(self, name), "closed", False) is True:
                raise ValueError(
                    f"{name} of {subject} is a closed file: keep it open until the job has ended"
                )

    def work(
        self,
        what: str,
        arguments: Sequence[Any],
        stdin_job: Any,
        options: Mapping[str, Any],
        reads: Iterable[Any] = (),
    ) -> abc.Work:
        """Return the description of a job with these options for a journal.

        Standard input and the kinds of the outputs become options, too. The files of the streams are files read and
        written.

        Args:
            what: the kind of work.
            arguments: the arguments of the work.
            stdin_job: the job whose result is standard input, or None if it is no job.
            options: the other options that count, by name.
            reads: files that the job reads, besides the files of these options.

        """
        input_files: list[Any] = []
        stdin: object = stdin_job
        if is_path(self.stdin):
            input_files = [self.stdin]
        elif stdin_job is None:
            stdin = self.stdin
        files_written = [
            stream for stream in (self.stdout, self.stderr) if is_path(stream)
        ]
        return abc.Work(
            what=what,
            arguments=arguments,
            options={
                **options,
                "option stdin=": stdin,
                "option stdout=": _output_kind(self.stdout),
                "option stderr=": _output_kind(self.stderr),
            },
            reads=[*input_files, *reads],
            appends=files_written if self.append else (),
            begins_anew=() if self.append else files_written,
            rejects=self._describe_failure_now,
        )

    def _describe_failure_now(self, result: object) -> str | None:
        """Return how a stored result, or any result of several commands, fails by the present `check`."""
        results: list[Any] = result if type(result) is list else [result]  # pyright: ignore[reportUnknownVariableType]
        for item in results:
            code = getattr(item, "returncode", None)
            if code is not None:
                failure = _result.describe_failure(self.success_codes, code)
                if failure is not None:
                    return f"by check=, it would have failed now: {failure}"
        return None

    def _check_output(self, name: str, value: object, subject: str) -> None:
        is_open_file = value is None or hasattr(value, "write")
        is_target = is_open_file or is_path(value) or isinstance(value, int)
        if isinstance(value, (bytes, bool)) or not is_target:
            raise TypeError(
                f"{name}={shown_value(value, subject)} of {subject}: "
                "give a path, an open file, None, or subprocess.PIPE, DEVNULL or STDOUT"
            )
        if is_path(value):
            file_path(value, name, subject)
        if (
            isinstance(value, int)
            and not min(SUBPROCESS_CONSTANTS) <= value < DESCRIPTOR_LIMIT
        ):
            raise ValueError(
                f"{name}={shown_value(value, subject)} of {subject}: invalid file descriptor"
            )
        if name == "stdout" and isinstance(value, int) and value == STDOUT:
            raise ValueError(
                f"stdout=STDOUT of {subject}: only stderr= can be STDOUT, which merges it into stdout"
            )
        passes_lines = self.on_line is not None or self.tag
        if passes_lines and value is not None and value not in SUBPROCESS_CONSTANTS:
            raise ValueError(
                f"{name}={shown_value(value, subject)} of {subject}: with on_line or tag, output is passed on line "
                f"by line; leave {name} out, or give PIPE to capture it as well"
            )


def path_tuple(value: object, name: str, subject: str) -> tuple[Any, ...]:
    """Return the value of the option `name`, which is a path or an iterable of paths, as a tuple.

    Raises:
        TypeError: `value` is neither a path nor an iterable.

    """
    if is_path(value):
        return (value,)
    if isinstance(value, bytes) or not isinstance(value, Iterable):
        raise TypeError(
            f"{name}={shown_value(value, subject)} of {subject}: give a list of paths"
        )
    return tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def is_path(value: object) -> bool:
    return isinstance(value, (str, os.PathLike))


def _output_kind(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) and value in SUBPROCESS_CONSTANTS:
        return {
            PIPE: "PIPE",
            DEVNULL: "DEVNULL",
            STDOUT: "STDOUT",
        }[value]
    return "path" if is_path(value) else "file"
