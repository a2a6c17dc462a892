"""The same scenario at three sizes, `examples/sizes.py`: python -m benchmarks.sizes [--parts 50 400] [--size 100000].

It is run by worker processes of this machine, on eight nodes by ssh, and on a Dask cluster; nodes, workers and Dask's
scheduler are processes of this machine. Each run is a program of its own, the conductor, which counts the bytes that it
reads and writes by sockets and pipes, and its memory.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from trioflow import Scheduler

EXAMPLE: Final = Path(__file__).parent.parent / "examples" / "sizes.py"
NODES: Final = 8
WAYS: Final = ("processes", "nodes", "cluster")


def counted(owner: Any, name: str, moved: list[int]) -> None:
    """Count what a function reads or writes, by what it returns: bytes, or their number."""
    original = getattr(owner, name)

    def count(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        moved.append(found if isinstance(found, int) else len(found))
        return found

    setattr(owner, name, count)


def conduct(way: str, parts: int, size: int, where: str) -> None:
    """Run the scenario once, and print what it took as JSON."""
    moved: list[int] = []
    for owner, names in ((os, ("read", "write")), (socket.socket, ("send", "recv", "recv_into"))):
        for name in names:
            counted(owner, name, moved)
    sys.modules["sizes"] = module = type(sys)("sizes")  # so that worker processes find it by its name
    sys.path.insert(0, str(EXAMPLE.parent))
    module.__dict__.update(runpy.run_path(str(EXAMPLE), run_name="sizes"))
    nodes = {"nodes": ",".join(f"node{one}" for one in range(NODES)), "config": where} if way == "nodes" else {}
    scheduler: Scheduler = module.scenario(parts, size, **nodes)
    with on_cluster(scheduler, module, where) if way == "cluster" else contextlib.nullcontext():
        moved.clear()
        start = time.perf_counter()
        scheduler.run(check=True)
        wall = time.perf_counter() - start
    status = Path("/proc/self/status").read_text().split()
    peak = int(status[status.index("VmHWM:") + 1]) * 1024
    print(json.dumps({"jobs": len(scheduler), "wall": wall, "moved": sum(moved), "peak": peak}))


@contextlib.contextmanager
def on_cluster(scheduler: Scheduler, module: Any, address: str) -> Iterator[None]:
    """Make a cluster the place of the calls, as `trioflow run --dask` does."""
    import cloudpickle
    from distributed import Client

    from trioflow.dask import Cluster

    cloudpickle.register_pickle_by_value(module)
    with Client(address) as client:
        scheduler.processes = Cluster(client)
        yield


def sample(way: str, parts: int, size: int, where: str) -> dict[str, float]:
    """Return what a run took, in a program of its own."""
    words = [sys.executable, "-m", "benchmarks.sizes", "--conduct", way, "--where", where]
    words += ["--parts", str(parts), "--size", str(size)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(numbers: list[int], size: int) -> None:
    """Print a table of all ways and numbers of blocks."""
    from distributed import LocalCluster

    from .rivals.of_nodes import site

    print(f"blocks of {size:,} bytes; {os.cpu_count()} processors, load {os.getloadavg()[0]:.0f}\n")
    print("| | jobs | µs a job | MB moved | MiB of the conductor |\n|---|---:|---:|---:|---:|")
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        where = {"processes": "", "nodes": str(site().config), "cluster": cluster.scheduler_address}
        for parts in numbers:
            for way in WAYS:
                found = sample(way, parts, size, where[way])
                cost, moved = found["wall"] / found["jobs"] * 1e6, found["moved"] / 1e6
                figures = f"{found['jobs']:,} | {cost:,.0f} | {moved:.2f} | {found['peak'] / 2**20:.0f}"
                print(f"| {way} | {figures} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, nargs="+", default=[50, 400])
    parser.add_argument("--size", type=int, default=100_000)
    parser.add_argument("--conduct", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--where", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.conduct:
        conduct(given.conduct, given.parts[0], given.size, given.where)
    else:
        compare(given.parts, given.size)


if __name__ == "__main__":
    main()
