"""What this machine has left, memory and time of its processors, and the holds of starts that depend on it.

The system does not tell when any of this changes, so whoever waits looks again now and then.
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
"""What a load of 0 means: nothing else may run."""
THOUSANDS: Final = re.compile(r"([\d.]+)([kmgtp])")


class StartCondition(Protocol):
    """A condition for the start of a command."""

    def until(self) -> str | None:
        """Say until when no command starts, and how it is now; None if one may start."""
        ...


@dataclass(frozen=True, slots=True)
class FreeMemory:
    """Holds starts while fewer bytes of memory than these are free."""

    least: int

    def until(self) -> str | None:
        """Say how much has to be free, and how much is."""
        free = _meminfo("MemAvailable")
        if free is None or free >= self.least:
            return None
        return f"{size(self.least)} of memory are free (--memfree); now it is {size(free)}"


@dataclass(frozen=True, slots=True)
class Load:
    """Holds starts while this many processes, or more, run or wait for a disk."""

    most: float

    def until(self) -> str | None:
        """Say below what the load has to be, and what it is."""
        now = load()
        return None if now < self.most else f"the load is below {self.most:g} (--load); now it is {now:g}"


def size_in_bytes(text: str) -> int:
    """Return a size in bytes.

    Args:
        text: a size, as `Pool` takes it; or with a small letter for powers of a thousand, as in GNU parallel.

    Raises:
        ValueError: it is not a size.

    Example:
        >>> size_in_bytes("2G"), size_in_bytes("2g"), size_in_bytes("500 MB")
        (2147483648, 2000000000, 500000000)

    """
    thousands = THOUSANDS.fullmatch(text)
    written = f"{thousands[1]}{'k' if thousands[2] == 'k' else thousands[2].upper()}B" if thousands else text
    return int(amount_of(written, repr(text)))


def memory_limit(text: str) -> int:
    """Return the bytes of `--memory-limit`, 1 or more.

    Raises:
        ValueError: the text is not such a size.

    """
    if not 0 < (found := size_in_bytes(text)) < 2**63:
        raise ValueError(f"{text!r}: give a positive size, such as 2G")
    return found


def bytes_free(text: str) -> FreeMemory:
    """Return the hold for `--memfree`.

    Args:
        text: a size, as `Pool` takes it; or with a small letter for powers of a thousand, as in GNU parallel.

    Raises:
        ValueError: it is not a size; the machine has less than that; or it does not say how much is free.

    """
    least = size_in_bytes(text)
    in_all = memory_in_all()
    if in_all is None or _meminfo("MemAvailable") is None:
        raise ValueError(f"this system does not say how much memory is free: there is no MemAvailable in {MEMINFO}")
    if least > in_all:
        raise ValueError(f"{text} will never be free: this machine has {size(in_all)}")
    return FreeMemory(least)


def memory_in_all() -> int | None:
    """Return how many bytes of memory this machine has; None if it does not say."""
    return _meminfo("MemTotal")


def load() -> float:
    """Return how many processes run or wait for a disk now, without this one; elsewhere than on Linux the load average.

    The load average is that of the last minute: commands that have just started are not in it.
    """
    try:
        found = dict(line.split(None, 1) for line in _text(STAT).splitlines() if line.startswith("procs_"))
        return max(0.0, int(found["procs_running"]) - 1) + int(found["procs_blocked"])
    except (OSError, KeyError, ValueError):
        return float(posix.getloadavg()[0])


def _meminfo(name: str) -> int | None:
    """Return a number of bytes from the system's table of its memory; None if it has no such line."""
    try:
        found = re.search(rf"^{name}: *(\d+) kB$", _text(MEMINFO), re.MULTILINE)
    except OSError:
        return None
    return None if found is None else 1024 * int(found[1])


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
