"""`SshService`: a program on another machine that serves other jobs, such as a sniffer, as a `Service`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, ClassVar, Final, Unpack

import anyio

from ..._core.base._text_forms import shown_value
from ..._core.job._option_descriptors import Argument
from ...abc import AbstractJob, JobOptions, RunHandle, arguments_of
from ..command import _argv, _program_service, _readiness
from ..command._spawn_options import subject_of
from . import _connections, _nodes, _wrapper
from ._ssh_job import Path, SshJob
from ._steps import Program, Pull, Push, parse_steps


class SshService(_program_service.ProgramService):
    r"""A program on another machine that serves jobs while it runs, such as a sniffer or a receiver.

    Use it for a program on a node that other jobs need while they run.

    Jobs that require the service start when it is ready, according to `ready`. The program is run as by an `SshJob`,
    over the node's only connection. It takes a session of the connection while it runs. The service is ended after the
    jobs that use it: its process group gets SIGTERM, and SIGKILL after `terminate_grace` seconds. None of its processes
    is left on the node, even if this program is killed, or the connection breaks. If the program ends earlier, the
    service fails at once, whatever the exit code. The error includes the end of its output.

    The program must be ready within the service's `timeout`, which begins when the connection is open. Otherwise the
    error names the condition, and includes the end of the output. Without a `timeout`, the wait is unlimited. `retry`
    applies until the program is ready. The program must stay in the foreground.

    Args:
        node: an `SshNode`, the name of a node, or `LocalNode()` for this machine.
        command: a string or a t-string for the node's shell, a tuple of a program and its arguments, a `Script`, or a
            `ScriptText`, as for an `SshJob`.
        ready: the sign of the program's readiness. With `OutputLine("listening on")`, it must write a line with this
            text. With `PortOpen(5432)`, it must accept connections on this port of the node, which bash or nc tries
            there. The result of the service is the line, or the number of the port.
        stdout: the destination of standard output, as for an `SshJob`. If `stdout` is None, and `stderr` is None,
            `PIPE` or `STDOUT`, the lines of both streams are printed to this program's standard error as they arrive.
        stderr: the destination of standard error, as for an `SshJob`.
        on_line: called with the service and each line of output, which is then not printed.
        tag: whether to print each line with a prefix, or a template for the prefix, as for an `SshJob`.
        values, cwd, env, stdin, terminate_grace, append: as for an `SshJob`.
        options: the options of every job. See `AbstractJob`.

    Raises:
        TypeError, ValueError: the command or an option is invalid.
        CommandError: when the service runs: the program could not be started, or ended by itself, or its port is in
            use.
        JobTimeout: when the service runs: the program was not ready in time.
        SshError: when the service runs: the node cannot be reached, or the connection was lost.

    Example:
        >>> import subprocess
        >>> node = LocalNode()
        >>> sniffer = SshService(node, "echo listening; exec sleep 60", ready=OutputLine("listening"), timeout=10)
        >>> sender = SshJob(node, "echo sent", required=sniffer, stdout=subprocess.PIPE)
        >>> Scheduler(sniffer, sender).run(), sender.result().text
        (True, 'sent\n')

    """

    __slots__ = ()
    _job: _ServedCommand

    def __init__(
        self,
        node: _nodes.SshNode | _nodes.LocalNode | str,
        command: str | _argv.Template | tuple[Any, ...] | Program,
        /,
        *,
        ready: _readiness.OutputLine | _readiness.PortOpen,
        values: Mapping[str, Any] | None = None,
        cwd: Path | None = None,
        env: Mapping[str, Any] | None = None,
        stdin: bytes | Path | int | IO[Any] | AbstractJob[Any] | None = None,
        stdout: Path | int | IO[Any] | None = None,
        stderr: Path | int | IO[Any] | None = None,
        terminate_grace: float = 5.0,
        on_line: Callable[[SshService, str], object] | None = None,
        tag: bool | str = False,
        append: bool = True,
        **options: Unpack[JobOptions],
    ) -> None:
        subject = subject_of(options, "SshService")
        step, *others = parse_steps(command, subject)
        if others or isinstance(step, (Push, Pull)):
            raise TypeError(
                f"{subject}: a service runs one program; copy files in an SshJob that it requires"
            )
        if not isinstance(ready, (_readiness.OutputLine, _readiness.PortOpen)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"ready={shown_value(ready, subject)} of {subject}: give PortOpen(5432), or OutputLine(...)"
            )
        readiness: Any
        if isinstance(ready, _readiness.PortOpen):
            readiness = _PortOfNode(ready)
        else:
            readiness = ready._copy()

        def make_job(record_line: Callable[[object, str], None]) -> SshJob:
            return _ServedCommand(
                node, command, values=values, cwd=cwd, env=env, stdin=stdin, stdout=stdout, stderr=stderr, check=False,
                terminate_grace=terminate_grace, on_line=record_line, tag=tag, append=append,
                label=options.get("label"), redact=options.get("redact", False),
            )  # fmt: skip

        super().__init__(
            make_job,
            ready,
            readiness,
            (stdout, stderr),
            on_line,
            tag,
            subject,
            **options,
        )
        if isinstance(readiness, _PortOfNode):
            self._job._service_stdio = {
                "port": readiness.script,
                "on_ready": lambda: readiness.opened.set(),
            }

    node: Argument[_nodes.Node] = Argument("_job.node")

    def _skip_reason(self) -> str:
        return self._job._skip_reason()

    def check_before_run(self) -> None:
        """Declare that the service needs the connection to its node, and a session of it."""
        _connections.need_session(self, self.node)

    def _output_paths(self) -> Sequence[Any]:
        values = self._job._placeholder_values(arguments_of(self._job)[0])
        return [values.fill(str(path)) for path in self._output_files]


class _ServedCommand(SshJob):
    """The job that runs the program of a service."""

    _name_in_errors: ClassVar[str] = "SshService"
    __slots__ = ()


class _PortOfNode(_readiness.Readiness):
    """The condition that a program accepts connections on a port of its node, which the program's wrapper tests."""

    opened: anyio.Event

    def __init__(self, port: _readiness.PortOpen) -> None:
        self._port: Final = port
        self.script: Final = _wrapper.port_script(port.host, port.number)

    def __str__(self) -> str:
        return str(self._port)

    def _check_before_start(self) -> None:
        self.opened = anyio.Event()

    async def _wait(self, run: RunHandle, output_files: object) -> int:
        await self.opened.wait()
        return self._port.number
