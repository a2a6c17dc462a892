"""`CommandResult`, the result of a command, `CommandError`, its failure, and `check=`, the codes of success."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Iterable
from typing import Any, BinaryIO, Final, Literal, final

from ..._core.base._text_forms import fit, shown_value
from ..._core.job._errors import JobTimeout, TrioflowError
from ...abc import AbstractJob, printable
from ..posix._processes import Rusage, as_signal, describe_exit
from ._output_sinks import MAX_TAIL_BYTES, OutputSpool

RSS_UNIT_BYTES: Final = 1 if sys.platform == "darwin" else 1024


@final
class CommandResult:
    r"""The result of a run of a command: how it ended, the resources it used, and its captured output.

    Attributes:
        returncode: the exit code or, if a signal ended the process, the signal's negative number, as in `subprocess`.
        signal: the signal that ended the process, as a `signal.Signals`, or as an int if the signal has no name. None
            if the process exited by itself.
        elapsed: seconds from the start of the process until its whole group had ended.
        pid: the id of the process, or None for a command on a node, and for a result restored from a journal.
        user_time: CPU seconds in user mode, of the process and the children that it waited for.
        system_time: CPU seconds in the kernel, of the same processes.
        max_rss: the peak resident memory, in bytes, of the largest of these processes, or None if unknown. On Linux the
            peak is unknown if it does not exceed the peak of this program itself when the command was started, because
            the kernel includes the moment before exec, when the process is a copy of this program.
        max_rss_bound: if `max_rss` is None, a number of bytes that the peak has not exceeded, if known, otherwise None.

    Example:
        >>> import subprocess
        >>> job = CommandJob(["echo", "hello"], stdout=subprocess.PIPE)
        >>> Scheduler(job).run()
        True
        >>> job.result().returncode, job.result().stdout
        (0, b'hello\n')

    """

    def __init__(
        self,
        returncode: int,
        elapsed: float,
        usage: Rusage,
        stdout: bytes | OutputSpool | None,
        stderr: bytes | OutputSpool | None,
        rss_before_exec: int = 0,
        pid: int | None = None,
    ) -> None:
        self.returncode: Final = returncode
        self.signal: Final = as_signal(-returncode) if returncode < 0 else None
        self.elapsed: Final = elapsed
        self.pid: Final = pid
        self.user_time: Final = round(usage.ru_utime, 6)
        self.system_time: Final = round(usage.ru_stime, 6)
        max_rss: int | None = None
        max_rss_bound: int | None = None
        if usage.ru_maxrss > rss_before_exec:
            max_rss = usage.ru_maxrss * RSS_UNIT_BYTES
        else:
            # The peak may be of the copy of this program, before exec.
            max_rss_bound = rss_before_exec * RSS_UNIT_BYTES or None
        self.max_rss: Final = max_rss
        self.max_rss_bound: Final = max_rss_bound
        self._stdout: Final = stdout
        self._stderr: Final = stderr

    @property
    def stdout(self) -> bytes | None:
        """The bytes of standard output, or None if it was not captured.

        Output of more than 1 MiB is on disk, and each access reads it into memory. For large output, use `open`.
        """
        return read_output(self._stdout)

    @property
    def stderr(self) -> bytes | None:
        """The bytes of standard error, or None if it was not captured. See `stdout`."""
        return read_output(self._stderr)

    @property
    def text(self) -> str:
        r"""The standard output, decoded as UTF-8.

        Bytes that are not valid UTF-8 become U+FFFD, the replacement character. `stdout` has the original bytes.

        Raises:
            ValueError: standard output was not captured.

        Example:
            >>> import subprocess
            >>> job = CommandJob(["printf", "6\n7\n"], stdout=subprocess.PIPE)
            >>> Scheduler(job).run()
            True
            >>> [int(line) for line in job.result().text.splitlines()]
            [6, 7]

        """
        if (output := self.stdout) is None:
            raise _not_captured_error("stdout")
        return output.decode(errors="replace")

    def open(self, stream: Literal["stdout", "stderr"] = "stdout") -> BinaryIO:
        """Return the captured output as a binary file, positioned at its start. Output on disk is not read into memory.

        Args:
            stream: "stdout" or "stderr".

        Raises:
            ValueError: the stream was not captured.

        """
        if (
            output := {"stdout": self._stdout, "stderr": self._stderr}.get(stream)
        ) is None:
            raise _not_captured_error(stream)
        if isinstance(output, OutputSpool):
            return output.open()
        return io.BytesIO(output)

    def __repr__(self) -> str:
        """Show the exit code or signal, the captured output or its size, and the duration."""
        fields = [f"returncode={self.returncode}"]
        if self.signal is not None:
            fields = [f"signal={getattr(self.signal, 'name', self.signal)}"]
        for name, output in (("stdout", self._stdout), ("stderr", self._stderr)):
            if output is not None:
                shown = f"{len(output)} bytes"
                if len(output) <= 60:
                    shown = repr(output)
                fields.append(f"{name}={shown}")
        return f"<CommandResult {', '.join(fields)}, {self.elapsed:.3f} s>"


def read_output(output: bytes | OutputSpool | None) -> bytes | None:
    """Return captured output as bytes, read into memory if it is on disk."""
    if isinstance(output, OutputSpool):
        return output.read()
    return output


def _not_captured_error(stream: str) -> ValueError:
    return ValueError(
        f"{stream!r} was not captured: give the job {stream}=subprocess.PIPE"
    )


class CommandError(TrioflowError):
    """A command could not be started, or has failed: by its exit code, a signal, or a missing output file.

    Attributes:
        job: the job that ran the command.
        command: the command line, quoted as for a shell, or "command …" for a job with `redact=True`.
        returncode: the exit code, or the negative number of a signal, or None if there is no result.
        result: the `CommandResult`, or None if the command was not started, if it was ended because `nice` could not be
            set, or if its exit code could not be collected.
        stderr: the end of standard error, if it was captured or written to a file, otherwise None.

    """

    # The first access to `trioflow.CommandError` sets this, but tracebacks must show the public name even before that.
    __module__ = "trioflow"

    def __init__(
        self,
        job: AbstractJob[Any],
        command: str,
        failure: str,
        result: CommandResult | None = None,
        stderr: bytes | None = None,
        stream_name: str = "standard error",
        advice: str = "",
    ) -> None:
        self.job: AbstractJob[Any] = job
        self.command: str = REDACTED_COMMAND if job.redact else command
        self.result: CommandResult | None = result
        self.returncode: int | None = None
        self.stderr: bytes | None = stderr
        shown = fit(self.command, MAX_COMMAND_LENGTH, ellipsis="...")
        # The command may contain names of files, which need not be printable.
        shown = "\n".join(map(printable, shown.split("\n")))
        message = f"{failure}. The command: {shown}"
        if result is not None:
            self.returncode = result.returncode
            message = f"{failure}: {shown}"
        if stderr and stderr.strip() and not job.redact:
            # The output may quote redacted arguments.
            message += f". Its {stream_name} ended with:\n" + stderr.strip().decode(
                errors="backslashreplace"
            )
        super().__init__(message, advice)


def text_with_notes(error: BaseException) -> str:
    """Return the text of an exception and its notes, which have the advice, as a single line."""
    return "; ".join([str(error), *getattr(error, "__notes__", ())])


def captured_tail(
    result: CommandResult, stream: Literal["stdout", "stderr"]
) -> bytes | None:
    """Return the last bytes of a stream of an ended command, or None if it was not captured."""
    if (output := {"stdout": result._stdout, "stderr": result._stderr}[stream]) is None:
        return None
    with result.open(stream) as file:
        file.seek(max(0, len(output) - MAX_TAIL_BYTES))
        return file.read(MAX_TAIL_BYTES)


def with_output(
    error: JobTimeout, result: CommandResult, stderr: bytes | None = None
) -> None:
    """Add the output of a command to its timeout, unless the job is redacted.

    Args:
        error: the timeout.
        result: the result of the command, which was ended.
        stderr: the end of standard error, if it was not captured.

    """
    outputs = {
        "output": captured_tail(result, "stdout"),
        "error": captured_tail(result, "stderr") or stderr,
    }
    for name, tail in outputs.items():
        if tail and tail.strip() and not error.job.redact:
            # The output may quote redacted arguments.
            error.add_note(
                f"Its standard {name} ended with:\n{tail.strip().decode(errors='backslashreplace')}"
            )


REDACTED_COMMAND: Final = "command …"
MAX_COMMAND_LENGTH: Final = 500


# ---- the option `check=` of every job that runs a command

CheckOption = bool | Iterable[int | str]
"""The type of `check=`: True (only exit code 0), False (any exit), or exit codes and names of signals."""
ZERO_ONLY: Final = frozenset([0])
MAX_EXIT_CODE: Final = 255
SIGNAL_OFFSET: Final = 128
"""If a signal ends a command, a shell reports this number plus the number of the signal as the exit code."""


def parse_check(check: CheckOption, subject: str) -> frozenset[int] | None:
    """Return the exit codes that count as success, with signals as negative numbers, or None if all count as success.

    Raises:
        TypeError, ValueError: `check` is neither a bool nor a list, the list is empty, or an element of the list is
            neither an exit code nor a signal.

    """
    if isinstance(check, bool):
        return ZERO_ONLY if check else None
    if isinstance(check, (str, bytes)) or not isinstance(check, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"check={shown_value(check, subject)} of {subject}: "
            f"give True, False, or a list of exit codes and signals, such as [0, 4, 'TERM']"
        )
    codes = frozenset(_parse_exit_code(code, subject) for code in check)
    if not codes:
        raise ValueError(
            f"check=[] of {subject}: no exit code would count as success; to accept all, give False"
        )
    return codes


def describe_failure(
    success_codes: frozenset[int] | None, returncode: int
) -> str | None:
    """Return a description of a command's failure, or None if its exit code counts as success.

    A signal is equivalent to the exit code that a shell reports for it: 128 plus the signal's number.
    """
    if success_codes is None or returncode in success_codes:
        return None
    # For example, -15 and 143 are equivalent: each is 128 minus the other.
    if (
        not 0 <= returncode <= SIGNAL_OFFSET
        and SIGNAL_OFFSET - returncode in success_codes
    ):
        return None
    if not returncode:
        return "exit code 0, which is not in check="
    return describe_exit(returncode)


def _parse_exit_code(value: object, subject: str) -> int:
    if isinstance(value, signal.Signals):
        return -value
    if isinstance(value, str):
        name = value.upper()
        try:
            return -signal.Signals[f"SIG{name.removeprefix('SIG')}"]
        except KeyError:
            raise ValueError(
                f"check of {subject}: unknown signal {shown_value(value, subject)}; give a name such as 'TERM'"
            ) from None
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(
            f"check of {subject}: found {shown_value(value, subject)} in the list; give exit codes and signal names"
        )
    if not -signal.NSIG < value <= MAX_EXIT_CODE:
        raise ValueError(
            f"check of {subject}: {value} is not an exit code; give a number from 0 to {MAX_EXIT_CODE}"
        )
    return value
