"""`SshJob`: commands and file transfers on another machine, as a job."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import IO, Any, ClassVar, Final, Unpack

from ... import _posix as posix
from ... import abc
from ..._core.base._text_forms import name_in_errors, shown_value
from ..._core.job import _errors, _function, _job
from ..._core.job._option_descriptors import Argument
from ..._core.run._current import current_job
from ..._hints import explain_form
from ..command import _argv
from ..command._argv import Template, check_line, granted, join_line
from ..command._output_sinks import OutputEnds, make_tag_function
from ..command._result import (
    REDACTED_COMMAND,
    CheckOption,
    CommandResult,
    parse_check,
    with_output,
)
from ..command._spawn_options import CommandOptions, is_path, subject_of
from . import _sftp_transfers
from ._connections import Connections, need_session
from ._node_session import NodeSession, Stdio
from ._nodes import LocalNode, Node, SshNode, make_node
from ._ssh_errors import Unreachable
from ._steps import (
    Command,
    PlaceholderValues,
    Program,
    Pull,
    Push,
    Script,
    Step,
    interpreter,
    parse_steps,
)

Path = str | os.PathLike[str]
CHANGE_DIRECTORY_SCRIPT: Final = (
    'CDPATH= cd -- "$1" || exit; shift; '
    'if ! command -v "$1" >/dev/null; then echo "$1: command not found" >&2; exit 127; fi; '
    'exec "$@"'
)
"""A shell script that changes to the directory of its first argument, which CDPATH does not replace, and then executes
the others."""
# The file has a directory of its own: Python looks for modules in its script's directory, and anyone can add to /tmp.
INLINE_SCRIPT: Final = (
    'd=$(mktemp -d) || exit; trap \'rm -rf -- "$d"\' EXIT; trap "exit 143" TERM HUP INT; s=$d/script; '
    'printf %s "$TRIOFLOW_SCRIPT" >"$s" && chmod 700 "$s" || exit; unset TRIOFLOW_SCRIPT; '
)
"""The start of a shell script that writes a script to a temporary file and removes it at exit. The script is in a
variable, since other users see the arguments of processes."""
DIRECTORY_SCRIPT: Final = (
    'd=$1; case $d in /*) ;; *) d=$PWD/$d;; esac; trap \'rm -rf -- "${d%/*}"\' EXIT; trap "exit 143" TERM HUP INT; '
    'd=$d/$2; if [ -n "$3" ]; then CDPATH= cd -- "$3" || exit; fi; shift 3; '
)
"""The start of a shell script that runs a user-supplied script from a directory, and removes the directory at exit. The
first three arguments are the directory, the name of the user's script in it, and the working directory or "". The
others are the arguments of the user's script."""
MAX_INLINE_BYTES: Final = 60_000
"""The maximum size of a script to send with the variables, in bytes. Larger scripts are sent as files."""


