"""The command lines of OpenSSH's programs, the operations of `sftp`, and the interpretation of their output.

A single ssh holds the connection to a node (`connect`). It listens on a socket, in a directory that only the user can
read. Each command (`run`) is an ssh, and each file transfer (`transfer`) an sftp, which ask for a session on that
socket.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ._nodes import Paths, SshNode, add_brackets

READY: Final = "trioflow-ready"
"""The line that ssh prints as soon as the connection is open."""
LOST_SESSION_CODE: Final = 255


@dataclass(frozen=True, slots=True)
class Gateway:
    """An open connection to a gateway, and the path of its socket."""

    node: SshNode
    socket: str


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """An explanation of ssh's error messages.

    Attributes:
        problem: the problem.
        advice: advice on it, or "" if there is none.
        is_final: whether another attempt would be useless, because the login or the settings were rejected.
        is_crowded: whether the node closed the connection before authentication, perhaps because it has too many.
        has_keys_placeholder: whether `problem` contains `{keys}`, which stands for the names of the known_hosts files.
        is_login_rejected: whether the node rejected the login.

    """

    problem: str
    advice: str = ""
    is_final: bool = False
    is_crowded: bool = False
    has_keys_placeholder: bool = False
    is_login_rejected: bool = False


class OpenSsh:
    """The system's `ssh` and `sftp`, which share a connection by ControlMaster.

    Attributes:
        has_new_settings: whether ssh has the `NEW_SETTINGS`, according to the settings that it has printed.

    """

    has_new_settings = True

    def connect(
        self, node: SshNode, socket: str, gateway: Gateway | None
    ) -> Sequence[str]:
        """Return the ssh command that opens a connection, prints `READY`, and holds it until SIGTERM."""
        options = [
            *("-N", "-M", "-S", _escape_percent(socket)),
            *_setting_options(
                ControlPersist="no",
                # Never prompt, because there is no terminal: https://man.openbsd.org/ssh_config#BatchMode.
                BatchMode="yes",
                ConnectTimeout=str(max(1, round(node.connect_timeout))),
                PermitLocalCommand="yes",
                LocalCommand=f"echo {READY}",
                # The error messages are parsed.
                LogLevel="INFO",
            ),
            *self._new_options(),
        ]
        # A connection that hangs would block all its sessions: https://man.openbsd.org/ssh_config#ServerAliveInterval.
        options += _setting_options(ServerAliveInterval="15", ServerAliveCountMax="3")
        if gateway is not None:
            options += _setting_options(ProxyCommand=self._proxy_command(gateway))
        return ["ssh", *options, *_node_options(node), "--", node.hostname]

    def run(self, node: SshNode, socket: str, line: str) -> Sequence[str]:
        """Return the ssh command that runs a line in the node's login shell, and fails without a shared connection."""
        options = [
            *_control_options(socket),
            *self._new_options(SessionType="default"),
            *_node_options(node),
        ]
        return ["ssh", "-T", *options, "--", node.hostname, line]

    def transfer(self, node: SshNode, socket: str) -> Sequence[str]:
        """Return the sftp command that executes commands from its standard input, and stops at the first that fails."""
        options = list[str]()
        if node.config is not None:
            options += ["-F", str(node.config)]
        options += [*_control_options(socket), *self._new_options()]
        if node.port is not None:
            options += _setting_options(Port=str(node.port))
        if node.username is not None:
            options += _setting_options(User=node.username)
        # Without brackets, sftp would split an IPv6 address at a colon.
        return ["sftp", "-b", "-", *options, "--", add_brackets(node.hostname)]

    def settings(self, node: SshNode) -> Sequence[str]:
        """Return the ssh command that prints the settings for a node, each line with a name and a value."""
        return ["ssh", "-G", *_node_options(node), "--", node.hostname]

    def _new_options(self, **more_settings: str) -> list[str]:
        if self.has_new_settings:
            return _setting_options(**NEW_SETTINGS, **more_settings)
        return []

    def _proxy_command(self, gateway: Gateway) -> str:
        """Return a ProxyCommand that connects to the node through the open connection to its gateway."""
        words = [
            "ssh",
            *_control_options(gateway.socket),
            *self._new_options(),
            *_node_options(gateway.node),
        ]
        return f"{_escape_percent(shlex.join(words))} -W '[%h]:%p' {shlex.quote(gateway.node.hostname)}"

    def note_settings(self, settings: Mapping[str, str]) -> None:
        """Note from the printed settings of a node, if there are any, whether this ssh has the new ones."""
        if settings:
            self.has_new_settings = all(
                name.lower() in settings for name in NEW_SETTINGS
            )

    def diagnose(self, node: SshNode, text: str) -> Diagnostics:
        """Explain the error messages of a failed `connect` to a node.

        The text is under the control of the node, whose banner is in it. So it is searched line by line, for fixed
        strings, and not by patterns that a node could make slow.
        """
        if "has changed and you have requested strict checking" in text:
            changed = _offending_place(text)
            place = changed or "{keys}"
            return Diagnostics(
                f"its host key has changed: it does not match the one in {place}. The connection may be intercepted",
                "if the node was reinstalled, remove the old key (ssh-keygen -R), and add the new one",
                is_final=True,
                has_keys_placeholder=changed is None,
            )
        if "Host key verification failed" in text:
            return Diagnostics(
                "its host key is unknown: {keys} has no entry for it",
                "verify the key and add it (ssh-keyscan), or accept it on first use: accept_new=True, or once "
                f"`trioflow ssh --accept-new -H {node.name} true`",
                is_final=True,
                has_keys_placeholder=True,
            )
        last = _cause_line(text)
        if "Permission denied" in text or "Too many authentication failures" in text:
            trial = shlex.join(
                ["ssh", "-o", "BatchMode=yes", *_node_options(node), node.hostname]
            )
            return Diagnostics(
                f"login failed ({last}): ssh cannot log in without a prompt",
                f"try: {trial}",
                is_final=True,
                is_login_rejected=True,
            )
        if any(message in text for message in BAD_SETTINGS_MESSAGES):
            return Diagnostics(f"its ssh settings are invalid: {last}", is_final=True)
        if any(message in text for message in INCOMPATIBLE_MESSAGES):
            return Diagnostics(f"it has no compatible ssh server: {last}")
        crowded = any(message in text for message in CROWDED_MESSAGES)
        if "Stdio forwarding request failed" in text:
            return Diagnostics("its gateway cannot reach it")
        return Diagnostics(
            last or "ssh exited without an error message", is_crowded=crowded
        )


