"""Real ssh servers on loopback, for tests: their keys, their configurations, and what they have logged."""

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self
import anyio
import pytest
from trioflow import LocalNode, SshNode
from ...places import PATIENCE
from ..posix.process_trees import command_line

SSHD = "/usr/sbin/sshd"
WITHOUT_ROOT_ACCESS = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    if os.geteuid() == 0
    else ()
)
"""Prefix of a command: a program of root then may not write into read-only directories either."""


def make_key(path: Path) -> Path:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-C", "test", "-f", path],
        check=True,
    )
    return path


class Site:
    """A directory with a user's key, a configuration of ssh, a file of known hosts, and servers."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.identity = make_key(directory / "identity")
        self.known_hosts = directory / "known_hosts"
        self.known_hosts.touch()
        self.config = directory / "config"
        self.config.write_text(
            f"Host *\n  IdentityFile {self.identity}\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  UserKnownHostsFile {self.known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
            "  KexAlgorithms ecdh-sha2-nistp256\n"  # the usual one takes 75 ms of a core more for each connection
        )
        self.servers: list[Server] = []

    def serve(
        self, number: int = 2, prefix: tuple[str, ...] = (), **settings: Any
    ) -> "Server":
        """Start a server on 127.0.0.number with these settings of sshd_config, by a command with this prefix."""
        server = Server(self, f"127.0.0.{number}", settings, prefix)
        self.servers.append(server)
        return server

    def alias(self, pattern: str, server: "Server") -> None:
        """Make all names that match a pattern aliases of a server."""
        with self.config.open("a") as file:
            file.write(
                f"Host {pattern}\n  HostName {server.address}\n  Port {server.port}\n"
                f"  HostKeyAlias [{server.address}]:{server.port}\n"
            )

    def close(self) -> None:
        for server in self.servers:
            server.stop()


class Server:
    """One sshd, its host key and its log."""

    def __init__(
        self,
        site: Site,
        address: str,
        settings: dict[str, Any],
        prefix: tuple[str, ...] = (),
    ) -> None:
        self.prefix = prefix
        self.site = site
        self.address = address
        self.port = free_port(address)
        self.directory = Path(
            tempfile.mkdtemp(prefix=f"{address}-{self.port}-", dir=site.directory)
        )
        self.log = self.directory / "log"
        self.host_key = make_key(self.directory / "host_key")
        self.settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.know()
        self.start()

    def know(self) -> None:
        """Write the key of the server into the file of known hosts."""
        key = self.host_key.with_suffix(".pub").read_text()
        with self.site.known_hosts.open("a") as file:
            file.write(f"[{self.address}]:{self.port} {key}")

    def change_key(self) -> None:
        for path in (self.host_key, self.host_key.with_suffix(".pub")):
            path.unlink()
        make_key(self.host_key)
        self.stop()
        self.start()

    def start(self) -> None:
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        config = self.directory / "sshd_config"
        settings = {
            "Port": self.port,
            "ListenAddress": self.address,
            "HostKey": self.host_key,
            "PidFile": "none",
            "AuthorizedKeysFile": self.site.identity.with_suffix(".pub"),
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "PrintMotd": "no",
            "LogLevel": "VERBOSE",
            "Subsystem": "sftp internal-sftp",
            "SetEnv": "SHLVL=1",  # otherwise bash would read .bashrc, whose content is unknown
            **self.settings,
        }
        config.write_text(
            "".join(f"{name} {value}\n" for name, value in settings.items())
        )
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("TRIOFLOW")
        }
        # -r: without executing itself again, which takes 8 ms of a core, for each connection.
        command = [*self.prefix, SSHD, "-D", "-r", "-f", config, "-E", self.log]
        self.log.touch()
        end = time.monotonic() + PATIENCE
        before = self.logged("Server listening on")
        is_silent = (
            settings["LogLevel"] == "ERROR"
        )  # then it does not log that it listens
        while True:
            if (
                self._process is None or self._process.poll() is not None
            ):  # another process may have the port
                self._process = subprocess.Popen(
                    command, env=environment, start_new_session=True
                )
            if (
                is_silent or self.logged("Server listening on") > before
            ) and self._answers():
                return
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.01)

    def _answers(self) -> bool:
        with (
            contextlib.suppress(OSError),
            socket.create_connection((self.address, self.port), 1),
        ):
            return True
        return False

    def stop(self) -> None:
        if self._process is not None:
            self.cut()
            self._process.terminate()
            self._process.wait()
            self._process = None

    def cut(self) -> None:
        for pid in self.sessions():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)

    def sessions(self) -> list[int]:
        """Return the processes of the server's connections."""
        assert self._process is not None
        found, todo = list[int](), [self._process.pid]
        while todo:
            parent = todo.pop()
            with contextlib.suppress(OSError):
                children = [
                    int(pid)
                    for pid in Path(f"/proc/{parent}/task/{parent}/children")
                    .read_text()
                    .split()
                ]
                own = [pid for pid in children if "sshd" in name_of(pid)]
                found += own
                todo += own
        return found

    def logged(self, pattern: str) -> int:
        return len(re.findall(pattern, self.log.read_text()))

    @property
    def accepted(self) -> int:
        return self.logged("Accepted publickey")

    @property
    def name(self) -> str:
        return f"{self.address}:{self.port}"

    def node(self, **options: Any) -> SshNode:
        return SshNode(
            self.address, **{"port": self.port, "config": self.site.config, **options}
        )


