"""The connections of a run: one per node, opened for its first job, shared by its jobs, closed when the run ends.

```
ensure ──► open? ──► wait for the lock ──► open the gateway ──► ask ssh for the server ──► handshake ──► open
                       │ failed meanwhile    │ failed             and wait until fewer       │ refused: pause, try again
                       └──► Unreachable      └──► Unreachable     connect to it              └──► Unreachable at last
```

The connection is the gate of the node's sessions, which the engine opens while the node's jobs wait, SCHEDULED. A
clean-up job, which waits for nothing, opens it itself. So does a job that finds it lost. The connection remembers a
failure, and raises it once in every job of the node. For a job that has had this failure (`retry=`), there is another
attempt.

A `LocalNode` has a connection with the same interface, which runs commands and copies files on this machine, without
ssh.

The node may accept fewer sessions (MaxSessions): a job that learns of it goes back to wait, and the number is lower
from then on, for the engine, too. A job of which a step has begun waits for a session where it is.

Decided in docs/decisions: 35-ssh-sessions.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import random
import shutil
import signal
import stat
import sys
import tempfile
from collections import defaultdict
from collections.abc import Hashable, Sequence
from math import inf
from subprocess import DEVNULL, PIPE
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

import anyio

from ... import _posix as posix
from ..._core.job._errors import JobTimeout, Throttled
from ..._core.job._job_options import declare_run_resource
from ..._core.job._option_descriptors import set_run_need
from ...abc import AbstractJob, RunHandle, run_of
from ..command._command_job import CommandJob
from ..command._output_sinks import MAX_TAIL_BYTES, file_tail
from ..command._result import CommandError
from ..posix._guard import Guard, start_watcher
from ..posix._processes import Process, end_group, spawn
from . import _local_copier, _transport
from ._nodes import LocalNode, Node, SshNode
from ._ssh_errors import SshError, Unreachable
from ._transport import READY, Diagnostics, Gateway, OpenSsh, Operation

MAX_ATTEMPTS: Final = 3
INITIAL_RETRY_DELAY: Final = 0.5
"""How often a connection is tried, a crowded node until `connect_timeout` has passed, and the first pause in seconds.
It doubles, and varies by up to half."""
MAX_RETRY_DELAY: Final = 8.0
MAX_JITTER: Final = 0.02
"""The maximum random delay, in seconds, of a handshake that begins while others with its server are under way."""
MAX_CONCURRENT_STARTS: Final = 32
"""The maximum number of connections and queries of ssh's settings that start at the same time. Starting a connection
takes about 30 ms of this machine's CPU, a query 7 ms."""
MAX_HANDSHAKES: Final = 10
"""The maximum number of connections to a server that are opened at a time: an sshd drops more (its `MaxStartups`)."""
MAX_START_SECONDS: Final = 1.0
"""A connection no longer counts as starting after this time, in seconds: it then waits for a slow node."""
CLOSE_TIMEOUT: Final = 2.0
"""The time, in seconds, until an ssh that does not end on SIGTERM is killed. It also limits a query of settings."""
SIGNAL_INTERVAL: Final = 0.1
"""The time, in seconds, between repeated SIGTERMs: ssh misses a signal that arrives just before it begins to wait."""
REMOVE_SCRIPT: Final = (
    'trap "" HUP INT TERM; read line; n=0; [ "$line" = removed ] || '
    'while [ -e "$1" ] && [ $((n+=1)) -le 9 ]; do rm -rf -- "$1"; sleep 0.1 || sleep 1; done'
)
"""A shell script that removes a directory when its standard input closes, which happens when this program exits. It
tries repeatedly, because a starting ssh may still create its socket in the directory. If it reads the line `removed`
first, the program has removed the directory itself, and the script does nothing."""
# The length of `sun_path` is the limit: https://man7.org/linux/man-pages/man7/unix.7.html.
MAX_DIRECTORY_BYTES: Final = 70
"""The maximum length, in bytes, of the path of the directory for sockets. The path of a Unix socket is limited to 104
to 108 bytes, depending on the operating system. OpenSSH appends a temporary suffix of 18 bytes. The rest is left for
the socket's name."""
MAX_LOG_SIZE: Final = 64 << 20
"""The maximum number of bytes that ssh may report on a connection. A server that says more has no connection. The limit
holds for all files that ssh writes, so it is above the size of a file with the keys of all known hosts."""


