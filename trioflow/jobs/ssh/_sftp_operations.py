"""File operations on a node: their sftp commands, and parsers for sftp's output."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """The creation of a directory on the node, unless it exists."""

    path: str

    def sftp_command(self) -> str:
        return f"-mkdir {quote(self.path)}"


@dataclass(frozen=True, slots=True)
class Put:
    """The upload of a file or a directory, with its permissions and modification times."""

    source: str
    target: str

    def sftp_command(self) -> str:
        return f"put -pR {quote(self.source)} {quote(self.target)}"


@dataclass(frozen=True, slots=True)
class Get:
    """The download of all files that match a pattern, with their permissions and modification times."""

    pattern: str
    directory: str

    def sftp_command(self) -> str:
        """Return the sftp command; if the pattern has wildcards, a command that lists its matches comes first."""
        quote(self.pattern)  # raises an error for a line break
        pattern = "".join(f"\\{character}" if character in " \t\"'#" else character for character in self.pattern)
        get = f"get -pR {pattern} {quote(self.directory + '/')}"
        return f"{LISTING_COMMAND}{pattern}\n{get}" if self.has_wildcards else get

    @property
    def has_wildcards(self) -> bool:
        """Whether the pattern has wildcards, and may therefore match several files."""
        return bool(set(self.pattern) & set("*?["))


Operation = MakeDirectory | Put | Get


LISTING_COMMAND: Final = "-ls -1 "
"""The sftp command that lists files. Because of the leading "-", sftp continues if the command fails."""


def parse_fetched(output: bytes, operations: Iterable[Operation]) -> list[str]:
    """Parse the paths of the downloaded files from sftp's output.

    The output consists of the commands, echoed by sftp, and the files that each listing command found. If a pattern
    matches a single directory, sftp lists the files in the directory instead. Their paths have one "/" more than the
    pattern, and are skipped. A pattern without wildcards is not listed, and is itself the path.
    """
    fetched = [operation for operation in operations if isinstance(operation, Get)]
    patterns = (get.pattern for get in fetched if get.has_wildcards)
    lines, depth = [get.pattern for get in fetched if not get.has_wildcards], 0
    for line in output.decode(errors="replace").splitlines():
        if line.startswith(f"sftp> {LISTING_COMMAND}"):
            depth = next(patterns, "").rstrip("/").count("/")
        elif not line.startswith("sftp> ") and line.count("/") <= depth:
            lines.append(line)
    return lines


def filter_errors(output: bytes) -> tuple[bytes, str]:
    """Return sftp's error messages on one line, and advice on known problems.

    Messages about directories that already exist and patterns that match nothing are dropped, unless there are no
    others.
    """
    lines = [line for line in output.splitlines() if not line.startswith((b"remote mkdir ", b"Can't ls: "))]
    advice = "check that its sshd has a Subsystem sftp" if lines == [b"Connection closed"] else ""
    if lines and lines[-1].endswith(b": Failure"):
        advice = DISK_FULL_ADVICE if lines[-1].startswith(b"write remote ") else advice
    return b"; ".join(lines) or output, advice


DISK_FULL_ADVICE: Final = "check whether the disk of the node is full (df), or a quota is exceeded"


def quote(path: str) -> str:
    """Quote a path for sftp.

    Raises:
        ValueError: the path contains a line break, which sftp cannot quote.

    """
    if "\n" in path or "\r" in path:
        raise ValueError(f"{path!r}: sftp cannot copy a file with a line break in its name; rename it, or use tar")
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
