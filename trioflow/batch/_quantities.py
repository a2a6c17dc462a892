"""Parsers for what a batch keeps, and for sizes of memory.

A batch polls the free memory of this machine, because the system does not report changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ..abc import amount_of, size_text

MEMINFO_PATH: Final = "/proc/meminfo"
DECIMAL_SIZE_PATTERN: Final = re.compile(r"([\d.]+)([kmgtp])")


def parse_keep(text: str) -> str:
    if text not in ("succeeded", "all"):
        raise ValueError(f"{text!r} is not what a journal can keep: give succeeded or all")
    return text


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