class SshJob(
    abc.JobKind[Any], box=abc.BoxStyle("ssh", "cylinder", ("[(", ")]")), keeps_time=True
):
    """A command or script on another machine, a file transfer to or from it, or a list of these.

    Use it for work that belongs on another machine.

    A command is run by `/bin/sh` on the node, in the home directory and in its own session. When the job is ended (by
    its timeout, a cancellation, a critical failure elsewhere, the end of this program, or a broken connection), the
    node sends SIGTERM to the command's process group, and SIGKILL after `terminate_grace` seconds. The job settles when
    the processes have ended. Processes that a finished command leaves in its group have `terminate_grace` seconds to
    exit.

    If the connection is lost before a step starts, the step is retried. A step that has started is repeated only by
    `retry=`.

    Args:
        node: an `SshNode`, the name of a node, or `LocalNode()` for this machine.
        command: a string for the node's shell, or a t-string, whose values are quoted (Python 3.14). Other steps are a
            tuple of a program and its arguments, a `Script`, a `ScriptText`, a `Push`, and a `Pull`. A list of steps is
            executed in order until a step fails. An argument is a string, a number, a path, a job, which is replaced by
            its result, or `granted("gpu")`, which is replaced by the resources granted to this job.
        values: the values for `{name}` in a command line, in `to=` of Push and Pull, and in the paths of `stdout` and
            `stderr`: a mapping from names to strings, numbers, paths, jobs or `granted("gpu")`. `{node}` is the
            hostname. In a command line they are quoted for the shell. Other braces are kept.
        cwd: the directory on the node, or None for the home directory.
        env: environment variables on the node: a mapping from names to `granted("gpu")` or to strings, where `{name}`
            is filled in, at most 100,000 bytes in total. They do not appear in command lines, so other users of the
            node cannot read them.
        stdin: the standard input of the commands: bytes, a local path, an open file, a job whose result is bytes, or a
            `CommandResult`. None is an empty input.
        stdout: the destination of standard output: the path of a local file to append to (missing parent directories
            are created), an open file, `subprocess.PIPE` to capture it, `subprocess.DEVNULL`, or None to write where
            `print` writes.
        stderr: the same for standard error, or `subprocess.STDOUT`, to merge it into standard output.
        check: the exits of a command or script that count as success. Any other exit raises a `CommandError`. True is
            exit code 0, and False is all. Otherwise a list of exit codes and names of signals: `[0, 4, "TERM"]`.
        terminate_grace: seconds from SIGTERM to SIGKILL on the node, 0 or more.
        on_start: called with the job when its first command has started on the node, at each attempt. If it raises, the
            job fails with that exception.
        on_line: called with the job and each line of output, without its line ending, as it arrives. A stream that is
            None is then not printed. A line of more than 16 MiB arrives in pieces.
        tag: if True, prints each line as it arrives, prefixed with the node's name. If a string, this template is the
            prefix. It may contain `{node}`, `{label}`, the names of `values`, and `{time}`, the local time of arrival
            as 14:03:59, or in another format, `{time:%H:%M:%S.%f}` (see `strftime`).
        append: whether output is appended to the files named by `stdout` and `stderr`. False truncates them when an
            attempt of the job begins. The steps then write to them in turn.
        options: the options of every job. See `AbstractJob`. The job starts, and its `timeout` begins, when the
            connection is open, within the node's `connect_timeout`, and a session is free. An `idle_timeout` counts
            only while a command or a script runs on the node, and restarts with each output. It does not cover file
            transfers.

    The result of the job is the result of its step or, for a list of steps, the list of their results. A command or a
    script returns a `CommandResult` with its exit code, signal and CPU times on the node (`max_rss` is unknown), a Pull
    the list of local paths, and a Push None.

    Raises:
        TypeError, ValueError: the command or an option is invalid.
        CommandError: when the job runs: a command has failed.
        Unreachable: when the job runs: the node cannot be reached, and `on_unreachable` is "fail".
        SshError: when the job runs: the node refuses the login, a transfer has failed, or the connection was lost while
            a command ran.

    Example:
        >>> node = SshNode("node01", username="root")
        >>> SshJob(node, ["mkdir -p results", Push("measure.sh", to="bin/"), "bin/measure.sh > results/{node}.txt"])
        <SshJob node01: mkdir -p results; …, idle>

    """

    _name_in_errors: ClassVar[str] = "SshJob"
    __slots__ = (
        "_command_options", "_env", "_is_list", "_last_result", "_node", "_open_streams",
        "_service_stdio", "_steps", "_unreachable", "_values",
    )  # fmt: skip
    # For a service, more options of its `Stdio`.
    _service_stdio: Mapping[str, Any]
    _last_result: CommandResult | None
    # The command that runs, for who looks at the end of its output.
    _open_streams: OutputEnds | None
    _unreachable: Unreachable | None

    @explain_form
    def __init__(
        self,
        node: SshNode | LocalNode | str,
        command: str | Template | tuple[Any, ...] | Step | list[Any],
        /,
        *,
        values: Mapping[str, Any] | None = None,
        cwd: Path | None = None,
        env: Mapping[str, Any] | None = None,
        stdin: bytes | Path | int | IO[Any] | abc.AbstractJob[Any] | None = None,
        stdout: Path | int | IO[Any] | None = None,
        stderr: Path | int | IO[Any] | None = None,
        check: CheckOption = True,
        terminate_grace: float = 5.0,
        on_start: Callable[[SshJob], object] | None = None,
        on_line: Callable[[SshJob, str], object] | None = None,
        tag: bool | str = False,
        append: bool = True,
        **options: Unpack[abc.JobOptions],
    ) -> None:
        subject = subject_of(options, self._name_in_errors)
        posix.require(
            f"{self._name_in_errors} {subject}",
            'use ThreadJob(subprocess.run, ["ssh", ...], check=True)',
        )
        self._node: Final = make_node(node)
        self._steps: Final = parse_steps(command, subject)
        self._is_list: Final = isinstance(command, list)
        if all(isinstance(step, Pull) for step in self._steps):
            # The files on the node may have changed, which no journal can tell.
            options.setdefault("save", None)
        stdin_job = None
        if _job.is_job(stdin):
            stdin_job = stdin
            stdin = None
        self._command_options: Final = CommandOptions(
            cwd=cwd, stdin=stdin, stdout=stdout, stderr=stderr, success_codes=parse_check(check, subject),
            terminate_grace=terminate_grace, on_start=on_start, on_line=on_line,
            tag=tag, append=append,
        )  # fmt: skip
        self._command_options.validate(subject)
        values = values or {}
        self._values: Final = tuple(_check_value_names(values, subject))
        placeholders = PlaceholderValues({**values, "node": self._node.hostname})
        for step in self._steps:
            if isinstance(step, Command) and step.is_shell_line:
                parts, names = placeholders.split(step.words)
                check_line(
                    parts, [shown_value(name, subject) for name in names], subject
                )
        self._service_stdio = {}
        self._env: Final = _check_variables(env or {}, subject)
        _function.reject_text(self._env, f"env= of {subject}")
        self._last_result = self._unreachable = self._open_streams = None
        value_list = [*values.values()]
        words = [list(step.words) for step in self._steps]
        super().__init__(value_list, words, stdin_job, **options)
        _argv.check_placeholders(
            itertools.chain(*words, self._env.values(), value_list), self, subject
        )

    # ---- views

    node: Argument[Node] = Argument()

    @property
    def last_result(self) -> CommandResult | None:
        """The result of the last command that has ended, even if it failed, or None if there is none."""
        return self._last_result

    @property
    def unreachable(self) -> Unreachable | None:
        """The connection error, if the node was unreachable and the job therefore skipped, otherwise None."""
        return self._unreachable

    # ---- running

    def check_before_run(self) -> None:
        """Declare that the job needs the connection to its node, and a session of it."""
        need_session(self, self._node)

    async def co_run(self) -> Any:
        """Run the steps in order.

        Raises:
            CommandError, SshError: as for the class.
            JobTimeout: the time limit was exceeded.
            RuntimeError: the job was not started by a run.

        """
        self.forget_run()
        run = abc.run_of(self)
        values, parts, stdin = abc.arguments_of(self)
        steps = [
            [_argv.fill_word(part, number, self) for number, part in enumerate(words)]
            for words in parts
        ]
        runner = _StepRunner(self, self._placeholder_values(values), stdin)
        connection = run.shared(Connections).for_node(self._node)
        try:
            await connection.ensure(current_job())
            with run.time_limit(self, "output", cancels=True, counts=False) as limit:
                runner.session = NodeSession(
                    self, connection, self._command_options.terminate_grace, limit
                )
                try:
                    results = [
                        await runner.run(step, words)
                        for step, words in zip(self._steps, steps, strict=True)
                    ]
                finally:
                    self._last_result = runner.session.latest_result
            return results if self._is_list else results[0]
        except _errors.JobTimeout as error:
            if self._last_result is not None:
                with_output(error, self._last_result)
            raise
        except Unreachable as failure:
            if (
                not isinstance(self._node, SshNode)
                or self._node.on_unreachable == "fail"
            ):
                raise
            self._unreachable = failure
            if not connection.was_reported:
                connection.was_reported = True
                run.report(f"{failure}; its jobs are skipped")
            return None

    def _skip_reason(self) -> str:
        if self._unreachable is None:
            return ""
        return str(self._unreachable)

    def _placeholder_values(self, values: Iterable[Any]) -> PlaceholderValues:
        """Return the values of the placeholders. `values` are the values of `values=`, with the results of jobs."""
        filled = [
            _argv.fill_word(value, repr(name), self)
            for name, value in zip(self._values, values, strict=True)
        ]
        return PlaceholderValues(
            dict(zip(self._values, filled, strict=True), node=self._node.hostname)
        )

    def default_label(self, depth: int) -> str:
        """Return the name of the node and the first step, which is shortened."""
        first, *others = self._steps
        more = "; …" if others else ""
        return f"{self._node.name}: {_argv.shorten_command_line(first._describe(depth))}{more}"

    def redacted_label(self) -> str:
        """Return the name of the node, with the steps redacted."""
        return f"{self._node.name}: {REDACTED_COMMAND}"

    def command_line(self) -> str:
        """Return the name of the node and all steps in full."""
        return f"{self._node.name}: {'; '.join(map(repr, self._steps))}"

    def for_journal(self) -> abc.Work:
        """Return the node, the steps, their options, and the local files that they read and write.

        The local files that a Pull creates are not included: the user may change them, and the job is still restored.
        """
        values, words, job = abc.original_arguments_of(self)
        steps = [
            step._journal_key(value)
            for step, value in zip(self._steps, words, strict=True)
        ]
        read_files = itertools.chain(*(step._files_read() for step in self._steps))
        cwd: Any = self._command_options.cwd
        if isinstance(self._node, LocalNode):
            cwd = abc.LocalDirectory(cwd, self._node.directory)
        arguments = [
            self._node.name,
            steps,
            dict(zip(self._values, values, strict=True)),
        ]
        variables: dict[str, Any] = {
            f"variable {name!r}": abc.HashOnly(value)
            for name, value in self._env.items()
        }
        if self.redact and variables:
            variables = {"environment": abc.HashOnly(self._env)}
        return self._command_options.work(
            "ssh",
            arguments,
            job,
            {"directory": cwd, **variables},
            filter(is_path, read_files),
        )

    def forget_run(self) -> None:
        """Forget the result, the connection error and the ends of the outputs of the latest run."""
        self._last_result = self._unreachable = self._open_streams = None


