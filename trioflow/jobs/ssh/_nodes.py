"""`SshNode`, another machine, `LocalNode`, this one, and `SshNodes`, many: from a list, a file, or a range."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, final, get_args, overload

from ...abc import duration, file_path, flag, is_among, short_repr, whole_number

OnUnreachable = Literal["fail", "skip"]
Paths = str | os.PathLike[str]


@final
@dataclass(frozen=True, slots=True)
class SshNode:
    """Another machine, as the system's `ssh` reaches it: by the user's own configuration, keys and agent.

    In each run there is one connection to a node, whatever the number of its jobs. It is opened for the first of them
    and closed at the end of the run, however the run ends. Two equal nodes are the same node.

    Args:
        hostname: its name or address, or its alias in the user's configuration; not empty, without a leading "-".
        username: the user to log in as; None for the configuration's.
        port: its port, 1 to 65535; None for the configuration's.
        identity: a file with a private key, used before all others.
        config: a configuration file, in place of the user's own and the system's.
        known_hosts: a file of host keys, in place of the user's own.
        accept_new: accepts the key of an unknown host, and stores it. A changed key is always rejected.
        gateway: the node, or its name, through which this one is reached. All nodes behind it share its connection.
        max_sessions: the number of concurrent commands and transfers, 1 or more. A server allows 10 by default
            (MaxSessions); if it allows fewer, fewer run.
        max_handshakes: the number of connections to one server that are opened at a time, by all nodes with the same
            value. A server drops some from 10 on (MaxStartups). Nodes behind a ProxyJump or ProxyCommand of the user's
            configuration count as one server.
        connect_timeout: seconds for all attempts to connect together, more than 0; waiting for other connections does
            not count. A connection that is refused or dropped is tried again with growing pauses.
        on_unreachable: the outcome of a job whose node cannot be reached: "fail" fails it with `Unreachable`; "skip"
            lets it succeed with the result None, and logs this once per node.

    Raises:
        TypeError, ValueError: a value that makes no sense.

    Example:
        >>> SshNode("node01", username="root", gateway="gateway.example.org").name
        'node01'

    """

    hostname: str
    username: str | None = field(default=None, kw_only=True)
    port: int | None = field(default=None, kw_only=True)
    identity: Paths | None = field(default=None, kw_only=True)
    config: Paths | None = field(default=None, kw_only=True)
    known_hosts: Paths | None = field(default=None, kw_only=True)
    accept_new: bool = field(default=False, kw_only=True)
    gateway: SshNode | str | None = field(default=None, kw_only=True)
    max_sessions: int = field(default=8, kw_only=True)
    max_handshakes: int = field(default=10, kw_only=True)
    connect_timeout: float = field(default=30.0, kw_only=True)
    on_unreachable: OnUnreachable = field(default="fail", kw_only=True)

    def __post_init__(self) -> None:
        """Check the fields."""
        subject = f"SshNode({short_repr(self.hostname)})"
        _check_word(self.hostname, "hostname", subject)
        if self.username is not None:
            _check_word(self.username, "username", subject)
        if self.port is not None and not 0 < (whole_number(self.port, "port", subject) or 0) < 1 << 16:
            raise ValueError(f"port={short_repr(self.port)} of {subject}: give a number from 1 to 65535, or None")
        for name in ("max_sessions", "max_handshakes"):
            if not whole_number(getattr(self, name), name, subject, "1 at least"):
                raise ValueError(
                    f"{name}={short_repr(getattr(self, name))} of {subject}: give a whole number, 1 or more"
                )
        if not duration(self.connect_timeout, "connect_timeout", subject):
            raise ValueError(f"connect_timeout=0 of {subject}: give a positive number of seconds")
        if not is_among(self.on_unreachable, get_args(OnUnreachable)):
            raise ValueError(f"on_unreachable={short_repr(self.on_unreachable)} of {subject}: choose 'fail' or 'skip'")
        for name in ("identity", "config", "known_hosts"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, file_path(value, name, subject))
        flag(self.accept_new, "accept_new", subject)
        if isinstance(self.gateway, str):
            object.__setattr__(self, "gateway", SshNode(self.gateway, config=self.config))
        elif not (self.gateway is None or isinstance(self.gateway, SshNode)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"gateway={short_repr(self.gateway)} of {subject}: give an SshNode, its name, or None")

    @property
    def name(self) -> str:
        """Its name in messages: the hostname, with the port if one is set."""
        return self.hostname if self.port is None else f"{self.hostname}:{self.port}"

    def __str__(self) -> str:
        """Return the name of the node."""
        return self.name


@final
@dataclass(frozen=True, slots=True)
class LocalNode:
    r"""This machine, as a node: an `SshJob` runs its steps here, without ssh and without a connection.

    The steps and their results are the same as on any node. A command has this program's environment, with `env` on
    top. Processes that it leaves in a session of their own are ended with the run, as for a `CommandJob`. The node
    itself does not limit the number of concurrent commands.

    Args:
        hostname: its name in labels and for `{node}`.
        directory: the directory of commands and of relative paths on the node; made if it is missing. None for this
            program's own directory.

    Raises:
        TypeError, ValueError: a value that makes no sense.

    Example:
        >>> import subprocess
        >>> job = SshJob(LocalNode(), "echo this is {node}", stdout=subprocess.PIPE)
        >>> Scheduler(job).run(), job.result().text
        (True, 'this is localhost\n')

    """

    hostname: str = "localhost"
    directory: Paths | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check the fields."""
        subject = f"LocalNode({short_repr(self.hostname)})"
        _check_word(self.hostname, "hostname", subject)
        if self.directory is not None:
            object.__setattr__(self, "directory", os.path.expanduser(file_path(self.directory, "directory", subject)))

    @property
    def name(self) -> str:
        """Its name in messages: the hostname."""
        return self.hostname

    def __str__(self) -> str:
        """Return the name of the node."""
        return self.name