class Connections:
    """The connections of an outermost run, one per node."""

    def __init__(self, run: RunHandle) -> None:
        self.run: Final = run
        # Created first, and therefore closed last.
        self.guard: Final = run.shared(Guard)
        self.transport: Final = OpenSsh()
        self._connections_by_node: Final = dict[SshNode, Connection]()
        self._local_connections: Final = dict[LocalNode, LocalConnection]()
        self.start_limiter: Final = anyio.CapacityLimiter(MAX_CONCURRENT_STARTS)
        self.handshakes: Final = defaultdict[Any, anyio.CapacityLimiter](
            lambda: anyio.CapacityLimiter(MAX_HANDSHAKES)
        )
        """For each server, the limiter of connections that are being opened. Several nodes may share a server."""
        self._directory: PrivateDirectory | None = None
        self.pulled: Final = WeakValueDictionary[str, AbstractJob[Any]]()
        """For each file or directory that the run has pulled to this machine, the job that did so."""

    def for_node(self, node: Node) -> Connection | LocalConnection:
        """Return the connection to a node, which may not be open yet. For a `LocalNode`, return a `LocalConnection`."""
        if isinstance(node, LocalNode):
            return self._local_connections.setdefault(node, LocalConnection(node))
        return self.ssh_connection(node)

    def ssh_connection(self, node: SshNode) -> Connection:
        if node not in self._connections_by_node:
            self._connections_by_node[node] = Connection(
                self, node, len(self._connections_by_node)
            )
        return self._connections_by_node[node]

    @property
    def directory(self) -> str:
        """The path of a directory for the sockets, which other users cannot read. It is created on first access."""
        if self._directory is None:
            self._directory = PrivateDirectory()
        return self._directory.path

    async def close(self) -> None:
        """Close all connections, those to gateways last."""
        try:
            opened = [
                connection
                for connection in self._connections_by_node.values()
                if connection.process is not None
            ]
            gateways = {connection.node.gateway for connection in opened}
            for is_gateway in (False, True):
                closing = [
                    connection
                    for connection in opened
                    if (connection.node in gateways) is is_gateway
                ]
                for connection in closing:
                    connection.request_end()
                for connection in closing:
                    await connection.end()
        finally:
            if self._directory is not None:
                self._directory.remove()


MAX_SESSIONS: Final = 8
"""The maximum number of jobs that run on a node at once. A server allows 10 sessions by default (MaxSessions)."""
MAX_REFUSALS: Final = 20
"""The maximum number of retries after a refused request for a session. Their pauses take about 15 seconds in total."""
_SESSION_RESOURCES: Final = dict[SshNode, str]()


def pause_after(refusal_count: int) -> float:
    """Return the pause in seconds before a session is asked for again, after so many earlier refusals."""
    return min(1.0, 0.02 * 2.0**refusal_count)


def need_session(job: AbstractJob[Any], node: Node) -> None:
    """Let a job wait for the connection to its node, and for a session in it. The job holds nothing meanwhile."""
    if isinstance(node, SshNode):
        if node not in _SESSION_RESOURCES:
            name = f"sessions of {node.name}"
            if name in _SESSION_RESOURCES.values():
                # For another user, or with other options.
                name += f" ({len(_SESSION_RESOURCES)})"
            declare_run_resource(
                name,
                lambda: MAX_SESSIONS,
                f"connecting to {node.name}",
                _find_connection,
            )
            _SESSION_RESOURCES[node] = name
        set_run_need(job, _SESSION_RESOURCES[node], 1)


def _find_connection(job: Any) -> Connection:
    return run_of(job).shared(Connections).ssh_connection(job.node)


