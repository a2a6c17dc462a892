"""How nodes are reached: the programs of OpenSSH, and the meaning of what they complain about.

One program holds the connection (`connect`). Sessions for commands are asked for by its socket (`_mux`), which is in a
directory that is the conductor's alone. Where they cannot be, other programs use it for as long as they run, each for
one command (`run`); so do those for files (`transfer`).
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ._mux import REFUSED
from ._nodes import Paths, SshNode

READY: Final = "trioflow-ready"
"""What the program that holds a connection prints as soon as the connection is there."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """The open connection to a gateway."""

    node: SshNode
    socket: str


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """What a program of the transport has said before it gave up.

    Attributes:
        what: in words, with what to do about it.
        is_final: the node is there, but does not let us in: no use in trying again.
        is_crowded: the node has closed the connection before it knew who we are: perhaps it has too many at once.
        asks_for_keys: the words have a place for the file of the host keys.
        asks_for_login: the node does not take our key, or has none from us.

    """

    what: str
    is_final: bool = False
    is_crowded: bool = False
    asks_for_keys: bool = False
    asks_for_login: bool = False


class OpenSsh:
    """The system's `ssh` and `sftp`, which share a connection by ControlMaster."""

    def connect(self, node: SshNode, socket: str, gateway: Gateway | None) -> Sequence[str]:
        """Return what holds a connection: it prints READY when it is there (its LocalCommand), and ends by SIGTERM."""
        options = [
            *("-N", "-M", "-S", _escaped(socket)),
            *_options(
                ControlPersist="no",
                BatchMode="yes",  # never ask: there is nobody to answer
                ConnectTimeout=str(max(1, round(node.connect_timeout))),
                PermitLocalCommand="yes",
                LocalCommand=f"echo {READY}",
                LogLevel="INFO",  # its complaints are read
            ),
        ]
        # a connection that hangs would hang all that is on it
        options += _options(ServerAliveInterval="15", ServerAliveCountMax="3")
        if gateway is not None:
            options += _options(ProxyCommand=_through(gateway))
        return ["ssh", *options, *_of(node), "--", node.hostname]

    def run(self, node: SshNode, socket: str, line: str) -> Sequence[str]:
        """Return what runs a line in the login shell of the node; without a master it fails, and makes none."""
        return ["ssh", "-T", *_shared(socket), *_of(node), "--", node.hostname, line]

    def transfer(self, node: SshNode, socket: str) -> Sequence[str]:
        """Return what reads commands of sftp from its standard input, and stops at the first that fails."""
        port = () if node.port is None else _options(Port=str(node.port))
        user = () if node.username is None else _options(User=node.username)
        config = () if node.config is None else ("-F", str(node.config))
        return ["sftp", "-b", "-", *config, *_shared(socket), *port, *user, "--", _bracketed(node.hostname)]

    def settings(self, node: SshNode) -> Sequence[str]:
        """Return what prints the settings for a node, a name and a value each line."""
        return ["ssh", "-G", *_of(node), "--", node.hostname]

    def complaint(self, text: str) -> Diagnostics:
        """Return the meaning of what `connect` has written to its standard error."""
        changed = re.search(r"Offending .*? in (.+):(\d+)\s*$", text, re.MULTILINE)
        if "REMOTE HOST IDENTIFICATION HAS CHANGED" in text:
            place = f"{changed[1]}, line {changed[2]}" if changed else "{keys}"
            return Diagnostics(
                f"its host key has changed: it is not the one in {place}. Somebody may be in between; if the node was "
                f"set up anew, take the old key out (ssh-keygen -R), and put the new one in",
                is_final=True,
                asks_for_keys=changed is None,
            )
        if "Host key verification failed" in text:
            return Diagnostics(
                "its host key is not known: there is none for it in {keys}. Check the key and put it there "
                "(ssh-keyscan), or let the first one be taken: accept_new=True, or trioflow ssh --accept-new",
                is_final=True,
                asks_for_keys=True,
            )
        last = _last_words(text)
        if "Permission denied" in text or "Too many authentication failures" in text:
            return Diagnostics(
                f"it does not let us in ({last}): ssh must be able to log in without being asked anything; "
                f"try: ssh -o BatchMode=yes",
                is_final=True,
                asks_for_login=True,
            )
        if _BAD_SETTINGS.search(text):
            return Diagnostics(f"ssh cannot use its settings: {last}", is_final=True)
        if re.search(r"no matching|Bad remote protocol|invalid characters|incorrect|[Pp]rotocol mismatch", text):
            return Diagnostics(f"no ssh server that we can talk to: {last}", is_final=False)
        crowded = re.search(r"kex_exchange_identification|Connection (?:closed|reset) by", text) is not None
        if "Stdio forwarding request failed" in text:
            return Diagnostics("its gateway cannot reach it")
        return Diagnostics(last or "ssh ended without a word", is_crowded=crowded)

    def never_started(self, text: str) -> bool:
        """Return whether `run`, `transfer`, or a session (`_mux`), says that nothing can have started.

        It was refused, or found no master: then it falls back to a ProxyCommand, which fails.
        """
        return REFUSED in text or ("UNKNOWN port 65535" in text and "mux_client" not in text)

    def is_full(self, text: str) -> bool:
        """Return whether `run`, or `transfer`, says that the node lets no more of them in at once."""
        return "refused by peer" in text