# New in OpenSSH 8.7: https://www.openssh.com/txt/release-8.7.
NEW_SETTINGS: Final = {"StdinNull": "no", "ForkAfterAuthentication": "no"}
"""Settings that sessions need against any configuration, such as the SessionType of a command since OpenSSH 8.7."""
BAD_SETTINGS_MESSAGES: Final = (
    "ad configuration option",
    "command-line line",
    "Can't open user config file",
    "Bad owner or permissions",
)
INCOMPATIBLE_MESSAGES: Final = (
    "no matching", "Bad remote protocol", "invalid characters", "incorrect", "rotocol mismatch",
)  # fmt: skip
CROWDED_MESSAGES: Final = (
    "kex_exchange_identification",
    "Connection closed by",
    "Connection reset by",
)
FAILING_PROXY: Final = "false"
"""A ProxyCommand that fails, which keeps ssh and sftp from opening connections of their own."""


def _setting_options(**settings: str) -> list[str]:
    options: list[str] = []
    for name, value in settings.items():
        options += ["-o", f"{name}={value}"]
    return options


def _control_options(socket: str) -> list[str]:
    settings = _setting_options(
        ControlMaster="no",
        ProxyCommand=FAILING_PROXY,
        BatchMode="yes",
        RemoteCommand="none",
        RequestTTY="no",
        # The error messages are parsed, and sftp -q would suppress them.
        LogLevel="INFO",
    )
    return [
        *_setting_options(ControlPath=_quote_setting(_escape_percent(socket))),
        *settings,
    ]


def _node_options(node: SshNode) -> list[str]:
    options: list[str] = []
    if node.config is not None:
        options += ["-F", str(node.config)]
    if node.username is not None:
        options += ["-l", node.username]
    if node.port is not None:
        options += ["-p", str(node.port)]
    if node.identity is not None:
        # Not -i, which checks the file before it expands %.
        options += _setting_options(IdentityFile=_file_setting(node.identity))
    if node.known_hosts is not None:
        options += _setting_options(UserKnownHostsFile=_file_setting(node.known_hosts))
    if node.accept_new:
        options += _setting_options(StrictHostKeyChecking="accept-new")
    return options


def _file_setting(path: Paths) -> str:
    """Return the absolute path of a file, escaped for ssh's settings."""
    return _quote_setting(
        _escape_percent(os.path.abspath(os.path.expanduser(os.fspath(path))))
    )


def _escape_percent(path: str) -> str:
    """Escape "%", which begins a token in ssh's settings."""
    return path.replace("%", "%%")


def _quote_setting(path: str) -> str:
    if not re.search(r"[\s\"'\\#]", path):
        return path
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _offending_place(text: str) -> str | None:
    """Return the file and the line of the last key that ssh names as offending, or None if it names none."""
    for line in reversed(text.splitlines()):
        if line.startswith("Offending "):
            path, _, number = line.partition(" in ")[2].rstrip().rpartition(":")
            if path and number.isascii() and number.isdigit():
                return f"{path}, line {number}"
    return None


def never_started(text: str) -> bool:
    """Return whether an error message of `run` or `transfer` means that nothing has started.

    Either the session was refused, or there was no shared connection. Without a shared connection, ssh tries its
    ProxyCommand, which always fails.
    """
    return is_session_limit_error(text) or (
        "UNKNOWN port 65535" in text and "mux_client" not in text
    )