class Connection:
    """The connection to a node, held open by an ssh process. It is the gate of the node's sessions."""

    def __init__(self, connections: Connections, node: SshNode, number: int) -> None:
        """Create a closed connection. `number` names its socket, and is unique in the run."""
        self.node: Final = node
        self.transport: Final = connections.transport
        # The ssh that holds the connection.
        self.process: Process | None = None
        # Whether the run has reported that the node is unreachable.
        self.was_reported = False
        # Files on the node, to be removed before the next command or transfer.
        self.leftover_files: list[str] = []
        self._connections: Final = connections
        self.run: Final = connections.run
        self._number: Final = number
        # Held while opening.
        self._lock: Final = anyio.Lock()
        # Limits commands and transfers.
        self.sessions: Final = anyio.CapacityLimiter(MAX_SESSIONS)
        # How often the node has refused a session to each job of which nothing has begun.
        self.refusals: Final = WeakKeyDictionary[Any, int]()
        # Whether `process` has printed READY.
        self._is_ready = False
        # The failure of the last attempt, or None if it has succeeded.
        self._failure: Exception | None = None
        # The jobs, and the connections behind this connection, that have had this failure. For them, another attempt is
        # made.
        self._told: WeakSet[object] = WeakSet()
        # ssh's settings for this node, once queried.
        self._settings: dict[str, str] | None = None

    @property
    def socket(self) -> str:
        """The path of the socket: sessions share the connection through it."""
        return os.path.join(self._connections.directory, str(self._number))

    def is_open(self) -> bool:
        """Return whether the connection is open, as far as ssh has noticed."""
        return (
            self._is_ready
            and self.process is not None
            and not self.process.has_exited()
        )

    # ---- sessions and transfers

    def lower_limit(self, user: AbstractJob[Any], count: int) -> bool:
        """Let fewer sessions be in use at once: the node has refused one. Return whether `user` can go back to wait.

        It cannot if it is a job whose body runs a command by hand.
        """
        self.sessions.total_tokens = min(self.sessions.total_tokens, count)
        return self.run.lower_total(user, _SESSION_RESOURCES.get(self.node, ""), count)

    def throttle(self, user: AbstractJob[Any]) -> Throttled | None:
        """Return what lets a job wait for a session again that the node has refused, or None after too many times."""
        count = self.refusals.get(user, 0)
        self.refusals[user] = count + 1
        if count < MAX_REFUSALS:
            return Throttled(_SESSION_RESOURCES[self.node], pause_after(count))
        return None

    # ssh and sftp run in this program's working directory.
    directory: Final = None
    # The path prefix of temporary files. Relative paths start at the home directory.
    scratch: Final = ""

    def command(self, line: str) -> Sequence[str]:
        return self.transport.run(self.node, self.socket, line)

    def copy_command(
        self, operations: Sequence[Operation]
    ) -> tuple[Sequence[str], bytes]:
        """Return the sftp command that executes file operations, and its standard input.

        Raises:
            ValueError: a name contains a line break.

        """
        text = "\n".join(
            [*[operation.sftp_command() for operation in operations], ""]
        ).encode(errors="surrogateescape")
        return self.transport.transfer(self.node, self.socket), text

    parse_listing = staticmethod(_transport.parse_fetched)
    explain_errors = staticmethod(_transport.filter_errors)

    def node_path(self, path: str) -> str:
        """Replace a leading `~` in a path on the node, because relative paths start at the home directory.

        A path that begins with "-" gets the prefix "./", which keeps it from being parsed as an option.
        """
        if path == "~":
            path = "."
        else:
            path = path.removeprefix("~/") or "."
        return f"./{path}" if path.startswith("-") else path

    # ---- opening

    def is_closed_to(self, user: object) -> bool:
        """Return whether a job, or a connection behind this connection, has to wait for an attempt to connect."""
        return not self.is_open() and (self._failure is None or user in self._told)

    async def open(self, _jobs: object) -> None:
        """Try to open the connection, unless it is open. Remember the failure."""
        async with self._lock:
            if not self.is_open():
                await self._try_to_open()

    async def ensure(self, user: object) -> None:
        """Open the connection, unless it is open. Raise a failed attempt's exception that the user has not had yet.

        Args:
            user: the job that uses the connection, or the connection to a node behind this node.

        Raises:
            Unreachable: the node could not be reached.
            SshError: the node refuses the login, or ssh rejects its settings or cannot be started.

        """
        while not self.is_open():
            async with self._lock:
                if self.is_closed_to(user):
                    await self._try_to_open()
                if self._failure is not None:
                    self._told.add(user)
                    # Raised in several jobs, it would accumulate their tracebacks.
                    raise copy.copy(self._failure)

    async def _try_to_open(self) -> None:
        failure: Exception | None = None
        try:
            await self._open()
        except Exception as error:
            failure = error
        self._failure = failure
        self._told.clear()

    async def _open(self) -> None:
        # Clean up after a lost connection.
        await self.end()
        gateway = await self._open_gateway()
        handshakes = self._connections.handshakes[await self._server_key()]
        # Attempts and pauses count, waiting for other connections does not.
        seconds_left = self.node.connect_timeout
        pause = INITIAL_RETRY_DELAY
        attempts = 0
        while True:
            async with handshakes:
                if handshakes.borrowed_tokens > 1:
                    await anyio.sleep(random.uniform(0, MAX_JITTER))
                diagnostics, seconds_taken = await self._connect(gateway, seconds_left)
            if diagnostics is None:
                return
            attempts += 1
            wait = pause * random.uniform(0.5, 1.5)
            if diagnostics.is_final:
                raise SshError(
                    self.node,
                    await self._complete_problem(diagnostics),
                    diagnostics.advice,
                )
            seconds_left -= seconds_taken + wait
            if seconds_left <= 0 or (
                attempts >= MAX_ATTEMPTS and not diagnostics.is_crowded
            ):
                times = "once" if attempts == 1 else f"{attempts} times"
                raise Unreachable(
                    self.node,
                    f"it cannot be reached (tried {times}): {diagnostics.problem}",
                )
            await anyio.sleep(wait)
            pause = min(2 * pause, MAX_RETRY_DELAY)

    async def _open_gateway(self) -> Gateway | None:
        if self.node.gateway is None:
            return None
        assert not isinstance(self.node.gateway, str)
        connection = self._connections.ssh_connection(self.node.gateway)
        try:
            await connection.ensure(self)
        except SshError as failure:
            kind = Unreachable if isinstance(failure, Unreachable) else SshError
            notes: list[str] = getattr(failure, "__notes__", [])
            raise kind(
                self.node, f"cannot connect to its gateway: {failure}", "; ".join(notes)
            ) from None
        return Gateway(connection.node, connection.socket)

    async def _server_key(self) -> Hashable:
        """Return a key for the server that ssh connects to first, according to its settings, possibly a jump host."""
        node = self.node
        settings = await self._query_settings()
        if node.gateway is not None:
            # The connection to the gateway is open already, so the node is reached from there.
            return node.gateway, node.hostname, node.port
        for name in ("proxyjump", "proxycommand"):
            if settings.get(name, "none") != "none":
                return settings[name]
        return settings.get("hostname", node.hostname), settings.get("port", node.port)

    async def _connect(
        self, gateway: Gateway | None, seconds: float
    ) -> tuple[Diagnostics | None, float]:
        """Try once to connect, within a number of seconds.

        Returns:
            The diagnostics of a failure, or None on success, and the number of seconds taken.

        """
        clock = self.run.clock
        output = -1
        try:
            async with self._connections.start_limiter:
                began = clock()
                output = self._start(gateway)
                process = self.process
                assert process is not None
                self._is_ready = await self._wait_until_ready(
                    output, began + min(seconds, MAX_START_SECONDS)
                )
            if not (self._is_ready or process.has_exited()):
                self._is_ready = await self._wait_until_ready(output, began + seconds)
            if self._is_ready:
                return None, clock() - began
            timed_out = not process.has_exited()
        except BaseException:
            await self.end(0.0)
            raise
        finally:
            if output >= 0:
                os.close(output)
        await self.end(0.0)
        if timed_out:
            return Diagnostics(
                f"no answer in {self.node.connect_timeout:g} s"
            ), clock() - began
        # The log has the server's banner, too.
        log = file_tail(self._log_file, MAX_TAIL_BYTES) or b""
        return self.transport.diagnose(
            self.node, log.decode(errors="backslashreplace")
        ), clock() - began

    def _start(self, gateway: Gateway | None) -> int:
        """Start the ssh that holds the connection, and return the descriptor of its output."""
        command = self.transport.connect(self.node, self.socket, gateway)
        with contextlib.suppress(FileNotFoundError):
            # If a killed ssh has left its socket, the new ssh would not share its connection.
            os.unlink(self.socket)
        read_end, write_end = os.pipe()
        try:
            with open(self._log_file, "wb") as errors:
                self.process = spawn(
                    self._connections.guard,
                    command,
                    stdout=write_end,
                    stderr=errors.fileno(),
                )
            if sys.platform == "linux":
                # The messages of a server before the login have no limit of their own.
                _limit_file_size(self.process.pid)
        except OSError as error:
            os.close(read_end)
            raise SshError(
                self.node, f"{command[0]} could not be started: {error}"
            ) from error
        finally:
            os.close(write_end)
        return read_end

    @property
    def _log_file(self) -> str:
        return self.socket + ".log"

    async def _wait_until_ready(self, descriptor: int, deadline: float) -> bool:
        wait = self.run.wait_readable
        output = b""
        while await wait(descriptor, deadline):
            data = os.read(descriptor, 4096)
            output = output[-len(READY) :] + data
            if READY.encode() in output:
                return True
            if not data:
                # ssh has closed its output, so it has exited or will soon.
                assert self.process is not None
                await wait(self.process.exit_descriptor, deadline)
                return False
        return False

    async def _complete_problem(self, diagnostics: Diagnostics) -> str:
        """Return the problem of the diagnostics, completed with the names of the key files concerned."""
        identity = self.node.identity
        known = self.node.known_hosts
        if diagnostics.is_login_rejected and identity and not _exists(identity):
            return f"{diagnostics.problem}; identity={os.fspath(identity)!r} does not exist"
        if not diagnostics.has_keys_placeholder:
            return diagnostics.problem
        if known is None:
            known = " or ".join(
                (await self._query_settings()).get("userknownhostsfile", "").split()
            )
        return diagnostics.problem.replace(
            "{keys}", os.fspath(known) or "the known_hosts files"
        )

    async def _query_settings(self) -> dict[str, str]:
        """Return ssh's settings for the node as a dict, which is empty if the query fails."""
        if self._settings is None:
            output = ""
            command = self.transport.settings(self.node)
            query = CommandJob(
                command,
                stdout=PIPE,
                stderr=DEVNULL,
                timeout=CLOSE_TIMEOUT,
            )
            with contextlib.suppress(CommandError, JobTimeout):
                async with self._connections.start_limiter:
                    output = (await query.co_run()).text
            self._settings = {}
            for line in output.splitlines():
                name, _, value = line.partition(" ")
                self._settings[name] = value
            self.transport.note_settings(self._settings)
        return self._settings

    # ---- closing

    def request_end(self) -> None:
        """Send SIGTERM to the ssh that holds the connection. Do not wait for its exit."""
        if self.process is not None:
            self.process.signal_group(signal.SIGTERM)

    async def end(self, kill_delay: float = CLOSE_TIMEOUT) -> None:
        """Close the connection, and end its ssh and helper processes. A cancellation does not interrupt this.

        Args:
            kill_delay: the time, in seconds, until SIGKILL is sent instead of SIGTERM.

        """
        process = self.process
        run = self.run
        self._is_ready = False
        if process is None:
            return
        wait = run.wait_readable
        outlast = run.outlast
        until = run.clock() + kill_delay
        process.signal_group(signal.SIGTERM)
        while not await outlast(
            lambda: wait(process.exit_descriptor, run.clock() + SIGNAL_INTERVAL)
        ):
            number = signal.SIGTERM if run.clock() < until else posix.SIGKILL
            process.signal_group(number)
        try:
            process.reap()
            await end_group(run, process, run.clock(), run.sleep_until)
        finally:
            process.unregister()
            self.process = None


