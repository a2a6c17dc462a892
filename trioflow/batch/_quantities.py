"""Parsers for quantities on the command line: concurrent commands, durations, and sizes of memory.

A batch polls the free memory of this machine, because the system does not report changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from .. import _posix as posix
from ..abc import amount_of, size_text
from ..jobs.posix._cpus import count_usable_cpus

SECONDS_PER_UNIT: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION_PART_PATTERN: Final = re.compile(r"(\d+\.?\d*|\.\d+)([smhd]?)", re.IGNORECASE)
DESCRIPTORS_PER_COMMAND: Final = 6
"""The number of descriptors that a command uses: two pipes, a pidfd, a selector, and two more while it starts."""
RESERVED_DESCRIPTORS: Final = 40
MAX_CONCURRENT_COMMANDS: Final = 4000
MEMINFO_PATH: Final = "/proc/meminfo"
DECIMAL_SIZE_PATTERN: Final = re.compile(r"([\d.]+)([kmgtp])")


def parse_seconds(text: str) -> float:
    """Parse a duration, and return it in seconds.

    Args:
        text: a number of seconds, or numbers with the units s, m, h or d, as in `1h30m`.

    Raises:
        ValueError: the text is not a duration.

    Example:
        >>> parse_seconds("1.5"), parse_seconds("1m30s")
        (1.5, 90.0)

    """
    parts = list(DURATION_PART_PATTERN.finditer(text))
    if not parts or "".join(match[0] for match in parts) != text:
        raise ValueError(f"{text!r} is not a duration: give seconds, or numbers with units s, m, h, d, as in 1h30m")
    return sum(float(match[1]) * SECONDS_PER_UNIT[match[2].lower()] for match in parts)


def parse_time_limit(text: str) -> float | None:
    """Parse a duration like `parse_seconds`, but return None for 0, which means no limit.

    Raises:
        ValueError: the text is not a duration.

    """
    return parse_seconds(text) or None


def parse_slots(text: str, cpus: int | None = None) -> int:
    """Parse the value of `--jobs`, and return the number of commands that may run at the same time.

    Args:
        text: a number; `0` for as many as the system allows; `N%` for a percentage of the number of CPUs; `+N` or `-N`
            for N more or fewer than the number of CPUs.
        cpus: the number of CPUs; None for the number that this process may use.

    Raises:
        ValueError: the text has none of these forms.

    Example:
        >>> parse_slots("3"), parse_slots("200%", cpus=4), parse_slots("+2", cpus=4), parse_slots("-9", cpus=4)
        (3, 8, 6, 1)

    """
    match = re.fullmatch(r"([+-]?)(\d+)(%?)", text, re.ASCII)
    if match is None or (match[1] and match[3]):
        raise ValueError(
            f"{text!r} is not a number of jobs: give a number, 0 for as many as the system allows, or N%, +N, -N of "
            f"the CPUs"
        )
    sign, number, percent = match[1], int(match[2]), match[3]
    if not sign and not percent:
        return number or max_concurrent_commands()
    cpu_count = count_usable_cpus() if cpus is None else cpus
    return max(1, cpu_count * number // 100 if percent else cpu_count + int(sign + match[2]))


def parse_count(text: str) -> int:
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise ValueError(f"{text!r} is not a number: give a whole number, 0 or more")
    return int(text)


def parse_keep(text: str) -> str:
    if text not in ("succeeded", "all"):
        raise ValueError(f"{text!r} is not what a journal can keep: give succeeded or all")
    return text


def max_concurrent_commands() -> int:
    descriptors, _ = posix.resource.getrlimit(posix.resource.RLIMIT_NOFILE)
    processes, _ = posix.resource.getrlimit(posix.resource.RLIMIT_NPROC)
    limits = [MAX_CONCURRENT_COMMANDS]
    if descriptors != posix.resource.RLIM_INFINITY:
        limits.append((descriptors - RESERVED_DESCRIPTORS) // DESCRIPTORS_PER_COMMAND)
    if processes != posix.resource.RLIM_INFINITY:
        limits.append(processes // 2)
    return max(1, min(limits))


# ---- memory

StartCondition = Callable[[], str | None]
"""Describes the condition that does not hold, with the current value; returns None if a command may start."""


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


def _read_meminfo(name: str) -> int | None:
    """Return a value of /proc/meminfo in bytes; None if the file or the line is missing."""
    try:
        with open(MEMINFO_PATH, encoding="ascii") as file:
            match = re.search(rf"^{name}: *(\d+) kB$", file.read(), re.MULTILINE)
    except OSError:
        return None
    return None if match is None else 1024 * int(match[1])
