"""`CommandJob`: a program in a process of its own, as a job."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, Unpack

from ... import _posix as posix
from ... import abc
from ..._core.job._job import is_job
from ..._hints import explain_form
from ..posix._processes import Process, check_limits
from . import _argv, _process_run, _streams
from ._argv import Template
from ._result import CheckOption, CommandResult, parse_check
from ._spawn_options import (
    AnyPath,
    CommandOptions,
    LeftoversOption,
    PinOption,
    subject_of,
)

if TYPE_CHECKING:
    from ._output_sinks import OutputEnds

JobCallback = Callable[["CommandJob"], object]


class CommandJob(
    abc.JobKind[CommandResult],
    box=abc.BoxStyle("command", "note", ("[/", "/]")),
    keeps_time=True,
):
    """A program with its arguments, run in a process and a process group of its own.

    Use it for a program that ends by itself. A program that serves others is a `CommandService`.

    When the job is ended (by its timeout, a cancellation, a critical failure elsewhere, or the end of the run), the
    whole process group gets SIGTERM, and SIGKILL after `terminate_grace` seconds. The job settles when the group has
    ended. When the program exits by itself, the remaining processes of its group have `terminate_grace` seconds to
    exit, and are then ended in the same way. A process that has moved to another session is ended with the run. If this
    program is killed, its commands are killed too.

    Relative paths are relative to this program's working directory, not to `cwd`. Only a program whose name contains a
    "/" is looked up from `cwd`. The environment variable `TRIOFLOW_RUN` marks the command's processes. If this program
    has a terminal, a command gets a session without a terminal. So Ctrl-C reaches only this program, which ends its
    commands, and a command that asks for a password fails at once. Under a virtual clock, `timeout` and
    `terminate_grace` take no real time.

    Args:
        command: the program and its arguments: strings, bytes, paths, numbers, jobs, or `granted("gpu")`. A job is
            replaced by its result. A CommandJob with `stdout=PIPE` is replaced by its output without trailing newlines.
            `granted("gpu")` is replaced by the resources granted to this job.
        shell: whether the command is a single string that `/bin/sh` executes. In a t-string (Python 3.14), such as
            `t"tar xf {path} | wc -l"`, each value may be anything that an argument may be. It is quoted, so the shell
            takes it for a single word, whatever is in it.
        cwd: the working directory of the command, or None for this program's directory.
        env: a mapping with the complete environment, or None for this program's environment. A value may be
            `granted("gpu")`.
        stdin: standard input: bytes, a path, an open file, or a job whose result is bytes or a `CommandResult`,
            or None for an empty input.
        stdout: the destination of standard output: the path of a file, an open file, `subprocess.PIPE` to capture
            the output, `subprocess.DEVNULL`, or None for the place where `print` writes. A file given by its path is
            appended to, and missing parent directories are created. A named pipe is opened by a shell in front of the
            program, so that the wait for its other end can be ended. It cannot take output that is watched for an
            `idle_timeout`.
        stderr: likewise for standard error, or `subprocess.STDOUT` to merge it into standard output.
        check: the exit codes that count as success. Any other exit code raises a `CommandError`. True means only 0,
            False means all. A list may contain exit codes and names of signals, e.g. `[0, 4, "TERM"]`. A signal is
            equivalent to the exit code that a shell reports for it: 128 plus the signal's number.
        terminate_grace: seconds from SIGTERM to SIGKILL, 0 or more. After the program has exited by itself, the
            remaining processes of its group have the same time to exit.
        on_start: called with the job at each attempt, as soon as its process exists. Callbacks are plain functions,
            called in the event loop. If a callback raises, the job fails.
        on_succeeded: called with the job when it has succeeded. It may call `result()`. The job still holds its slot.
        on_settled: called with the job when it is about to settle, whatever its outcome, after `on_succeeded`. The job
            already has its final state and result, and still holds its slot.
        on_line: called with the job and each line of output as it arrives, without the line ending. With `on_line`, a
            stream whose option is None is not printed. A line of more than 16 MiB arrives in pieces.
        tag: True prints each line as it arrives, prefixed with the job's label. A string is a template for the prefix,
            with `{label}` and `{time}`. `{time}` is the local time of arrival, such as 14:03:59. `{time:%H:%M:%S.%f}`
            chooses another format (see `strftime`).
        nice: the number to add to this program's niceness, up to 19. Only root may give less than 0.
        memory_limit: the maximum address space of each process of the command, in bytes or as "2 GiB" (RLIMIT_AS).
        pin: "slot" binds the command to a single CPU. A command in the k-th slot of the window is bound to the k-th
            CPU, modulo the number of CPUs. This needs Linux.
        leftovers: the fate of processes left in the group after the program has exited by itself. "wait" gives them
            `terminate_grace` seconds to exit, and "end" ends them at once.
        append: whether output is appended to the files named by `stdout` and `stderr`, which may be the same file.
            If False, each attempt first truncates the files.
        options: the options of every job. See `AbstractJob`. An `idle_timeout` of the command, or of an enclosing
            scheduler, restarts whenever output arrives. For this, all output passes through this program.

    Raises:
        TypeError, ValueError: the command or an option is invalid, or, when the job runs, the result of a job cannot be
            an argument.
        CommandError: when the job runs: the command could not be started, or has failed.

    Example:
        >>> import subprocess
        >>> names = CommandJob(["printf", "%s", "a b c"], stdout=subprocess.PIPE)
        >>> count = CommandJob(["wc", "-w"], stdin=names, stdout=subprocess.PIPE, timeout=10)
        >>> Scheduler(count).run()
        True
        >>> int(count.result().stdout)
        3

    """

    __slots__ = (
        "_command",
        "_command_options",
        "_env_placeholders",
        "_latest_result",
        "_open_streams",
        "_process",
    )
    _latest_result: CommandResult | None
    # Set while the process runs.
    _process: Process | None
    # The outputs of the latest process, whose ends a page shows.
    _open_streams: _streams.ProcessStreams | OutputEnds | None

    @explain_form
    def __init__(
        self,
        command: Sequence[Any] | str | abc.AbstractJob[Any] | Template,
        /,
        *,
        shell: bool = False,
        cwd: AnyPath | None = None,
        env: Mapping[str, Any] | Mapping[bytes, Any] | None = None,
        stdin: bytes | AnyPath | int | IO[Any] | abc.AbstractJob[Any] | None = None,
        stdout: AnyPath | int | IO[Any] | None = None,
        stderr: AnyPath | int | IO[Any] | None = None,
        check: CheckOption = True,
        terminate_grace: float = 5.0,
        on_start: JobCallback | None = None,
        on_succeeded: JobCallback | None = None,
        on_settled: JobCallback | None = None,
        on_line: Callable[[CommandJob, str], object] | None = None,
        tag: bool | str = False,
        nice: int | None = None,
        memory_limit: int | str | None = None,
        pin: PinOption | None = None,
        leftovers: LeftoversOption = "wait",
        append: bool = True,
        **options: Unpack[abc.JobOptions],
    ) -> None:
        subject = subject_of(options, "CommandJob")
        posix.require(f"CommandJob {subject}")
        arguments = _argv.check_arguments(command, shell, subject)
        stdin_job = None
        if is_job(stdin):
            stdin_job = stdin
            stdin = None
        self._command_options: Final = CommandOptions(
            shell, cwd, _argv.encode_environment(env, subject), stdin,
            stdout, stderr, parse_check(check, subject), terminate_grace, on_start, on_line, tag,
            nice, check_limits(nice, memory_limit, subject), pin, leftovers, append,
        )  # fmt: skip
        self._command_options.validate(subject)
        self._command: Final = arguments
        self._process = self._latest_result = self._open_streams = None
        super().__init__(
            *arguments,
            stdin_job,
            on_succeeded=on_succeeded,
            on_settled=on_settled,
            **options,
        )
        self._env_placeholders: Final = _argv.variables_with_placeholders(env)
        _argv.check_placeholders(
            [*arguments, *self._env_placeholders.values()], self, subject
        )

    # ---- the command, its process and its result

    @property
    def command(self) -> tuple[Any, ...]:
        """The program and its arguments, as the user gave them. A t-string is a list of its texts and values."""
        return self._command[2:] if self._command_options.shell else self._command

    @property
    def pid(self) -> int | None:
        """The id of the command's process and process group while it runs, or None before and afterwards."""
        return None if self._process is None else self._process.pid

    @property
    def last_result(self) -> CommandResult | None:
        """The result of the latest attempt's process, even if it failed or was ended. None before it has ended."""
        return self._latest_result

    def default_label(self, depth: int) -> str:
        """Return the shortened command line, where labels of other jobs are nested at most `depth` deep."""
        return _argv.default_label(self.command, self._command_options.shell, depth)

    def command_line(self) -> str:
        """Return the whole command line."""
        return _argv.display_command_line(self.command, self._command_options.shell)

    def failure_group(self) -> str:
        """Return the name of the program."""
        return _argv.display_text(self._command[0])

    def for_journal(self) -> abc.Work:
        """Return the command, its options, and its input and output files, including the files of its streams."""
        options = self._command_options
        *arguments, stdin_job = abc.original_arguments_of(self)
        variables = _argv.counted_variables(options.env, self.redact)
        counted = {
            "option shell=": options.shell,
            "directory": abc.LocalDirectory(options.cwd),
            **variables,
        }
        return options.work("command", arguments, stdin_job, counted)

    def forget_run(self) -> None:
        """Reset the result of the latest attempt, and the ends of its outputs."""
        self._latest_result = self._open_streams = None

    # ---- running the command

    async def co_run(self) -> CommandResult:
        """Run the command once.

        Raises:
            CommandError: the command could not be started, or has failed.
            JobTimeout: the time limit was exceeded.
            RuntimeError: the job was not started by a run.

        """
        self.forget_run()
        return await _process_run.ProcessRun(self, abc.run_of(self)).run()

    def _stdin_value(self, stdin: object) -> Any:
        """Return the value to use as the standard input of the command.

        Args:
            stdin: the result of the job that was given as the option `stdin`, or None if the option is not a job.

        """
        if stdin is None:
            return self._command_options.stdin
        return stdin

    def _terminate(self, process: Process) -> None:
        process.signal_group(signal.SIGTERM)
