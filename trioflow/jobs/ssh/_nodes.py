"""`SshNode`, another machine, `LocalNode`, this one, and `SshNodes`, many: from a list, a file, or a range."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, final, get_args, overload

from ...abc import duration, file_path, flag, is_among, shown, whole

OnUnreachable = Literal["fail", "skip"]
Paths = str | os.PathLike[str]


@final
@dataclass(frozen=True, slots=True)
class SshNode:
    """Another machine, as the system's `ssh` reaches it: by the user's own configuration, keys and agent.

    In each run there is one connection to a node, whatever the number of its jobs. It is opened when the first of them
    needs it, and closed when the run ends, however that ends. Two nodes that are equal are one.

    Args:
        hostname: its name or address, or what the user's configuration calls it; not empty, no "-" in front.
        username: who to be there; None for what the configuration says.
        port: its port, 1 to 65535; None for what the configuration says.
        identity: a file with a private key, used before all others.
        config: a configuration file, in the place of the user's own and the system's.
        known_hosts: a file of host keys, in the place of the user's own.
        accept_new: takes the key of a host that nobody knows yet, and writes it down. A changed key is refused anyway.
        gateway: the node, or its name, that this one is reached through. All nodes behind it share its connection.
        max_sessions: how many commands and transfers at once, 1 or more. A server allows 10 by default (MaxSessions);
            where it allows fewer, fewer run.
        max_handshakes: how many connections to one server are being opened at once, of all nodes that say the same. It
            drops some from 10 on (MaxStartups). Nodes behind a ProxyJump or ProxyCommand of the user's configuration
            count as one server.
        connect_timeout: seconds for all tries to connect together, more than 0; waiting until other connections are
            open does not count. One that is refused, or dropped, is tried again with growing pauses.
        on_unreachable: what becomes of a job whose node cannot be reached: "fail" fails it with `Unreachable`; "skip"
            lets it succeed with the result None, and says so once a node.

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
        """Check what the user gave."""
        who = f"SshNode({shown(self.hostname)})"
        _check_word(self.hostname, "hostname", who)
        if self.username is not None:
            _check_word(self.username, "username", who)
        if self.port is not None and not 0 < (whole(self.port, "port", who) or 0) < 1 << 16:
            raise ValueError(f"port={shown(self.port)} of {who}: give a number from 1 to 65535, or None")
        for name in ("max_sessions", "max_handshakes"):
            if not whole(getattr(self, name), name, who, "1 at least"):
                raise ValueError(f"{name}={shown(getattr(self, name))} of {who}: give a whole number, 1 or more")
        if not duration(self.connect_timeout, "connect_timeout", who):
            raise ValueError(f"connect_timeout=0 of {who}: give a positive number of seconds")
        if not is_among(self.on_unreachable, get_args(OnUnreachable)):
            raise ValueError(f"on_unreachable={shown(self.on_unreachable)} of {who}: choose 'fail' or 'skip'")
        for name in ("identity", "config", "known_hosts"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, file_path(given, name, who))
        flag(self.accept_new, "accept_new", who)
        if isinstance(self.gateway, str):
            object.__setattr__(self, "gateway", SshNode(self.gateway, config=self.config))
        elif not (self.gateway is None or isinstance(self.gateway, SshNode)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"gateway={shown(self.gateway)} of {who}: give an SshNode, its name, or None")

    @property
    def name(self) -> str:
        """What people call it: its hostname, with the port where there is one."""
        return self.hostname if self.port is None else f"{self.hostname}:{self.port}"

    def __str__(self) -> str:
        """Return its name."""
        return self.name


@final
@dataclass(frozen=True, slots=True)
class LocalNode:
    r"""This machine, as a node: an `SshJob` does its steps here, without ssh and without a connection.

    The steps, their results and how they end are those of any node. A command has this program's environment, with
    `env` on top. What it leaves behind in a session of its own ends with the run, as that of a `CommandJob`. The node
    itself sets no limit to how many commands run at once.

    Args:
        hostname: what it is called, in labels and by `{node}`.
        directory: where commands start, and what paths on the node are relative to; made if it is not there. None for
            this program's own directory.

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
        """Check what the user gave."""
        who = f"LocalNode({shown(self.hostname)})"
        _check_word(self.hostname, "hostname", who)
        if self.directory is not None:
            object.__setattr__(self, "directory", os.path.expanduser(file_path(self.directory, "directory", who)))

    @property
    def name(self) -> str:
        """What people call it: its hostname."""
        return self.hostname

    def __str__(self) -> str:
        """Return its name."""
        return self.name


Node = SshNode | LocalNode
HERE: Final = ":"
"""How this machine is written among the names of nodes, as in GNU parallel."""


def node(given: Node | str) -> Node:
    """Return a node, given itself or its name."""
    if isinstance(given, str):
        return LocalNode() if given == HERE else SshNode(given)
    if not isinstance(given, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(f"node={shown(given)} of SshJob(): give an SshNode, a LocalNode, or the name of a node")
    return given


@final
class SshNodes(Sequence[Node]):
    """Many nodes, all with the same options: from a list, a file, or a range.

    A range is a name with brackets: "node[01-37]", or "rack[1-3]-[a,b,07-09]"; several of them are separated by commas.
    In a file each line is a node or a range; what follows a "#" is a comment. A node may be written as
    "user@host:port", which goes before the options, and this machine as ":".

    Args:
        nodes: an iterable of names, ranges, SshNodes and LocalNodes; the path of a file; or a string of names and
            ranges. A string that is the path of a file is one.
        options: those of `SshNode`; an SshNode that is given keeps its own.

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
        found: list[Node] = []
        for one in _listed(nodes):
            if isinstance(one, Node):
                found.append(one)
            elif isinstance(one, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                found += [_node(name, options) for name in _expanded(one)]
            else:
                raise TypeError(f"SshNodes: {shown(one)}: give names, ranges, or SshNodes")
        self._nodes: Final = tuple(dict.fromkeys(found))

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Node, ...]: ...
    def __getitem__(self, index: int | slice) -> Node | tuple[Node, ...]:
        """Return a node, or several."""
        return self._nodes[index]

    def __len__(self) -> int:
        """Return how many there are; one that is named twice counts once."""
        return len(self._nodes)

    def __repr__(self) -> str:
        """Show how many, and the first and the last."""
        if len(self) <= SHOWN:
            return f"<SshNodes {', '.join(node.name for node in self)}>"
        return f"<SshNodes {self[0].name} ... {self[-1].name}, {len(self)} nodes>"