Node = SshNode | LocalNode
HERE: Final = ":"
"""The notation for this machine among the names of nodes, as in GNU parallel."""


def make_node(value: Node | str) -> Node:
    """Return a node, given the node or its name."""
    if isinstance(value, str):
        return LocalNode() if value == HERE else SshNode(value)
    if not isinstance(value, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"node={short_repr(value)} of SshJob(): give an SshNode, a LocalNode, or the name of a node")
    return value


@final
class SshNodes(Sequence[Node]):
    """Many nodes, all with the same options: from a list, a file, or a range.

    A range is a name with brackets: "node[01-37]", or "rack[1-3]-[a,b,07-09]"; several of them are separated by commas.
    In a file each line is a node or a range; the rest of a line after a "#" is a comment. A node may be written as
    "user@host:port", which takes precedence over the options, and this machine as ":".

    Args:
        nodes: an iterable of names, ranges, SshNodes and LocalNodes; the path of a file; or a string of names and
            ranges. A string that is the path of a file counts as the path.
        options: the options of `SshNode`, for the names and ranges.

    Raises:
        TypeError, ValueError: a range or an option that makes no sense.
        OSError: the file cannot be read.

    Example:
        >>> nodes = SshNodes("node[01-03],gateway", username="root")
        >>> [node.hostname for node in nodes]
        ['node01', 'node02', 'node03', 'gateway']

    """

    __slots__ = ("_nodes",)

    def __init__(self, nodes: str | os.PathLike[str] | Iterable[str | Node], **options: Any) -> None:
        entries: list[Node] = []
        for entry in _entries(nodes):
            if isinstance(entry, Node):
                entries.append(entry)
            elif isinstance(entry, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                entries += [_parse_node(name, options) for name in _expand_range(entry)]
            else:
                raise TypeError(f"SshNodes: {short_repr(entry)}: give names, ranges, or SshNodes")
        self._nodes: Final = tuple(dict.fromkeys(entries))

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Node, ...]: ...
    def __getitem__(self, index: int | slice) -> Node | tuple[Node, ...]:
        """Return the node at an index, or the nodes of a slice."""
        return self._nodes[index]

    def __len__(self) -> int:
        """Return the number of nodes; one named twice counts once."""
        return len(self._nodes)

    def __repr__(self) -> str:
        """Show the names or, of many, the first, the last, and the number."""
        if len(self) <= MAX_NAMES_SHOWN:
            return f"<SshNodes {', '.join(node.name for node in self)}>"
        return f"<SshNodes {self[0].name} ... {self[-1].name}, {len(self)} nodes>"


