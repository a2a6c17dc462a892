"""What is done with files on a node, whatever way leads there: four operations, and their words for sftp."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Make a directory there; one that is there already is fine."""

    path: str

    def for_sftp(self) -> str:
        """Return the command of sftp."""
        return f"-mkdir {quoted(self.path)}"


@dataclass(frozen=True, slots=True)
class Put:
    """Copy a file or a directory from here to there, with modes and times."""

    source: str
    place: str

    def for_sftp(self) -> str:
        """Return the command of sftp."""
        return f"put -pR {quoted(self.source)} {quoted(self.place)}"


@dataclass(frozen=True, slots=True)
class Get:
    """Copy what a pattern stands for there into a directory here, with modes and times."""

    pattern: str
    directory: str

    def for_sftp(self) -> str:
        """Return the command of sftp; in front of it, what lists the files that a pattern stands for."""
        quoted(self.pattern)
        pattern = "".join(f"\\{character}" if character in " \t\"'#" else character for character in self.pattern)
        get = f"get -pR {pattern} {quoted(self.directory + '/')}"
        return f"{LISTING}{pattern}\n{get}" if self.is_for_several else get

    @property
    def is_for_several(self) -> bool:
        """Whether it may stand for several files."""
        return bool(set(self.pattern) & set("*?["))


@dataclass(frozen=True, slots=True)
class Rename:
    """Give a file there another name, in the place of the file that had it."""

    path: str
    place: str

    def for_sftp(self) -> str:
        """Return the command of sftp."""
        return f"rename {quoted(self.path)} {quoted(self.place)}"


Operation = MakeDirectory | Put | Get | Rename


LISTING: Final = "-ls -1 "
"""What sftp is told to list files, which is no failure where there are none."""


def listed_by_sftp(said: bytes, operations: Iterable[Operation]) -> list[str]:
    """Return the files that were fetched, given what sftp has printed: its commands, and each file on a line.

    Of a pattern that stands for a single directory it lists what is in there: lines with one more "/".
    """
    fetched = [one for one in operations if isinstance(one, Get)]
    patterns = (one.pattern for one in fetched if one.is_for_several)
    found, depth = [one.pattern for one in fetched if not one.is_for_several], 0
    for line in said.decode(errors="replace").splitlines():
        if line.startswith(f"sftp> {LISTING}"):
            depth = next(patterns, "").rstrip("/").count("/")
        elif not line.startswith("sftp> ") and line.count("/") <= depth:
            found.append(line)
    return found


def said_by_sftp(said: bytes) -> bytes:
    """Return what sftp has said, but for directories that were there already, and files that are not there to list."""
    lines = [line for line in said.splitlines() if not line.startswith((b"remote mkdir ", b"Can't ls: "))]
    if lines == [b"Connection closed"]:
        lines.append(b"does its sshd have a Subsystem sftp?")
    if lines and lines[-1].startswith(b"remote rename ") and lines[-1].endswith(b": Failure"):
        lines.append(IN_THE_WAY)
    if lines and lines[-1].startswith(b"write remote ") and lines[-1].endswith(b": Failure"):
        lines.append(NO_ROOM)
    return b"; ".join(lines) or said


IN_THE_WAY: Final = b"if a directory has that name, let to= end with a '/': then the file goes into it"
NO_ROOM: Final = b"look whether the disk of the node is full (df), or a quota used up"


def quoted(path: str) -> str:
    """Return a path that sftp takes as it is.

    Raises:
        ValueError: no command of sftp can have a line break in it.

    """
    if "\n" in path or "\r" in path:
        raise ValueError(f"{path!r}: sftp cannot copy what has a line break in its name; rename it, or use tar")
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'
