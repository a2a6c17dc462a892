"""What nodes and clusters cost: python -m benchmarks.nodes [--only ssh|dask].

Commands on nodes by ssh, beside xargs and a shell over connections that OpenSSH itself shares; their memory; jobs
on a Dask cluster, beside `client.map`. The nodes are a real sshd on this machine. All take turns. Time
is wall time, because most of the work is done by other processes: figures of a busy machine mean little.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from trioflow import DaskJob, Scheduler, SshJob, SshNode, SshNodes

from .loading import example

ROUNDS: Final = 5
COMMANDS: Final = 500
AT_ONCE: Final = 8
NODES: Final = 100
HANDSHAKES: Final = 10
CALLS: Final = 10_000
BACKENDS: Final = ("trio", "asyncio")


def compare(what: str, limit: float, rival: tuple[str, Callable[[], Any]], ours: dict[str, Callable[[], Any]]) -> None:
    """Let all take turns, and print the best and the median of each, and its ratio to the rival."""
    ways = {rival[0]: rival[1], **ours}
    samples: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            samples[name].append(time.perf_counter() - begin)
    print(f"\n{what}, best and median of {ROUNDS}")
    for name, times in samples.items():
        ratio = min(times) / min(samples[rival[0]])
        against = "" if name == rival[0] else f"   {ratio:.2f} of {rival[0]}, limit {limit}"
        print(f"  {name:32}{min(times):8.3f} s {statistics.median(times):8.3f} s{against}")


# ---- ssh


def by_ssh() -> None:
    nodes = example("nodes")
    with nodes.loopback_nodes(1) as served, tempfile.TemporaryDirectory() as directory:
        node = served[0]
        config = Path(directory) / "config"
        config.write_text(
            f"Host *\n  HostName {node.hostname}\n  Port {node.port}\n  User {node.username}\n"
            f"  HostKeyAlias {node.hostname}\n  UserKnownHostsFile {directory}/known_hosts\n"
            f"  StrictHostKeyChecking accept-new\n" + Path(node.config).read_text()
        )
        ssh = ["ssh", "-F", str(config), "-o", "LogLevel=ERROR"]
        subprocess.run([*ssh, "node", "true"], check=True)  # its key is known from now on
        one_connection(ssh, config, directory)
        many_nodes(ssh, config)
        memory(config)


def run(jobs: list[SshJob], backend: Any, window: int) -> None:
    assert Scheduler(*jobs, jobs_window=window).run(backend=backend, check=True)


def one_connection(ssh: list[str], config: Path, directory: str) -> None:
    def shell() -> None:
        """Open the connection, send all commands through it, and close it."""
        through = shlex.join([*ssh, "-S", f"{directory}/control"])
        script = f"{through} -fNM node && seq {COMMANDS} | xargs -P{AT_ONCE} -I{{}} {through} node true; "
        subprocess.run(["sh", "-c", script + f"{through} -q -O exit node 2>/dev/null"], check=True)

    def ours(backend: str) -> Callable[[], None]:
        node = SshNode("node", config=config)
        return lambda: run([SshJob(node, "true") for _ in range(COMMANDS)], backend, AT_ONCE)

    what = f"true on one node through one connection, {COMMANDS} times, {AT_ONCE} at once"
    compare(what, 1.2, ("xargs over ControlMaster", shell), {f"trioflow, {one}": ours(one) for one in BACKENDS})


def many_nodes(ssh: list[str], config: Path) -> None:
    def shell() -> None:
        script = f"seq {NODES} | xargs -P{HANDSHAKES} -I{{}} {shlex.join(ssh)} node{{}} true"
        subprocess.run(["sh", "-c", script], check=True)

    def ours(backend: str) -> Callable[[], None]:
        nodes = SshNodes(f"node[1-{NODES}]", config=config)
        return lambda: run([SshJob(node, "true") for node in nodes], backend, NODES)

    what = f"{NODES} nodes connected, and one command each"
    compare(what, 1.2, (f"xargs -P{HANDSHAKES} ssh", shell), {f"trioflow, {one}": ours(one) for one in BACKENDS})


# ---- memory


def memory(config: Path) -> None:
    """Weigh all processes of this side: with idle nodes, and with a session on each of them."""
    number = 20
    print(f"\nmemory of this side, proportional set size, MB, with {number} nodes")
    alone = weight_of(["-c", "import time, trioflow; from trioflow import SshJob; time.sleep(10)"])
    print(f"  {'Python with trioflow alone':32}{alone:8.1f}")
    for what in ("idle", "busy"):
        weight = weight_of(["-m", "benchmarks.nodes", "--hold", what, str(config), str(number)])
        session = "a session on each" if what == "busy" else "idle nodes"
        print(f"  {session:32}{weight:8.1f}   {(weight - alone) / number:6.2f} for each node")


def weight_of(arguments: list[str]) -> float:
    """Return the MB of a Python process and all that it has started, when it has had time to connect."""
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        time.sleep(3)
        return sum(map(proportional_set_size, session(process.pid))) / 1e6
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        process.wait()


def session(leader: int) -> Iterator[int]:
    """Yield the processes that descend from one, in whatever session, without those of the server."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    todo = [leader]
    # Masters of connections have left their parents; they name the directory of their sockets.
    todo += [pid for pid in parents if parents[pid] == 1 and is_master(pid)]
    while todo:
        pid = todo.pop()
        yield pid
        todo += [child for child, parent in parents.items() if parent == pid]


def is_master(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return command.startswith(b"ssh")


def proportional_set_size(pid: int) -> int:
    """Return the bytes of a process, each page shared by several counted for its part."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def hold(what: str, config: str, number: str) -> None:
    """Be weighed: with a connection to each node, and perhaps a session."""
    nodes = SshNodes(f"node[1-{number}]", config=config)
    jobs = [SshJob(node, "true" if what == "idle" else "sleep 10") for node in nodes]
    last = [SshJob(nodes[0], "sleep 10")] if what == "idle" else []
    Scheduler(*jobs, *last).run()


# ---- Dask


def by_dask() -> None:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,  # type: ignore[no-untyped-call]
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):

        def by_hand() -> None:
            client.gather(client.map(abs, range(CALLS), pure=False))

        def run_jobs(backend: Any) -> None:
            jobs = [DaskJob(abs, number, client=client, gather=True) for number in range(CALLS)]
            assert Scheduler(*jobs).run(backend=backend)

        def ours(backend: Any) -> Callable[[], None]:
            return lambda: run_jobs(backend)

        what = f"{CALLS:,} calls of abs on a LocalCluster of two workers"
        compare(what, 1.3, ("client.map and gather", by_hand), {f"trioflow, {one}": ours(one) for one in BACKENDS})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("ssh", "dask"), help="measure just these")
    parser.add_argument("--hold", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.hold is not None:
        hold(*options.hold)
        return
    print(f"Python {platform.python_version()}, load {os.getloadavg()[0]:.1f} at the start")
    if options.only != "dask":
        by_ssh()
    if options.only != "ssh":
        by_dask()


if __name__ == "__main__":
    main()