class LocalConnection:
    """A connection to this machine, with the interface of `Connection`: it is always open and never lost."""

    def __init__(self, node: LocalNode) -> None:
        self.node: Final = node
        self.directory: Final = node.directory
        self.sessions: Final = anyio.CapacityLimiter(inf)
        self.leftover_files: list[str] = []
        self.was_reported = False

    @property
    def scratch(self) -> str:
        """The path prefix of temporary files: the temporary directory with a trailing separator."""
        return os.path.join(tempfile.gettempdir(), "")

    async def ensure(self, user: object) -> None:
        """Create the node's directory, unless it exists.

        Raises:
            OSError: the directory cannot be created.

        """
        if self.directory is not None:
            os.makedirs(self.directory, exist_ok=True)

    def is_open(self) -> bool:
        return True

    def command(self, line: str) -> Sequence[str]:
        return ["/bin/sh", "-c", line]

    def copy_command(
        self, operations: Sequence[Operation]
    ) -> tuple[Sequence[str], bytes]:
        """Return the command that executes file operations, and its standard input."""
        records = [
            (type(operation).__name__, *dataclasses.astuple(operation))
            for operation in operations
        ]
        return [
            sys.executable or "python3",
            "-I",
            "-S",
            _local_copier.__file__,
        ], json.dumps(records).encode()

    def parse_listing(
        self, output: bytes, operations: Sequence[Operation]
    ) -> Sequence[str]:
        """Return the paths of the copied files, which the copy command has printed, each on a line."""
        return output.decode(errors="replace").splitlines()

    def explain_errors(self, output: bytes) -> tuple[bytes, str]:
        return output.strip(), ""

    def node_path(self, path: str) -> str:
        if path in ("~", "~/"):
            path = "~/."
        return os.path.expanduser(path)


