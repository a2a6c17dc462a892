"""Conditions for the start of commands: this machine's free memory and load.

The system does not report changes of these, so they are polled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from .. import _posix as posix
from ..abc import amount_of
from ..abc import size_text as size

MEMINFO: Final = "/proc/meminfo"
STAT: Final = "/proc/stat"
SMALLEST_LOAD: Final = 0.01
"""The limit for `--load 0`: a command starts only while no other process runs."""
THOUSANDS: Final = re.compile(r"([\d.]+)([kmgtp])")


class StartCondition(Protocol):
    """A condition for the start of a command."""

    def describe_wait(self) -> str | None:
        """Describe the condition that a start waits for, and its current state; None if a command may start."""
        ...


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Holds starts back while fewer bytes of memory than `least` are free."""

    minimum: int

    def describe_wait(self) -> str | None:
        """Describe the required and the free memory; None if there is enough."""
        free = _meminfo("MemAvailable")
        if free is None or free >= self.minimum:
            return None
        return f"{size(self.minimum)} of memory are free (--memfree); now it is {size(free)}"


@dataclass(frozen=True, slots=True)
class Load:
    """Holds starts back while at least `most` processes run or wait for a disk."""

    maximum: float

    def describe_wait(self) -> str | None:
        """Describe the required and the current load; None if that is low enough."""
        now = current_load()
        return None if now < self.maximum else f"the load is below {self.maximum:g} (--load); now it is {now:g}"


def size_in_bytes(text: str) -> int:
    """Parse a size in bytes.

    Args:
        text: a size, as for `Pool`; or with a small letter for powers of a thousand, as in GNU parallel.

    Raises:
        ValueError: it is not a size.

    Example:
        >>> size_in_bytes("2G"), size_in_bytes("2g"), size_in_bytes("500 MB")
        (2147483648, 2000000000, 500000000)

    """
    thousands = THOUSANDS.fullmatch(text)
    written = f"{thousands[1]}{'k' if thousands[2] == 'k' else thousands[2].upper()}B" if thousands else text
    return int(amount_of(written, repr(text)))


def parse_memory_limit(text: str) -> int:
    """Parse the bytes of `--memory-limit`, 1 or more.

    Raises:
        ValueError: it is not such a size.

    """
    if not 0 < (size := size_in_bytes(text)) < 2**63:
        raise ValueError(f"{text!r}: give a positive size, such as 2G")
    return size


def parse_memfree(text: str) -> FreeMemory:
    """Return the condition for `--memfree`.

    Args:
        text: a size, as for `Pool`; or with a small letter for powers of a thousand, as in GNU parallel.

    Raises:
        ValueError: it is not a size, it exceeds this machine's memory, or the system does not report its free memory.

    """
    least = size_in_bytes(text)
    in_all = total_memory()
    if in_all is None or _meminfo("MemAvailable") is None:
        raise ValueError(f"this system does not report its free memory: there is no MemAvailable in {MEMINFO}")
    if least > in_all:
        raise ValueError(f"{text} will never be free: this machine has {size(in_all)}")
    return FreeMemory(least)


def total_memory() -> int | None:
    """Return the size of this machine's memory in bytes; None if the system does not report it."""
    return _meminfo("MemTotal")


def current_load() -> float:
    """Return the number of processes that run or wait for a disk, without this one; the load average on other systems.

    The load average covers the last minute, and so misses commands that have just started.
    """
    try:
        counts = dict(line.split(None, 1) for line in _read_text(STAT).splitlines() if line.startswith("procs_"))
        return max(0.0, int(counts["procs_running"]) - 1) + int(counts["procs_blocked"])
    except (OSError, KeyError, ValueError):
        return float(posix.getloadavg()[0])


def _meminfo(name: str) -> int | None:
    """Return a number of bytes from /proc/meminfo; None without such a line."""
    try:
        match = re.search(rf"^{name}: *(\d+) kB$", _read_text(MEMINFO), re.MULTILINE)
    except OSError:
        return None
    return None if match is None else 1024 * int(match[1])


def _read_text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