class _StepRunner:
    """A runner for the steps of a job, which fills in the values of their placeholders."""

    # Set when the connection is open.
    session: NodeSession

    def __init__(self, job: SshJob, values: PlaceholderValues, stdin: object) -> None:
        job._command_options.check_files_open(repr(job.label))
        self._job: Final = job
        self._values: Final = values
        subject = name_in_errors(repr(job.label), job.redact)
        if stdin is None:
            stdin = job._command_options.stdin
        self._stdin: Final = _argv.check_stdin(stdin, subject)
        # Whether the next command is the first. `append` and `on_start` are for the first command.
        self._is_first = True

    async def run(self, step: Step, words: list[str]) -> Any:
        """Run a step, whose words have been filled in, and return its result."""
        if isinstance(step, Command):
            return await self._command(step, words)
        if isinstance(step, Program):
            return await self._script(step, words)
        copy: Any = (
            _sftp_transfers.push if isinstance(step, Push) else _sftp_transfers.pull
        )
        *sources, to = words
        try:
            return await copy(self.session, sources, self._values.fill(to), repr(step))
        except OSError as error:
            what = f"{self._job._node.name}: {self.session.redact(repr(step))}: {error.strerror}"
            raise OSError(error.errno, what, error.filename) from None

    async def _command(self, step: Command, words: list[str]) -> CommandResult:
        if not step.is_shell_line:
            return await self._run(words, shlex.join(words))
        parts, _ = self._values.split(words)
        line = os.fsdecode(join_line(parts))
        return await self._run(["/bin/sh", "-c", line], line)

    async def _script(self, step: Program, words: list[str]) -> CommandResult:
        text, arguments, includes = step._split_words(words)
        description = repr(step)
        name = os.path.basename(text)
        if isinstance(step, Script):
            with self.session.hidden_paths():
                script = await _sftp_transfers.read_script(text)
        else:
            script = os.fsencode(text)
            description = "a script"
            name = "script"
        interpreter_line = shlex.join(interpreter(script))
        texts = itertools.chain([os.fsdecode(script)], *self._variables().items())
        text = "".join(texts)
        # In the shell's quotes, a quotation mark takes four bytes.
        size = len(os.fsencode(text)) + 3 * text.count("'")
        is_small = size <= MAX_INLINE_BYTES and b"\0" not in script and not includes
        if is_small and not isinstance(self._job._node, LocalNode):
            words = [
                "/bin/sh",
                "-c",
                f'{INLINE_SCRIPT}{interpreter_line} "$s" "$@"',
                "trioflow",
                *arguments,
            ]
            return await self._run(
                words, description, variables={"TRIOFLOW_SCRIPT": os.fsdecode(script)}
            )
        async with _sftp_transfers.temporary_directory(
            self.session, script, name, includes, description
        ) as directory:
            from_directory = f'{DIRECTORY_SCRIPT}{interpreter_line} "$d" "$@"'
            words = [
                "/bin/sh",
                "-c",
                from_directory,
                "trioflow",
                directory,
                name,
                self._directory() or "",
                *arguments,
            ]
            return await self._run(words, description, enters_directory=False)

    def _directory(self) -> str | None:
        cwd = self._job._command_options.cwd
        if cwd is None:
            return None
        return self.session.connection.node_path(self._values.fill(os.fsdecode(cwd)))

    async def _run(
        self,
        words: Sequence[str],
        description: str,
        *,
        enters_directory: bool = True,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> CommandResult:
        """Run a command. If `enters_directory`, run it in the directory that the job's `cwd` names."""
        job = self._job
        options = self._job._command_options
        words = list(words)
        directory = self._directory()
        if directory is not None and enters_directory:
            words = [
                "/bin/sh",
                "-c",
                CHANGE_DIRECTORY_SCRIPT,
                "trioflow",
                directory,
                *words,
            ]
        on_start = options.on_start if self._is_first else None
        on_line = options.on_line
        stdio = Stdio(
            stdout=self._fill_path(options.stdout),
            stderr=self._fill_path(options.stderr),
            on_start=None if on_start is None else lambda: on_start(job),
            on_line=None if on_line is None else lambda line: on_line(job, line),
            tag=make_tag_function(
                options.tag,
                job._node.name,
                {"label": str(job.label), **self._values.by_name},
            ),
            truncate=self._is_first and not options.append,
            env={**self._variables(), **variables},
            **job._service_stdio,
        )
        self._is_first = False
        if self._stdin is None:
            return await self.session.run(
                words, stdio, description, allowed=options.success_codes
            )
        async with _sftp_transfers.temporary_file(self.session, self._stdin) as path:
            stdio = dataclasses.replace(stdio, stdin=path)
            return await self.session.run(
                words, stdio, description, allowed=options.success_codes
            )

    def _variables(self) -> dict[str, str]:
        own = {
            name: self._fill_variable(value) for name, value in self._job._env.items()
        }
        return {**own, **_argv.propagated_variables(own.get)}

    def _fill_variable(self, value: str | granted) -> str:
        if isinstance(value, granted):
            return value.text(self._job)
        return self._values.fill(value)

    def _fill_path(self, value: Any) -> Any:
        if is_path(value):
            return self._values.fill(os.fsdecode(value))
        return value


def _check_variables(env: Mapping[Any, Any], subject: str) -> dict[str, str | granted]:
    """Check the environment variables for a node, and convert their names and values to strings.

    Raises:
        TypeError: `env` is not a mapping.
        ValueError: a name is not valid in a shell, or a value contains a NUL.

    """
    _argv.check_mapping(env, "env", subject)
    variables: dict[str, str | granted] = {}
    for key, value in env.items():
        name = str(key)
        variables[name] = value
        if not isinstance(value, granted):
            variables[name] = str(value)
        if not _VARIABLE_NAME_PATTERN.fullmatch(name):
            raise ValueError(
                f"env of {subject}: {shown_value(name, subject)} is not a valid name for a variable on a node: use "
                "letters, digits and '_', and do not begin with a digit"
            )
        if "\0" in str(variables[name]):
            raise ValueError(
                f"env of {subject}: the value of {shown_value(name, subject)} contains a NUL; remove it"
            )
    return variables


_VARIABLE_NAME_PATTERN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _check_value_names(values: Mapping[Any, Any], subject: str) -> Iterable[str]:
    _argv.check_mapping(values, "values", subject)
    for name in values:
        if not (isinstance(name, str) and name.isidentifier() and name != "node"):
            raise ValueError(
                f"values of {subject}: {shown_value(name, subject)} cannot be a placeholder: give an identifier "
                "other than 'node', which is reserved"
            )
    return values