class PrivateDirectory:
    """A temporary directory that other users cannot read. A shell removes it even if this program is killed."""

    def __init__(self) -> None:
        self.path: Final = _make_private_directory()
        read_end, self._pipe = os.pipe()
        try:
            self._remover: Final = start_watcher(
                read_end, (REMOVE_SCRIPT, "trioflow", self.path)
            )
        except BaseException:
            os.close(self._pipe)
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        finally:
            os.close(read_end)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(BrokenPipeError):
            # The shell was killed.
            os.write(self._pipe, b"removed\n")
        os.close(self._pipe)
        self._remover.wait()


def _limit_file_size(pid: int) -> None:
    """Lower the limit of a process on the size of files to `MAX_LOG_SIZE`. Only root may raise it."""
    resource = posix.resource
    limit, maximum = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit == resource.RLIM_INFINITY or limit > MAX_LOG_SIZE:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (MAX_LOG_SIZE, maximum))


def _exists(file: str | os.PathLike[str]) -> bool:
    """Return whether a file of the user is there: one look at one name, too quick to block the loop."""
    return os.path.exists(os.path.expanduser(file))


def _make_private_directory() -> str:
    """Create a directory that no other user can replace, with a path short enough for sockets.

    It is in the user's runtime directory, if possible, otherwise in that for temporary files, or in /tmp.

    Raises:
        OSError: there is no place for such a directory.

    """
    runtime_directory = os.environ.get("XDG_RUNTIME_DIR")
    for parent in (runtime_directory, tempfile.gettempdir(), "/tmp"):
        if (
            parent
            and len(os.fsencode(parent))
            <= MAX_DIRECTORY_BYTES - len("/trioflow-12345678")
            and _is_safe_parent(parent, is_private=parent == runtime_directory)
        ):
            with contextlib.suppress(OSError):
                return tempfile.mkdtemp(prefix="trioflow-", dir=parent)
    return tempfile.mkdtemp(prefix="trioflow-", dir="/tmp")


def _is_safe_parent(path: str, *, is_private: bool) -> bool:
    """Return whether no other user but root can replace files that this program creates in a directory.

    The owner of a directory can rename the files in it, no matter who owns them, and so can the owners of the
    directories above. With `is_private`, the directory itself must be this user's, without permissions for others.
    """
    parts = os.path.realpath(path)
    try:
        status = os.stat(parts)
        if is_private and (status.st_uid != posix.geteuid() or status.st_mode & 0o077):
            return False
        while True:
            status = os.lstat(parts)
            is_shared = status.st_mode & 0o022 and not status.st_mode & stat.S_ISVTX
            if (
                status.st_uid not in (0, posix.geteuid())
                or is_shared
                or not stat.S_ISDIR(status.st_mode)
            ):
                return False
            if parts == (parts := os.path.dirname(parts)):
                return True
    except OSError:
        return False
