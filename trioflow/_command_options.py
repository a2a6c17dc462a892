"""Declarations of the options of subcommands, and parsers of the values that several of them take."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Any, Final

from . import _posix as posix
from .jobs.posix._cpus import count_usable_cpus

SECONDS_PER_UNIT: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION_PART_PATTERN: Final = re.compile(r"(\d+\.?\d*|\.\d+)([smhd]?)", re.IGNORECASE)
DESCRIPTORS_PER_COMMAND: Final = 6
"""The number of descriptors that a command uses: two pipes, a pidfd, a selector, and two more while it starts."""
RESERVED_DESCRIPTORS: Final = 40
MAX_CONCURRENT_COMMANDS: Final = 4000


def option(*flags: str, **settings: object) -> Any:
    """Declare the option of a field.

    Args:
        flags: its names on the command line. By default, this is the field's name.
        settings: its settings, as `click.option` has them, and `parse`, which converts the text of the value or raises
            ValueError.

    """
    return field(metadata={"flags": flags, **settings})


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
        raise ValueError(
            f"{text!r} is not a duration: give seconds, or numbers with units s, m, h, d, as in 1h30m"
        )
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
        text: a number. `0` is as many as the system allows, `N%` is a percentage of the number of CPUs, and `+N` or
            `-N` is N more or fewer than the number of CPUs.
        cpus: the number of CPUs, or None for the number that this process may use.

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
    sign = match[1]
    number = int(match[2])
    percent = match[3]
    if not sign and not percent:
        return number or max_concurrent_commands()
    if cpus is None:
        cpus = count_usable_cpus()
    if percent:
        return max(1, cpus * number // 100)
    return max(1, cpus + int(sign + match[2]))


def parse_count(text: str) -> int:
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise ValueError(f"{text!r} is not a number: give a whole number, 0 or more")
    return int(text)


def max_concurrent_commands() -> int:
    descriptors, _ = posix.resource.getrlimit(posix.resource.RLIMIT_NOFILE)
    processes, _ = posix.resource.getrlimit(posix.resource.RLIMIT_NPROC)
    limits = [MAX_CONCURRENT_COMMANDS]
    if descriptors != posix.resource.RLIM_INFINITY:
        limits.append((descriptors - RESERVED_DESCRIPTORS) // DESCRIPTORS_PER_COMMAND)
    if processes != posix.resource.RLIM_INFINITY:
        limits.append(processes // 2)
    return max(1, min(limits))