class LocalConnection:
    """This machine as a node, which has the name of a server and the same directory."""

    name = "127.0.0.2"

    def node(self, **options: Any) -> LocalNode:
        return LocalNode(self.name, directory=HOME, **options)


Place = Server | LocalConnection
SSH_ON_TRIO = pytest.mark.parametrize(
    ("backend", "place"), [("trio", "by ssh"), ("asyncio", "local")], indirect=["place"]
)
"""On both backends and at both places, but not in all combinations: a node does not depend on the event loop."""
HOME = Path.home()


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def have_sshd() -> bool:
    return (
        os.path.exists(SSHD)
        and shutil.which("ssh") is not None
        and bool(getpass.getuser())
    )


def targets(server: Server) -> list[tuple[int, str]]:
    """Return the ssh processes of connections to a server, and the server's own processes for them."""
    found = [(pid, "sshd") for pid in server.sessions()]
    for one in filter(str.isdigit, os.listdir("/proc")):
        words = command_line(Path("/proc", one))
        if words.startswith("ssh ") and f"-p {server.port} " in words:
            found.append((int(one), "master" if " -M " in words else "client"))
    return found


class Proxy:
    """A port in front of a server, in a thread: each connection is kept waiting for a while first.

    Args:
        server: where connections go.
        delays: seconds for the first, the second, ... connection, or less if the proxy ends; none for the others.

    """

    def __init__(self, server: Server, *delays: float) -> None:
        self.server = server
        self.delays = list(delays)
        self.count = 0
        self.waiting = self.peak = (
            0  # how many connections are kept waiting, and were at most
        )
        self._listener = socket.create_server((server.address, 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        key = server.host_key.with_suffix(".pub").read_text()
        with server.site.known_hosts.open("a") as file:
            file.write(f"[{server.address}]:{self.port} {key}")

    def node(self, **options: Any) -> SshNode:
        return self.server.node(port=self.port, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(PATIENCE)

    def cut(self) -> None:
        for one in self._sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            delay = self.delays[self.count] if self.count < len(self.delays) else 0
            self.count += 1
            self._sockets.append(client)
            self._threads.append(
                threading.Thread(target=self._serve, args=(client, delay))
            )
            self._threads[-1].start()

    def _serve(self, client: socket.socket, delay: float) -> None:
        with client:
            self.waiting += 1
            self.peak = max(self.peak, self.waiting)
            self._ended.wait(delay)
            self.waiting -= 1
            with (
                contextlib.suppress(OSError),
                socket.create_connection(
                    (self.server.address, self.server.port)
                ) as other,
            ):
                self._sockets.append(other)
                back = threading.Thread(target=_pass_on, args=(other, client))
                back.start()
                _pass_on(client, other)
                back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for one in (source, target):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class Impostor:
    """A port that sends one message to every client, and then waits for the client to close."""

    def __init__(self, says: bytes = b"", *, closes: bool = False) -> None:
        self._says, self._closes = says, closes
        self.count = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def node(self, site: Site, **options: Any) -> SshNode:
        return SshNode(
            "127.0.0.1", **{"port": self.port, "config": site.config, **options}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)
        for one in self._sockets:
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.count += 1
                with contextlib.suppress(OSError):
                    client.sendall(self._says)
                if self._closes:
                    client.close()
                else:
                    self._sockets.append(client)


async def until_written(path: Path) -> None:
    """Wait until another process has written something into a file."""
    there = anyio.Path(path)
    while not (await there.exists() and (await there.read_text()).endswith("\n")):  # noqa: ASYNC110 - it has no event
        await anyio.sleep(0.01)
