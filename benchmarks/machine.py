"""On what machine, with what versions."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

LIBRARIES = ("trioflow", "trio", "anyio", "asynciojobs", "aiodag", "dask")


def describe() -> dict[str, str]:
    """Return what a reader has to know to judge the numbers."""
    return {
        "processor": processor(),
        "cores": f"{os.cpu_count()} (of them usable here: {len(os.sched_getaffinity(0))})"
        if hasattr(os, "sched_getaffinity")
        else str(os.cpu_count()),
        "system": platform.platform(),
        "Python": f"{platform.python_implementation()} {platform.python_version()}, {platform.python_compiler()}",
        **{library: version(library) for library in LIBRARIES},
    }


def load() -> float:
    """How many processes wanted a core in the last minute: more than there are cores make numbers worthless."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def processor() -> str:
    """The processor's name, where it can be found out."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return "this tree" if library == "trioflow" else "not installed"