def is_loss(text: str) -> bool:
    """Return whether an error message of `run` or `transfer` is about its way to the connection, which was lost."""
    return "mux_client_request_session" in text or "UNKNOWN port 65535" in text


def is_session_limit_error(text: str) -> bool:
    """Return whether an error message means that the node has reached its limit of concurrent sessions."""
    return "refused by peer" in text


CONSEQUENCES: Final = (": terminating, ", "UNKNOWN port 65535")
"""Parts of messages that ssh prints after the cause: of its configuration, and of a ProxyCommand."""


def _cause_line(text: str) -> str:
    """Return the message of ssh that names the cause of a problem, or "" if there is none.

    This is the last message that may report a problem or, before a consequence, the first. Earlier messages may be from
    the server, but no server has answered if a ProxyCommand could not be started.
    """
    lines = [line.strip() for line in text.splitlines()]
    relevant = [
        line
        for line in lines
        if line and not line.startswith(("Warning: Permanently", "Killed by signal"))
    ]
    if not relevant:
        return ""
    if not any(mark in "\n".join(relevant) for mark in CONSEQUENCES):
        return relevant[-1]
    later = (*CONSEQUENCES, "kex_exchange_identification: Connection closed")
    return next(
        (line for line in relevant if not any(mark in line for mark in later)),
        relevant[-1],
    )


# ---- file operations on a node, and sftp's output about them


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """The creation of a directory on the node, unless it exists."""

    path: str

    def sftp_command(self) -> str:
        return f"-mkdir {_quote_path(self.path)}"


@dataclass(frozen=True, slots=True)
class Put:
    """The upload of a file or a directory, with its permissions and modification times."""

    source: str
    target: str

    def sftp_command(self) -> str:
        return f"put -pR {_quote_path(self.source)} {_quote_path(self.target)}"


@dataclass(frozen=True, slots=True)
class Get:
    """The download of all files that match a pattern, with their permissions and modification times."""

    pattern: str
    directory: str

    def sftp_command(self) -> str:
        """Return the sftp command. If the pattern has wildcards, a command that lists its matches comes first."""
        # Raises an error for a line break.
        _quote_path(self.pattern)
        pattern = "".join(
            f"\\{character}" if character in " \t\"'#" else character
            for character in self.pattern
        )
        get = f"get -pR {pattern} {_quote_path(self.directory + '/')}"
        if self.has_wildcards:
            return f"{LISTING_COMMAND}{pattern}\n{get}"
        return get

    @property
    def has_wildcards(self) -> bool:
        """Whether the pattern has wildcards, and may therefore match several files."""
        return bool(set(self.pattern) & set("*?["))


Operation = MakeDirectory | Put | Get
# A "-" lets a batch go on after an error: https://man.openbsd.org/sftp#b.
LISTING_COMMAND: Final = "-ls -1 "
"""The sftp command that lists files. Because of the leading "-", sftp continues if the command fails."""


def parse_fetched(output: bytes, operations: Iterable[Operation]) -> list[str]:
    """Parse the paths of the downloaded files from sftp's output.

    The output consists of the commands, echoed by sftp, and the files that each listing command found. If a pattern
    matches a single directory, sftp lists the files in the directory instead. Their paths have a "/" more than the
    pattern, and are skipped. A pattern without wildcards is not listed, and is itself the path.
    """
    fetched = [operation for operation in operations if isinstance(operation, Get)]
    patterns = (get.pattern for get in fetched if get.has_wildcards)
    lines = [get.pattern for get in fetched if not get.has_wildcards]
    depth = 0
    for line in output.decode(errors="replace").splitlines():
        if line.startswith(f"sftp> {LISTING_COMMAND}"):
            depth = next(patterns, "").rstrip("/").count("/")
        elif not line.startswith("sftp> ") and line.count("/") <= depth:
            lines.append(line)
    return lines


def filter_errors(output: bytes) -> tuple[bytes, str]:
    """Return sftp's error messages as a line, and advice on known problems.

    Messages about directories that already exist and patterns that match nothing are dropped, unless there are no
    others.
    """
    lines = [
        line
        for line in output.splitlines()
        if not line.startswith((b"remote mkdir ", b"Can't ls: "))
    ]
    advice = ""
    if lines == [b"Connection closed"]:
        advice = "check that its sshd has a Subsystem sftp"
    if lines and lines[-1].endswith(b": Failure"):
        advice = DISK_FULL_ADVICE if lines[-1].startswith(b"write remote ") else advice
    return b"; ".join(lines) or output, advice


DISK_FULL_ADVICE: Final = (
    "check whether the disk of the node is full (df), or a quota is exceeded"
)


def _quote_path(path: str) -> str:
    """Quote a path for sftp.

    Raises:
        ValueError: the path contains a line break, which sftp cannot quote.

    """
    if "\n" in path or "\r" in path:
        raise ValueError(
            f"{path!r}: sftp cannot copy a file with a line break in its name; rename it, or use tar"
        )
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
