"""`CommandJob`: a program in a process of its own, as a job."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, Unpack

from ... import _posix as posix
from ..._core.api.journals import OptionalFile
from ...abc import AbstractJob, BoxStyle, JobKind, JobOptions, given_of, run_of, size_text
from ..posix._process_groups import memory
from . import _argv, _granted
from ._exit_codes import Check, successful_codes
from ._process_run import ProcessRun
from ._result import CommandResult
from ._spawn_options import CommandOptions, Leftovers, Path, Pin, encode_environment, granted_variables, path_tuple

if TYPE_CHECKING:
    from ..._core.api.journals import Depfile
    from ...abc import Work
    from ..posix._processes import Process

    Callback = Callable[["CommandJob"], object]


MIB: Final = 1 << 20
"""Bytes: the unit of memory in a status, which changes each second and is easier to read in whole MiB."""


class CommandJob(JobKind[CommandResult], box=BoxStyle("command", "note", ("[/", "/]"), place=5), keeps_time=True):
    """A program with its arguments, run in a process and a process group of its own.

    Whatever ends it (its timeout, a cancellation, a critical failure elsewhere, the end of the run), the whole group
    gets SIGTERM, and SIGKILL `terminate_grace` seconds later. The job settles when the group is gone. When the program
    exits by itself, the rest of its group has `terminate_grace` seconds to end by itself, and is then ended in the same
    way. A process that has moved to another session is ended with the run. If this program is killed, its commands are
    killed too.

    Relative paths are relative to this program's directory, not to `cwd`; but a program whose name contains a "/" is
    searched from `cwd`. The command gets a variable `TRIOFLOW_RUN` in its environment. If this program has a terminal,
    a command gets its own session without a terminal: Ctrl-C reaches only this program, which ends its commands, and a
    command that asks for a password fails at once. Under a virtual clock, `timeout` and `terminate_grace` pass at once.

    Args:
        command: the program and its arguments: strings, bytes, paths, numbers, or jobs, which are replaced by their
            results; that of another CommandJob by its output with `stdout=PIPE`, without the last newline.
        shell: takes the command as one string, for `/bin/sh`.
        cwd: the directory to run it in; None for this program's.
        env: its whole environment, a mapping; None for this program's. Values, like arguments, may be `granted("gpu")`:
            the resources that the job was granted.
        stdin: its standard input: bytes, a path, an open file, or a job whose result is bytes or a CommandResult; None
            for an empty one.
        stdout: where its standard output goes: a path, which is appended to and whose parent directories are made; an
            open file; `subprocess.PIPE` (captured) or `subprocess.DEVNULL`; None for where `print` writes.
        stderr: the same for its standard error; `subprocess.STDOUT` sends it where the standard output goes.
        check: the exits that are successes; any other is a `CommandError`. True: exit code 0. False: all. Otherwise a
            list of all exit codes and names of signals that are successes: `[0, 4, "TERM"]`. A signal and 128 plus its
            number, which shells report instead, are equivalent.
        terminate_grace: seconds from SIGTERM to SIGKILL, 0 or more; also the time for processes that the command leaves
            in its group to end by themselves.
        on_start: called with the job once its process exists, at each attempt.
        on_done: called with the job when it has succeeded.
        on_settled: called with the job when it is about to settle, whatever its outcome, after `on_done`. In both of
            these, `result()` can be called and the slot is still held. Callbacks are plain functions, called in the
            event loop; if one raises, the job fails.
        on_line: called with the job and each line of output, as it comes: text, without the newline. A stream that is
            None is then printed nowhere else. A line of more than 64 KiB comes in pieces.
        tag: prints each line as it comes, with the job's label in front; or, if a string, with this template in front:
            `{label}` is replaced by the label, `{time}` by the time of the line, as 14:03:59, and
            `{time:%H:%M:%S.%f}` by the time in a format of your own (see `strftime`).
        nice: the decrease of its priority from this program's, up to 19; only root may give less than 0.
        memory_limit: bytes of address space that each of its processes may have (RLIMIT_AS).
        pin: "slot" runs the command in the k-th slot of the window on the k-th CPU, modulo the number of CPUs (Linux).
        leftovers: what to do with processes left in its group after it has ended by itself: "wait" gives them
            `terminate_grace` seconds to end by themselves, and "end" ends them at once.
        reads: its input files: files, directories, patterns such as `"src/**/*.h"`, and a `Depfile`, in which a
            compiler lists the files it has read. With a journal, the command runs again when one of these has changed.
            Without `reads`, it is restored even if its input files have changed.
        writes: its output files and directories. If one is missing after the command has succeeded, that is a
            `CommandError`, unless it is an `OptionalFile`. With a journal, the command runs again when one has changed
            since; the files that a killed or failed command has written are renamed to NAME.partial before it runs
            again.
        append: whether the files that `stdout` and `stderr` name are appended to; False empties them when an attempt
            begins. They may name the same file.
        options: the options of every job; see `AbstractJob`. For `idle_timeout`, of the command or of an enclosing
            scheduler, each piece of output is a sign of life. For this, all output comes through a pipe and is passed
            on.

    Raises:
        TypeError, ValueError: a command or an option that makes no sense; when the job runs, a result that cannot be
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
        "_granted_env",
        "_latest",
        "_options",
        "_process",
    )
    _latest: CommandResult | None
    _process: Process | None  # set while it runs

    def __init__(
        self,
        command: Sequence[Any] | str | AbstractJob[Any],
        /,
        *,
        shell: bool = False,
        cwd: Path | None = None,
        env: Mapping[str, Any] | Mapping[bytes, Any] | None = None,
        stdin: bytes | Path | int | IO[Any] | AbstractJob[Any] | None = None,
        stdout: Path | int | IO[Any] | None = None,
        stderr: Path | int | IO[Any] | None = None,
        check: Check = True,
        terminate_grace: float = 5.0,
        on_start: Callback | None = None,
        on_done: Callback | None = None,
        on_settled: Callback | None = None,
        on_line: Callable[[CommandJob, str], object] | None = None,
        tag: bool | str = False,
        nice: int | None = None,
        memory_limit: int | None = None,
        pin: Pin | None = None,
        leftovers: Leftovers = "wait",
        reads: Path | Depfile | Iterable[Path | Depfile] = (),
        writes: Path | OptionalFile | Iterable[Path | OptionalFile] = (),
        append: bool = True,
        **options: Unpack[JobOptions],
    ) -> None:
        subject = repr(options.get("label") or "CommandJob")
        posix.require(f"CommandJob {subject}")
        arguments = _argv.check_arguments(command, shell, subject)
        job, read = (stdin, None) if isinstance(stdin, AbstractJob) else (None, stdin)
        self._options: Final = CommandOptions(
            shell, cwd, encode_environment(env, subject), read,
            stdout, stderr, successful_codes(check, subject), terminate_grace, on_start, on_line, tag,
            nice, memory_limit, pin, leftovers,
            path_tuple(reads, "reads", subject), path_tuple(writes, "writes", subject), append,
        )  # fmt: skip
        self._options.validate(subject)
        self._command: Final = arguments
        self._process = self._latest = None
        super().__init__(*arguments, job, on_done=on_done, on_settled=on_settled, **options)
        self._granted_env: Final = granted_variables(env)
        _granted.check_placeholders([*arguments, *self._granted_env.values()], self, subject)

    # ---- what it is

    @property
    def command(self) -> tuple[Any, ...]:
        """The program and its arguments, as the user gave them."""
        return self._command[2:] if self._options.shell else self._command

    @property
    def _shown(self) -> Any:
        """The command as labels show it: its arguments, or the line for the shell."""
        return self._command[2] if self._options.shell else self._command

    @property
    def pid(self) -> int | None:
        """The id of its process, and of its process group, while it runs; None before and afterwards."""
        return None if self._process is None else self._process.pid

    @property
    def last_result(self) -> CommandResult | None:
        """The result of its latest process, even if that failed, or was ended by a timeout or a cancellation."""
        return self._latest

    @property
    def elapsed(self) -> float | None:
        """Seconds from its start to its end, or until now while it runs; for a restored command, of its run.

        None if it never started, or was restored without a result.
        """
        stored = self.result(default=None) if self.restored else None
        return stored.elapsed if isinstance(stored, CommandResult) else super().elapsed

    def default_label(self, depth: int) -> str:
        """Return the command, shortened."""
        return _argv.default_label(self._shown, self._options.shell, depth)

    def command_line(self) -> str:
        """Return the whole command as one line of text."""
        return _argv.shell_line(self._shown, self._options.shell)

    def status_text(self) -> str:
        """Return the memory of its process group, as "312 MiB"; an empty string on systems without /proc."""
        process = self._process
        size = None if process is None else memory.of(process.pid)
        return "" if size is None else size_text(max(1, round(size / MIB)) * MIB)

    def failure_group(self) -> str:
        """Return the program."""
        return _argv.display(self._command[0])

    def for_journal(self) -> Work:
        """Return the command, its options, and its input and output files, including the files of its streams."""
        from ...abc import HashOnly, Work  # imported late: few runs have a journal, and these take as long as the rest

        options = self._options
        *arguments, job = given_of(self)
        hidden = None if options.env is None else HashOnly(options.env)
        stdin, streams = options.streams_for_journal()
        return Work(
            what="command",
            arguments=arguments,
            options=[options.shell, options.cwd, hidden, stdin if job is None else job, *streams],
            reads=options.files_read(),
            writes=[path.path if isinstance(path, OptionalFile) else path for path in options.writes],
            appends=options.files_written() if options.append else (),
            begins_anew=() if options.append else options.files_written(),
        )

    def forget_run(self) -> None:
        """Forget the latest result."""
        self._latest = None

    # ---- running

    async def co_run(self) -> CommandResult:
        """Run the command once.

        Raises:
            CommandError: it could not be started, or has failed.
            JobTimeout: its time was over.
            RuntimeError: it was not called by a run.

        """
        return await ProcessRun(self, run_of(self)).run()

    def _input(self, stdin: Any) -> Any:
        """Return the standard input of the command, given the result of the job that is its `stdin`."""
        if stdin is None:
            return self._options.stdin
        if not isinstance(stdin, CommandResult):
            return stdin
        if stdin._stdout is None:
            raise _argv.nothing_captured(f"stdin of {self.label!r}")
        return stdin._stdout

    def _terminate(self, process: Process) -> None:
        """Send SIGTERM to a process and its whole group."""
        process.signal(signal.SIGTERM)
