"""`SshNode`, another machine, `LocalNode`, this machine, and `SshNodes`, many nodes from a list, file or range."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, cast, final, get_args, overload

from ... import _posix as posix
from ..._core.base._text_forms import is_among, short_repr
from ..._core.job._job_options import duration, file_path, flag, whole_number

OnUnreachable = Literal["fail", "skip"]
Paths = str | os.PathLike[str]


@final
@dataclass(frozen=True, slots=True)
class SshNode:
    """Another machine, reached through the system's `ssh` with the user's own configuration, keys and agent.

    Use it to name a single machine, and `SshNodes` for many.

    All jobs of a run share a single connection to the node, which is opened for the first of them and closed at the end
    of the run, however the run ends. Equal nodes share it, too. At most 8 jobs run on the node at once, or fewer if its
    server has a lower MaxSessions. Others wait as for a slot: they hold nothing, and their timeouts have not begun.

    Args:
        hostname: the name or address of the machine, or an alias in the user's configuration. It is not empty, and has
            no leading "-".
        username: the user to log in as, or None for the user in the configuration.
        port: the port of the server, 1 to 65535, or None for the port in the configuration.
        identity: a file with one more private key than those of the configuration and the agent.
        config: a configuration file to use instead of the user's and the system's.
        known_hosts: a file of host keys to use instead of the user's.
        accept_new: whether to accept and store the key of an unknown host. A changed key is always rejected.
        gateway: the node on the way to this node, or its name. All nodes behind it share its connection.
        connect_timeout: the time limit for all attempts to connect together, in seconds, more than 0. Waiting for other
            connections does not count. A connection that is refused or dropped is tried again after growing pauses.
        on_unreachable: the fate of a job whose node cannot be reached. "fail" makes it fail with `Unreachable`. "skip"
            makes it succeed with the result None, logs this once per node, and counts the job as skipped.

    Raises:
        TypeError, ValueError: an argument is invalid.

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
    connect_timeout: float = field(default=30.0, kw_only=True)
    on_unreachable: OnUnreachable = field(default="fail", kw_only=True)

    def __post_init__(self) -> None:
        """Check the fields."""
        subject = f"SshNode({short_repr(self.hostname)})"
        _check_word(self.hostname, "hostname", subject)
        if self.username is not None:
            _check_word(self.username, "username", subject)
        if (
            self.port is not None
            and not 0 < (whole_number(self.port, "port", subject) or 0) < 1 << 16
        ):
            raise ValueError(
                f"port={short_repr(self.port)} of {subject}: give a number from 1 to 65535, or None"
            )
        if not duration(self.connect_timeout, "connect_timeout", subject):
            raise ValueError(
                f"connect_timeout=0 of {subject}: give a positive number of seconds"
            )
        if not is_among(self.on_unreachable, get_args(OnUnreachable)):
            raise ValueError(
                f"on_unreachable={short_repr(self.on_unreachable)} of {subject}: choose 'fail' or 'skip'"
            )
        for name in ("identity", "config", "known_hosts"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(
                    self, name, file_path(value, name, subject, expands=True)
                )
        flag(self.accept_new, "accept_new", subject)
        if isinstance(self.gateway, str):
            object.__setattr__(
                self, "gateway", SshNode(self.gateway, config=self.config)
            )
        elif not (self.gateway is None or isinstance(self.gateway, SshNode)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                f"gateway={short_repr(self.gateway)} of {subject}: give an SshNode, its name, or None"
            )

    @property
    def name(self) -> str:
        """The name of the node in messages: the hostname, with the port if it is set."""
        if self.port is None:
            return self.hostname
        return f"{add_brackets(self.hostname)}:{self.port}"

    def __str__(self) -> str:
        """Return the name of the node."""
        return self.name


@final
@dataclass(frozen=True, slots=True)
class LocalNode:
    r"""This machine as a node: an `SshJob` runs its steps here, without ssh.

    Use it to try a scenario for nodes on this machine.

    Steps and their results are the same as on other nodes. A command inherits this program's environment, updated by
    `env`. If it leaves processes in a session of their own, these are ended with the run, as for a `CommandJob`. The
    number of concurrent commands is unlimited.

    Args:
        hostname: the name of the node in labels and for `{node}`.
        directory: the working directory of commands, and the start of relative paths on the node. It is created if it
            is missing. None is this program's working directory.

    Raises:
        TypeError, ValueError: an argument is invalid.

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
            object.__setattr__(
                self,
                "directory",
                os.path.expanduser(
                    file_path(self.directory, "directory", subject, expands=True)
                ),
            )

    @property
    def name(self) -> str:
        """The name of the node in messages: the hostname."""
        return self.hostname

    def __str__(self) -> str:
        """Return the name of the node."""
        return self.name


Node = SshNode | LocalNode
LOCAL_NAME: Final = ":"
"""The name that stands for this machine in lists of nodes, as in GNU parallel."""


def add_brackets(hostname: str) -> str:
    """Enclose an IPv6 address in brackets, so that its colons separate no port and no path."""
    return f"[{hostname}]" if ":" in hostname else hostname


def make_node(value: Node | str) -> Node:
    if isinstance(value, str):
        if value == LOCAL_NAME:
            return LocalNode()
        return SshNode(value)
    if not isinstance(value, Node):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise TypeError(
            f"node={short_repr(value)} of SshJob(): give an SshNode, a LocalNode, or the name of a node"
        )
    return value


@final
class SshNodes(Sequence[Node]):
    """A sequence of nodes with the same options, from a list, a file, or a range.

    Use it for a cluster or a testbed.

    A range is a name with brackets, such as "node[01-37]" or "rack[1-3]-[a,b,07-09]". Commas or spaces separate several
    names and ranges. In a file, "#" starts a comment. A node may be written as "user@host:port", which takes precedence
    over the options. ":" stands for this machine.

    Args:
        nodes: an iterable of names, ranges, `SshNode` and `LocalNode` objects, or the path of a file, or a string of
            names and ranges. A string that names an existing file is treated as a path.
        options: the options of `SshNode`, for all names and ranges.

    Raises:
        TypeError, ValueError: a range or an option is invalid, or a text or a file names no node.
        OSError: the file cannot be read.

    Example:
        >>> nodes = SshNodes("node[01-03],gateway", username="root")
        >>> [node.hostname for node in nodes]
        ['node01', 'node02', 'node03', 'gateway']

    """

    __slots__ = ("_nodes",)

    def __init__(
        self, nodes: str | os.PathLike[str] | Iterable[str | Node], **options: object
    ) -> None:
        entries: list[Node] = []
        for entry in _iterate_entries(nodes):
            if isinstance(entry, Node):
                entries.append(entry)
            elif isinstance(entry, str):  # pyright: ignore[reportUnnecessaryIsInstance]
                entries += [
                    _parse_node(name, options)
                    for name in _expand_range(entry, MAX_NODES - len(entries))
                ]
            else:
                raise TypeError(
                    f"SshNodes: {short_repr(entry)}: give names, ranges, or SshNodes"
                )
        if not entries and isinstance(nodes, (str, os.PathLike)):
            raise ValueError(
                f"SshNodes({short_repr(nodes)}) names no node: give names, ranges, or a file with nodes"
            )
        self._nodes: Final = tuple(dict.fromkeys(entries))

    @overload
    def __getitem__(self, index: int) -> Node: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Node, ...]: ...
    def __getitem__(self, index: int | slice) -> Node | tuple[Node, ...]:
        """Return the node at an index, or the nodes of a slice."""
        return self._nodes[index]

    def __len__(self) -> int:
        """Return the number of nodes. Duplicates count once."""
        return len(self._nodes)

    def __repr__(self) -> str:
        """Show the names of the nodes. If there are many, show only the first name, the last name, and the number."""
        if len(self) <= 3:
            return f"<SshNodes {', '.join(node.name for node in self)}>"
        return f"<SshNodes {self[0].name} ... {self[-1].name}, {len(self)} nodes>"


MAX_NODES: Final = 100_000
MAX_CHARACTERS: Final = 10_000_000
"""The maximum number of nodes, and of characters of their names, in all ranges. More are a mistake."""
MAX_DIGITS: Final = 20
_WORD_PATTERN: Final = re.compile(r"[^\s\x00-\x1f\x7f'\"`$\\;&<>|(){}]+")
_FOREIGN_PATTERN: Final = re.compile(r".*=.*|\d+|\[[^\[\]:,-]*(:[^\[\]:]*)?\]")
"""Matches the parts of files of nodes for MPI, Slurm or Ansible besides names: options, numbers of slots, headings."""
_FILE_PATTERN: Final = re.compile(
    r"[^\s,\[\]@:]+\.(?:conf|csv|list|lst|txt)|[^\s,\[\]@:]*/[^\s,\[\]@:]*"
)
"""Matches names that are meant as files: no top-level domain has such an ending, and no node a slash."""
_BRACKETS_PATTERN: Final = re.compile(r"\[([^\[\]]*)\]")
_NODE_PATTERN: Final = re.compile(
    r"(?:(?P<user>[^@]+)@)?(?P<host>\[[^\]]+\]|[^:]+|(?!\[)[^:]*:[^:]*:.*)(?::(?P<port>\d+))?"
)


def _check_word(word: object, name: str, subject: str) -> None:
    """Check that a name is a string that neither ssh nor a shell would misread."""
    if not isinstance(word, str):
        raise TypeError(f"{name}={short_repr(word)} of {subject}: give a string")
    if not _WORD_PATTERN.fullmatch(word) or word.startswith("-"):
        raise ValueError(
            f"{name}={short_repr(word)} of {subject}: give a name without spaces, quotes, shell metacharacters, "
            f"or a leading '-'"
        )
    if word != word.strip("@"):
        raise ValueError(
            f"{name}={short_repr(word)} of {subject}: give a user before the '@', and a host after it"
        )
    is_path = word == "." or word.startswith("~") or "/" in word
    if is_path or ".." in word:
        # `{node}` stands for it in names of files.
        raise ValueError(
            f"{name}={short_repr(word)} of {subject}: give a name that is not a path"
        )


def _iterate_entries(nodes: object) -> Iterator[Any]:
    if isinstance(nodes, os.PathLike) or (
        isinstance(nodes, str) and os.path.isfile(nodes)
    ):
        path = Path(cast(Any, nodes))
        try:
            text = posix.read_named(path).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{path} is not in UTF-8 ({error}): save it in UTF-8"
            ) from None
        for number, line in enumerate(text.splitlines(), 1):
            yield from _split_names(
                line.partition("#")[0], f" in line {number} of {path}"
            )
    elif isinstance(nodes, str):
        if _FILE_PATTERN.fullmatch(nodes):
            raise ValueError(
                f"there is no file {nodes!r}: give a file of nodes, names, or a range like 'node[01-37]'"
            )
        yield from _split_names(nodes)
    elif isinstance(nodes, Iterable):
        yield from nodes
    else:
        raise TypeError(
            f"SshNodes({short_repr(nodes)}): give a list, a path, or a range like 'node[01-37]'"
        )


def _split_names(text: str, place: str = "") -> list[str]:
    # A possessive `++` never goes back: to be able to would take 100 bytes for each repetition.
    names = re.findall(r"(?:\[[^\[\]]*\]|[^\s,])++", text)
    for name in names:
        if _FOREIGN_PATTERN.fullmatch(name) and not place:
            raise ValueError(
                f"{short_repr(name)} in {short_repr(text)} is no name of a node: a space separates names"
            )
        if _FOREIGN_PATTERN.fullmatch(name):
            raise ValueError(
                f"{short_repr(name)}{place} is for another tool, and no name of a node: leave it out"
            )
    return names


def _expand_range(text: str, limit: int) -> Iterator[str]:
    """Return an iterator over the names in a range, at most `limit`. A text without brackets is its only name."""
    # Alternating: text outside of brackets, text inside.
    pieces = _BRACKETS_PATTERN.split(text)
    if "[" in "".join(pieces[::2]) or "]" in "".join(pieces[::2]):
        raise ValueError(
            f"{short_repr(text)}: unbalanced or nested brackets; write, for example, 'node[01-37,40]'"
        )
    choices = list[list[str]]()
    size = 1
    length = 0
    for number, piece in enumerate(pieces):
        alternatives = [piece]
        if number % 2:
            alternatives = _alternatives(piece, text)
        choices.append(alternatives)
        size *= len(alternatives)
        length += max(map(len, alternatives))
        if size > limit or size * length > MAX_CHARACTERS:
            raise ValueError(
                f"{short_repr(text)} expands to {size} nodes, more than the limit of {MAX_NODES}: check the ranges"
            )
    return map("".join, itertools.product(*choices))


def _alternatives(inside: str, text: str) -> list[str]:
    """Return the alternatives in a pair of brackets. The numbers of "01-37" keep their leading zeros."""
    if inside.count(":") > 1:
        # An IPv6 address, whose brackets separate it from a port.
        return [f"[{inside}]"]
    choices: list[str] = []
    for part in inside.split(","):
        first, dash, last = part.strip().partition("-")
        if not dash:
            choices.append(first)
            continue
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last)):
            raise ValueError(
                f"{short_repr(text)}: {part!r} is not an ascending range of numbers, such as 01-37"
            )
        if len(first) > MAX_DIGITS or int(last) - int(first) >= MAX_NODES:
            raise ValueError(
                f"{short_repr(text)} expands to more than the limit of {MAX_NODES} nodes: check the range"
            )
        choices += [
            str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)
        ]
    if "" in choices:
        raise ValueError(
            f"{short_repr(text)}: an item between commas or brackets is empty"
        )
    return choices


def _parse_node(text: str, options: dict[str, Any]) -> Node:
    """Parse "user@host:port", or ":" for this machine. The user and the port take precedence over the options."""
    if text == LOCAL_NAME:
        return LocalNode()
    if (match := _NODE_PATTERN.fullmatch(text)) is None:
        raise ValueError(
            f"{text!r} is not a node: write host, user@host, or user@host:port"
        )
    own: dict[str, Any] = {}
    if match["user"]:
        own["username"] = match["user"]
    if match["port"]:
        own["port"] = int(match["port"])
    return SshNode(match["host"].strip("[]"), **{**options, **own})
