"""The CPUs that this program may use: `trioflow batch -j`, `processes=` and `pin=` ask here."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from typing import Final

from ... import _posix as posix

CGROUP_ROOT: Final = "/sys/fs/cgroup"
CGROUP_FILE: Final = "/proc/self/cgroup"


def count_usable_cpus() -> int:
    """Return how many CPUs this program may use.

    These are the CPUs that its affinity allows, or `PYTHON_CPU_COUNT`, but no more than the quotas of its control
    groups allow, rounded up: a container with half a CPU has 1.
    """
    if sys.version_info >= (3, 13):
        count = os.process_cpu_count() or 1
    else:
        if hasattr(os, "sched_getaffinity"):
            count = len(posix.sched_getaffinity(0))
        else:
            count = os.cpu_count() or 1
    return min([count, *(max(1, math.ceil(quota)) for quota in _quotas())])


def usable_cpus() -> list[int]:
    """Return the numbers of these CPUs, on Linux: the lowest that its affinity allows."""
    return sorted(posix.sched_getaffinity(0))[: count_usable_cpus()]


def _quotas() -> Iterator[float]:
    """Yield the quotas of this program's control groups, of version 2 and 1, in CPUs."""
    own = "/"
    for line in _read(CGROUP_FILE).splitlines():
        if line.startswith("0::"):
            own = line.removeprefix("0::")
            break
    names = own.strip("/").split("/")
    pairs = [
        _read(CGROUP_ROOT, *names[:depth], "cpu.max").split()
        for depth in range(len(names) + 1)
    ]
    pairs.append(
        [
            _read(CGROUP_ROOT, "cpu", f"cpu.cfs_{name}_us").strip()
            for name in ("quota", "period")
        ]
    )
    for pair in pairs:
        if len(pair) == 2 and all(text.isdecimal() for text in pair) and int(pair[1]):
            # Without a limit, the first is "max" or -1.
            yield int(pair[0]) / int(pair[1])


def _read(*names: str) -> str:
    try:
        with open(os.path.join(*names), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