OPENSSH: Final = OpenSsh()
_BAD_SETTINGS: Final = re.compile(
    "[Bb]ad configuration option|terminating, .* bad configuration|command-line line|Can't open user config file"
    "|Bad owner or permissions"
)
NOWHERE: Final = "false"
"""The ProxyCommand of programs that are to use a connection that is there, and none of their own."""


def _options(**given: str) -> list[str]:
    return [word for name, value in given.items() for word in ("-o", f"{name}={value}")]


def _shared(socket: str) -> list[str]:
    path = _options(ControlPath=_quoted(_escaped(socket)))
    settings = _options(
        ControlMaster="no",
        ProxyCommand=NOWHERE,
        BatchMode="yes",
        RemoteCommand="none",
        RequestTTY="no",
        LogLevel="INFO",  # their complaints are read, which sftp -q would keep back
    )
    return [*path, *settings]


def _of(node: SshNode) -> list[str]:
    """Return the options for a node."""
    found: list[str] = []
    if node.config is not None:
        found += ["-F", str(node.config)]
    if node.username is not None:
        found += ["-l", node.username]
    if node.port is not None:
        found += ["-p", str(node.port)]
    if node.identity is not None:  # not by -i: ssh looks for that file before it fills in what % stands for
        found += _options(IdentityFile=_file(node.identity))
    if node.known_hosts is not None:
        found += _options(UserKnownHostsFile=_file(node.known_hosts))
    if node.accept_new:
        found += _options(StrictHostKeyChecking="accept-new")
    return found


def _through(gateway: Gateway) -> str:
    """Return a ProxyCommand that goes through the connection of a gateway."""
    words = ["ssh", *_shared(gateway.socket), *_of(gateway.node)]
    return f"{_escaped(shlex.join(words))} -W '[%h]:%p' {shlex.quote(gateway.node.hostname)}"


def _file(path: Paths) -> str:
    """Return the path of a file as ssh takes it in its settings."""
    return _quoted(_escaped(os.path.abspath(os.path.expanduser(os.fspath(path)))))


def _escaped(path: str) -> str:
    """Return a path as a value in which % stands for something."""
    return path.replace("%", "%%")


def _quoted(path: str) -> str:
    """Return a path as one word of a configuration."""
    if not re.search(r"[\s\"'\\#]", path):
        return path
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _bracketed(hostname: str) -> str:
    """Return a hostname that sftp does not split at a colon."""
    return f"[{hostname}]" if ":" in hostname else hostname


def _last_words(text: str) -> str:
    """Return the last line that says something."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith(("Warning: Permanently added", "Killed by signal"))]
    return said[-1] if said else ""