SHOWN: Final = 3
"""Nodes up to which `repr` names them all."""
LIMIT: Final = 100_000
"""Nodes in one range: more than that are taken for a mistake."""
_WORD: Final = re.compile(r"[^\s\x00-\x1f\x7f'\"`$\\;&<>|(){}]+")
_BRACKETS: Final = re.compile(r"\[([^\[\]]*)\]")
_WRITTEN: Final = re.compile(r"(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:]+|[^:]*:[^:]*:.*?)(?::(?P<port>\d+))?")


def _check_word(word: Any, name: str, who: str) -> None:
    """Refuse what ssh, or a shell, would take for something else than a name."""
    if not isinstance(word, str):
        raise TypeError(f"{name}={shown(word)} of {who}: give a string")
    if not _WORD.fullmatch(word) or word.startswith("-"):
        raise ValueError(f"{name}={shown(word)} of {who}: give a name without spaces, quotes, and '-' in front")


def _listed(nodes: Any) -> Iterator[Any]:
    if isinstance(nodes, os.PathLike) or (isinstance(nodes, str) and os.path.isfile(nodes)):
        for line in Path(nodes).read_text(encoding="utf-8").splitlines():  # pyright: ignore[reportUnknownArgumentType]
            yield from _split(line.partition("#")[0])
    elif isinstance(nodes, str):
        yield from _split(nodes)
    elif isinstance(nodes, Iterable):
        yield from nodes
    else:
        raise TypeError(f"SshNodes({shown(nodes)}): give a list, a path, or a range like 'node[01-37]'")


def _split(text: str) -> list[str]:
    """Split at commas and spaces outside of brackets."""
    return [word for word in re.split(r"[\s,]+(?![^\[\]]*\])", text) if word]


def _expanded(text: str) -> Iterator[str]:
    """Yield the names of a range."""
    pieces = _BRACKETS.split(text)  # text, what is in brackets, text, ...
    if "[" in "".join(pieces[::2]) or "]" in "".join(pieces[::2]):
        raise ValueError(f"{shown(text)}: a '[' without its ']', or brackets in brackets; write like 'node[01-37,40]'")
    choices = [[piece] if number % 2 == 0 else _choices(piece, text) for number, piece in enumerate(pieces)]
    size = 1
    for choice in choices:
        size *= len(choice)
    if size > LIMIT:
        raise ValueError(
            f"{shown(text)} stands for {size} nodes: more than {LIMIT} are taken for a mistake in the range"
        )
    return map("".join, itertools.product(*choices))


def _choices(inside: str, text: str) -> list[str]:
    """Return what one pair of brackets stands for; "01-37" keeps its zeros."""
    found: list[str] = []
    for part in inside.split(","):
        first, dash, last = part.strip().partition("-")
        if not dash:
            found.append(first)
            continue
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise ValueError(
                f"{shown(text)}: {part!r} is not a range of numbers, from the smaller to the larger, like 01-37"
            )
        if int(last) - int(first) >= LIMIT:
            raise ValueError(f"{shown(text)}: more than {LIMIT} nodes are taken for a mistake in the range")
        found += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    if "" in found:
        raise ValueError(f"{shown(text)}: nothing stands between two commas or brackets")
    return found


def _node(written: str, options: dict[str, Any]) -> Node:
    """Make a node out of "user@host:port", or of what stands for this machine."""
    if written == HERE:
        return LocalNode()
    match = _WRITTEN.fullmatch(written)
    if match is None:
        raise ValueError(f"{written!r} is not a node: write host, user@host, or user@host:port")
    own: dict[str, Any] = {}
    if match["user"]:
        own["username"] = match["user"]
    if match["port"]:
        own["port"] = int(match["port"])
    return SshNode(match["host"].strip("[]"), **{**options, **own})