MAX_NAMES_SHOWN: Final = 3
"""The maximum number of nodes for which `repr` shows all names."""
MAX_NODES: Final = 100_000
"""The maximum number of nodes in one range; a larger range is rejected as a mistake."""
_WORD: Final = re.compile(r"[^\s\x00-\x1f\x7f'\"`$\\;&<>|(){}]+")
_BRACKETS: Final = re.compile(r"\[([^\[\]]*)\]")
_NODE_PATTERN: Final = re.compile(r"(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:]+|[^:]*:[^:]*:.*?)(?::(?P<port>\d+))?")


def _check_word(word: Any, name: str, subject: str) -> None:
    """Reject a name that ssh, or a shell, would misread."""
    if not isinstance(word, str):
        raise TypeError(f"{name}={short_repr(word)} of {subject}: give a string")
    if not _WORD.fullmatch(word) or word.startswith("-"):
        raise ValueError(
            f"{name}={short_repr(word)} of {subject}: give a name without spaces, quotes, and '-' in front"
        )


def _entries(nodes: Any) -> Iterator[Any]:
    if isinstance(nodes, os.PathLike) or (isinstance(nodes, str) and os.path.isfile(nodes)):
        for line in Path(nodes).read_text(encoding="utf-8").splitlines():  # pyright: ignore[reportUnknownArgumentType]
            yield from _split(line.partition("#")[0])
    elif isinstance(nodes, str):
        yield from _split(nodes)
    elif isinstance(nodes, Iterable):
        yield from nodes
    else:
        raise TypeError(f"SshNodes({short_repr(nodes)}): give a list, a path, or a range like 'node[01-37]'")


def _split(text: str) -> list[str]:
    """Split at commas and spaces outside of brackets."""
    return [word for word in re.split(r"[\s,]+(?![^\[\]]*\])", text) if word]


def _expand_range(text: str) -> Iterator[str]:
    """Yield the names of a range."""
    pieces = _BRACKETS.split(text)  # alternately text, and the text in brackets
    if "[" in "".join(pieces[::2]) or "]" in "".join(pieces[::2]):
        raise ValueError(
            f"{short_repr(text)}: a '[' without its ']', or brackets in brackets; write like 'node[01-37,40]'"
        )
    choices = [[piece] if number % 2 == 0 else _alternatives(piece, text) for number, piece in enumerate(pieces)]
    size = 1
    for choice in choices:
        size *= len(choice)
    if size > MAX_NODES:
        raise ValueError(
            f"{short_repr(text)} means {size} nodes; more than {MAX_NODES} are rejected as a mistake in the range"
        )
    return map("".join, itertools.product(*choices))


def _alternatives(inside: str, text: str) -> list[str]:
    """Return the alternatives in one pair of brackets; "01-37" keeps its zeros."""
    choices: list[str] = []
    for part in inside.split(","):
        first, dash, last = part.strip().partition("-")
        if not dash:
            choices.append(first)
            continue
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise ValueError(
                f"{short_repr(text)}: {part!r} is not a range of numbers, from the smaller to the larger, like 01-37"
            )
        if int(last) - int(first) >= MAX_NODES:
            raise ValueError(f"{short_repr(text)}: more than {MAX_NODES} nodes are rejected as a mistake in the range")
        choices += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    if "" in choices:
        raise ValueError(f"{short_repr(text)}: there is nothing between two commas or brackets")
    return choices


def _parse_node(written: str, options: dict[str, Any]) -> Node:
    """Make a node from "user@host:port", or from the notation for this machine."""
    if written == HERE:
        return LocalNode()
    match = _NODE_PATTERN.fullmatch(written)
    if match is None:
        raise ValueError(f"{written!r} is not a node: write host, user@host, or user@host:port")
    own: dict[str, Any] = {}
    if match["user"]:
        own["username"] = match["user"]
    if match["port"]:
        own["port"] = int(match["port"])
    return SshNode(match["host"].strip("[]"), **{**options, **own})
