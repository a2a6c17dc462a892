"""Conditions for the start of commands: this machine's free memory and load.

The batch polls the memory and the load, because the system does not report changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .. import _posix as posix
from ..abc import amount_of, size_text

MEMINFO_PATH: Final = "/proc/meminfo"
STAT_PATH: Final = "/proc/stat"
MIN_LOAD: Final = 0.01
"""The limit for `--load 0`, with which a command starts only while no other process runs."""
DECIMAL_SIZE_PATTERN: Final = re.compile(r"([\d.]+)([kmgtp])")


StartCondition = Callable[[], str | None]
"""Describes the condition that does not hold, with the current value; returns None if a command may start."""


def make_load_condition(max_load: float) -> StartCondition:
    """Return the condition that fewer than `max_load` processes run or wait for a disk."""

    def describe_wait() -> str | None:
        load = current_load()
        return None if load < max_load else f"the load is below {max_load:g} (--load); it is {load:g}"

    return describe_wait


def parse_size(text: str) -> int:
    """Parse a size, and return it in bytes.

    Args:
        text: a size as for `Pool`, such as `2G`. As in GNU parallel, units in lower case are powers of 1000, as in
            `2g`.

    Raises:
        ValueError: the text is not a size.

    Example:
        >>> parse_size("2G"), parse_size("2g"), parse_size("500 MB")
        (2147483648, 2000000000, 500000000)

    """
    decimal = DECIMAL_SIZE_PATTERN.fullmatch(text)
    normalized = f"{decimal[1]}{'k' if decimal[2] == 'k' else decimal[2].upper()}B" if decimal else text
    return int(amount_of(normalized, repr(text)))


def parse_memory_limit(text: str) -> int:
    if not 0 < (size := parse_size(text)) < 2**63:
        raise ValueError(f"{text!r}: give a positive size, such as 2G")
    return size


def parse_memfree(text: str) -> StartCondition:
    """Parse the value of `--memfree`, a size as for `parse_size`.

    Raises:
        ValueError: the text is not a size.
        ValueError: the size exceeds this machine's memory.
        ValueError: the system does not report its free memory.

    """
    minimum = parse_size(text)
    total = total_memory()
    if total is None or _read_meminfo("MemAvailable") is None:
        raise ValueError(f"this system does not report its free memory: there is no MemAvailable in {MEMINFO_PATH}")
    if minimum > total:
        raise ValueError(f"{text} will never be free: this machine has {size_text(total)}")

    def describe_wait() -> str | None:
        free = _read_meminfo("MemAvailable")
        if free is None or free >= minimum:
            return None
        return f"{size_text(minimum)} of memory are free (--memfree); {size_text(free)} is free now"

    return describe_wait


def total_memory() -> int | None:
    """Return the size of this machine's memory in bytes; None if the system does not report it."""
    return _read_meminfo("MemTotal")


def current_load() -> float:
    """Return the number of other processes that run or wait for a disk.

    If the system has no /proc, return the load average of the last minute, which rises only slowly after a start.
    """
    try:
        counts = dict(line.split(None, 1) for line in _read_text(STAT_PATH).splitlines() if line.startswith("procs_"))
        return max(0.0, int(counts["procs_running"]) - 1) + int(counts["procs_blocked"])
    except (OSError, KeyError, ValueError):
        return float(posix.getloadavg()[0])


def _read_meminfo(name: str) -> int | None:
    """Return a value of /proc/meminfo in bytes; None if the file or the line is missing."""
    try:
        match = re.search(rf"^{name}: *(\d+) kB$", _read_text(MEMINFO_PATH), re.MULTILINE)
    except OSError:
        return None
    return None if match is None else 1024 * int(match[1])


def _read_text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
