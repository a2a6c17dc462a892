"""Numbers on the command line: of concurrent commands, durations, loads and priorities."""

from __future__ import annotations

import re
from typing import Final

from .. import _posix as posix
from ..jobs.process._call_places import usable_cpus
from ._start_conditions import SMALLEST_LOAD, Load

UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION: Final = re.compile(r"(\d+\.?\d*|\.\d+)([smhd]?)", re.IGNORECASE)
DESCRIPTORS_EACH: Final = 6
"""A running command holds two pipes, a pidfd and a selector, and two more descriptors while it starts."""
DESCRIPTORS_OWN: Final = 40
MAX_JOBS: Final = 4000


def parse_seconds(text: str) -> float:
    """Return a duration in seconds: a number, or several with units, as in 1h30m.

    Raises:
        ValueError: the text is not a duration.

    Example:
        >>> parse_seconds("1.5"), parse_seconds("1m30s")
        (1.5, 90.0)

    """
    parts = list(DURATION.finditer(text))
    if not parts or "".join(match[0] for match in parts) != text:
        raise ValueError(f"{text!r} is not a duration: give seconds, or numbers with units s, m, h, d, as in 1h30m")
    return sum(float(match[1]) * UNITS[match[2].lower()] for match in parts)


def parse_time_limit(text: str) -> float | None:
    """Return a duration in seconds, as `parse_seconds`; None for 0, which means no limit.

    Raises:
        ValueError: the text is not a duration.

    """
    return parse_seconds(text) or None


def parse_slots(text: str, cpus: int | None = None) -> int:
    """Return the number of commands that may run at the same time.

    Args:
        text: a number; 0 for as many as possible; N% of the CPUs; +N or -N for N more or fewer than the CPUs.
        cpus: the number of CPUs; None for those that this process may use.

    Raises:
        ValueError: the text is none of these.

    Example:
        >>> parse_slots("3"), parse_slots("200%", cpus=4), parse_slots("+2", cpus=4), parse_slots("-9", cpus=4)
        (3, 8, 6, 1)

    """
    match = re.fullmatch(r"([+-]?)(\d+)(%?)", text, re.ASCII)
    if match is None or (match[1] and match[3]):
        raise ValueError(f"{text!r} is not a number of jobs: give a number, 0 for no limit, or N%, +N, -N of the CPUs")
    sign, number, percent = match[1], int(match[2]), match[3]
    if not sign and not percent:
        return number or as_many_as_possible()
    have = usable_cpus() if cpus is None else cpus
    return max(1, have * number // 100 if percent else have + int(sign + match[2]))


def parse_load(text: str) -> Load:
    """Return the condition for `--load`: a number as for `parse_slots`, but 0 means nearly none.

    Raises:
        ValueError: the text is not such a number.

    """
    return Load(SMALLEST_LOAD if text == "0" else parse_slots(text))


def parse_nice(text: str) -> int:
    """Parse the priority of `--nice`.

    Raises:
        ValueError: it is not a priority, or one that this user may not set.

    """
    if not re.fullmatch(r"[+-]?\d+", text, re.ASCII) or not -20 <= int(text) <= 19:
        raise ValueError(f"{text!r} is not a priority: give a number from 0 to 19; root may also give -20 to -1")
    if int(text) < 0 and posix.geteuid() != 0:
        raise ValueError(f"{text} is for root only: give a number from 0 to 19")
    return int(text)


def as_many_as_possible() -> int:
    """Return the number of commands within this user's limits of descriptors and processes."""
    descriptors, _ = posix.resource.getrlimit(posix.resource.RLIMIT_NOFILE)
    processes, _ = posix.resource.getrlimit(posix.resource.RLIMIT_NPROC)
    limits = [MAX_JOBS]
    if descriptors != posix.resource.RLIM_INFINITY:
        limits.append((descriptors - DESCRIPTORS_OWN) // DESCRIPTORS_EACH)
    if processes != posix.resource.RLIM_INFINITY:
        limits.append(processes // 2)
    return max(1, min(limits))
