"""`CommandJob`: a program in a process of its own, as a job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Final, Literal, Unpack, cast

from .._core import _options, _worker
from .._core._arguments import Search
from .._core._checks import repeats
from .._core._jobs import AbstractJob
from .._core._options import JobOptions
from .._core._outcomes import Failure
from .._core._rules import release_inputs
from . import _command_options, _command_text
from ._command_attempt import Attempt
from ._command_callbacks import UNTOLD, Telling
from ._command_options import How, Path
from ._command_result import CommandResult

if TYPE_CHECKING:
    from ._processes import Process

    Callback = Callable[["CommandJob"], object]


class CommandJob(AbstractJob[CommandResult]):
    """A program with its arguments, run in a process and a process group of its own.

    Whatever ends it (its timeout, a cancellation, a critical failure elsewhere, the end of the run), the whole group
    gets SIGTERM, and after `terminate_grace` seconds SIGKILL; the job settles when the group is gone. When the program
    has exited of itself, what is left of its group is ended in the same way. What has moved into another session is
    ended with the run; and if this very program is killed, its commands are too.

    Relative paths are relative to this program's directory, not to `cwd`; but a program whose name has a "/" in it is
    looked for from `cwd`. The command gets a variable `TRIOFLOW_RUN` in its environment. Where this program has a
    terminal, a command is in a session of its own, without one: Ctrl-C reaches this program alone, which ends its
    commands, and a program that asks for a password fails at once. Under a virtual clock its timeout and
    `terminate_grace` are over at once.

    Args:
        command: the program and its arguments: strings, bytes, paths, numbers, or jobs, whose result is filled in; the
            result of another CommandJob stands for what it wrote to `stdout=PIPE`, without the end of the last line.
        shell: takes the command as one string, for `/bin/sh`.
        cwd: the directory to run it in; None for this program's.
        env: all of its environment, a mapping; None for this program's.
        stdin: what it reads: bytes, a path, an open file, or a job whose result is bytes, or a CommandResult; None for
            nothing.
        stdout: where its standard output goes: a path, appended to, whose parent directories are made; an open file;
            `subprocess.PIPE` (captured), `subprocess.DEVNULL`; None for where `print` goes.
        stderr: the same for its standard error; `subprocess.STDOUT` for where its standard output goes.
        check: whether an exit code other than 0 is a failure, a `CommandError`.
        terminate_grace: seconds from SIGTERM to SIGKILL, 0 or more.
        on_start: called with the job when its process exists, at each attempt.
        on_done: called with the job when it has succeeded.
        on_settled: called with the job when it is about to settle, whatever became of it, after `on_done`. In both of
            these `result()` tells already; the slot is still held. Callbacks are plain functions, called in the event
            loop; what one raises fails the job.
        on_line: called with the job and each line that it writes, text without the end of the line, as it comes;
            instead of where `stdout` and `stderr` go if they are None. A line of more than 64 KiB comes in pieces.
        tag: prints each line as it comes, the job's label in front; or this string, if it is one.
        nice: how much lower its priority is than this program's, up to 19; below 0 is for root.
        memory_limit: bytes of address space that each of its processes may have (RLIMIT_AS).
        pin: "slot" lets the k-th slot of the window run on the k-th CPU, modulo their number (Linux).
        options: those of every job; see `AbstractJob`.

    Raises:
        TypeError, ValueError: a command or an option that makes no sense; from the job itself, a result that can't be
            an argument.
        CommandError: from the job itself: it could not be started, or has failed.

    Example:
        >>> import subprocess
        >>> names = CommandJob(["printf", "%s", "a b c"], stdout=subprocess.PIPE)
        >>> count = CommandJob(["wc", "-w"], stdin=names, stdout=subprocess.PIPE, timeout=10)
        >>> Scheduler(count).run()
        True
        >>> int(count.result().stdout)
        3

    """

    __slots__ = ("_command", "_filling", "_how", "_latest", "_process", "_stdin", "_told")
    _limits_itself = True

    _told: Any  # the outcome while callbacks may ask for it: a result, or a Failure
    _latest: CommandResult | None
    _process: Process | None

    def __init__(
        self,
        command: Sequence[Any] | str | AbstractJob[Any],
        /,
        *,
        shell: bool = False,
        cwd: Path | None = None,
        env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
        stdin: bytes | Path | int | IO[Any] | AbstractJob[Any] | None = None,
        stdout: Path | int | IO[Any] | None = None,
        stderr: Path | int | IO[Any] | None = None,
        check: bool = True,
        terminate_grace: float = 5.0,
        on_start: Callback | None = None,
        on_done: Callback | None = None,
        on_settled: Callback | None = None,
        on_line: Callable[[CommandJob, str], object] | None = None,
        tag: bool | str = False,
        nice: int | None = None,
        memory_limit: int | None = None,
        pin: Literal["slot"] | None = None,
        **options: Unpack[JobOptions],
    ) -> None:
        who = repr(options.get("label") or "CommandJob")
        arguments = _command_text.check(command, shell, who)
        read = None if isinstance(stdin, AbstractJob) else stdin
        self._how: Final = _command_options.check(
            How(
                bool(shell), cwd, _command_options.environment(env, who), read,
                stdout, stderr, bool(check), terminate_grace, on_start, on_done, on_settled, on_line, tag,
                nice, memory_limit, pin,
            ),
            who,
        )  # fmt: skip
        search = Search(who)
        self._command: Final = arguments
        self._filling: Final[Iterable[Any]] = search.positional(arguments)
        self._stdin: Final[Iterable[Any]] = search.positional((stdin if isinstance(stdin, AbstractJob) else None,))
        self._process = self._latest = None
        self._told = UNTOLD
        given = options.get("retry")
        if on_done is not None or on_settled is not None:
            options["retry"] = Telling(self, given, who)
        super().__init__(**options, _inputs=tuple(search.inputs))

    # ---- what it is

    @property
    def command(self) -> tuple[Any, ...]:
        """The program and its arguments as they were given."""
        return self._command[2:] if self._how.shell else self._command

    @property
    def pid(self) -> int | None:
        """The number of its process, and of its process group, while it runs; None before and afterwards."""
        return None if self._process is None else self._process.pid

    @property
    def last_result(self) -> CommandResult | None:
        """What its latest process has left, also one that failed, or that a timeout or a cancellation ended."""
        return self._latest

    @property
    def retry(self) -> _options.Retry:
        """How many further attempts it has when it raises, or the decorator that decides; None for no further one."""
        found = super().retry
        return found.given if isinstance(found, Telling) else found

    def result(self) -> CommandResult:
        """Return what the command has left; whatever else became of it is raised.

        Raises:
            BaseException: what made it fail: `CommandError`, `JobTimeout`, or what a callback raised.
            JobCancelled: it is CANCELLED.
            JobSkipped: it is SKIPPED.
            JobNotDone: it has not settled.

        """
        if self._told is UNTOLD:
            return super().result()
        if isinstance(self._told, Failure):
            raise self._told.exception.with_traceback(self._told.traceback)
        return cast(CommandResult, self._told)

    # ---- running

    async def co_run(self) -> CommandResult:
        """Run the command once.

        Raises:
            CommandError: it could not be started, or has failed.
            JobTimeout: its time was over.
            RuntimeError: this is not called by a run.

        """
        worker = _worker.current.get(None)
        if worker is None:
            raise RuntimeError(f"{self.label!r}: a command needs a run that watches over it: put it into a Scheduler")
        return await Attempt(self, worker).run()

    def _arguments_now(self) -> Iterable[Any]:
        """Return the command with the results in the places of jobs."""
        return self._filling

    def _input_now(self) -> Any:
        """Return what it is to read; all inputs have been used then."""
        (found,) = self._stdin
        if found is None:
            found = self._how.stdin
        elif isinstance(found, CommandResult):
            found = found._stdout
        if self._rule is not None and self._rule.frees and not repeats(self):
            release_inputs(self, self._rule)
        return found

    def _default_label(self) -> str:
        return _command_text.label(self._command[2] if self._how.shell else self._command, self._how.shell)

    def _reset(self) -> None:
        super()._reset()
        self._latest = None
