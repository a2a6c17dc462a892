"""A command on each of many nodes, by trioflow and by others: python -m benchmarks.many_nodes [500] [--broken 10].

The nodes are loopback addresses, which a real sshd of this machine answers. With --broken, so many of them do not
answer at all, so many refuse, and so many take two seconds to answer. trioflow starts all jobs at once; the others are
told how many nodes at once (--fanout). Times are wall time: until the last sound node has run its command, and until
all is over.
"""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tests.jobs.ssh.servers import Impostor, Proxy, Site, free_port
from trioflow import Job, Scheduler, SshJob, SshNode

from .cases.nodes import below

TRIOFLOW: Final = "trioflow"
GIVEN_UP: Final = 5
"""Seconds after which a node that does not answer is given up, in each way."""
SLOW: Final = 2.0
"""Seconds that slow nodes take to answer."""


@dataclass(frozen=True)
class Field:
    """Nodes, and the configuration by which ssh reaches them."""

    config: Path
    sound: Sequence[str]
    broken: Sequence[str]

    @property
    def names(self) -> list[str]:
        """The nodes, the broken ones among the others."""
        found, rest = list(self.sound), list(self.broken)
        for number, name in enumerate(rest):
            found.insert(number * len(found) // len(rest), name)
        return found


def field(stack: ExitStack, number: int, broken: int) -> Field:
    """Start the servers."""
    directory = Path(tempfile.mkdtemp(prefix="trioflow-benchmarks-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    site = Site(directory)
    stack.callback(site.close)
    server = site.serve(2, ListenAddress="0.0.0.0", MaxStartups=number + 3 * broken, LogLevel="ERROR")
    silent = stack.enter_context(Impostor())
    slow = stack.enter_context(Proxy(server, *[SLOW] * 100_000))
    with site.config.open("a") as file:
        file.write(f"  ConnectTimeout {GIVEN_UP}\n  LogLevel ERROR\n  HostKeyAlias [{server.address}]:{server.port}\n")
        for kind, address, port in (
            ("silent", "127.0.0.1", silent.port),
            ("refusing", "127.0.0.1", free_port("127.0.0.1")),
            ("slow", server.address, slow.port),
        ):
            file.write(f"Host {kind}*\n  HostName {address}\n  Port {port}\n")
        file.write(f"Host 127.*\n  Port {server.port}\n")
    sound = [f"127.1.{one // 250}.{one % 250 + 1}" for one in range(number)]
    sound += [f"slow{one}" for one in range(broken)]
    return Field(site.config, sound, [f"{kind}{one}" for kind in ("silent", "refusing") for one in range(broken)])


def by_trioflow(backend: str, given: Field, _: int) -> tuple[int, float, float]:
    """Return how many commands have succeeded, when the last of them had, and when all was over."""
    jobs = [
        SshJob(SshNode(name, config=given.config, connect_timeout=GIVEN_UP), "echo ok", stdout=subprocess.PIPE)
        for name in given.names
    ]
    scheduler, start = Scheduler(jobs), time.monotonic()
    scheduler.run(backend=backend)
    over = time.monotonic() - start
    done = [job for job in jobs if job.is_succeeded() and job.result().text == "ok\n"]
    first = min(job.started_at or 0.0 for job in jobs)
    return len(done), max((job.finished_at or 0.0) - first for job in done), over


def by_program(words: Sequence[str], given: Field, fanout: int) -> tuple[int, float, float]:
    """Return the same of a program, which prints a line for each command."""
    texts = {"fanout": str(fanout), "config": str(given.config), "names": ",".join(given.names)}
    environment = {**os.environ, "PDSH_SSH_ARGS_APPEND": f"-F {given.config}"}
    start, done, last = time.monotonic(), 0, 0.0
    with subprocess.Popen(
        [word.format(**texts) for word in words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n".join(given.names))
        process.stdin.close()
        for line in process.stdout:
            if line.endswith("ok\n"):
                done, last = done + 1, time.monotonic() - start
    return done, last, time.monotonic() - start


XARGS: Final = ("xargs", "-P{fanout}", "-I[]", "sh", "-c", "ssh -T -F {config} [] echo ok || exit 1")
WAYS: Final = {
    f"{TRIOFLOW}, trio": partial(by_trioflow, "trio"),
    f"{TRIOFLOW}, asyncio": partial(by_trioflow, "asyncio"),
    "xargs": partial(by_program, XARGS),
    "pdsh": partial(by_program, ["pdsh", "-R", "ssh", "-f", "{fanout}", "-w", "{names}", "echo ok"]),
    "clush": partial(by_program, ["clush", "-f", "{fanout}", "-o", "-F {config}", "-w", "{names}", "echo ok"]),
}


def private_memory(given: Field) -> float:
    """Return the private bytes, here, of a node that is connected and runs a command: the conductor counts too."""
    with tempfile.TemporaryDirectory() as directory:
        going, begun = Path(directory, "go"), Path(directory, "begun")
        going.touch()
        begun.mkdir()
        command = f"touch {begun}/$$; while [ -e {going} ]; do sleep 1; done"
        nodes = [SshNode(name, config=given.config) for name in given.sound]
        found = list[int]()

        def weigh() -> None:
            while len(os.listdir(begun)) < len(nodes):
                time.sleep(0.1)
            found.append(sum(private_size(pid) for pid in below(os.getpid())))
            going.unlink()

        thread = threading.Thread(target=weigh)
        thread.start()
        Scheduler(Job(_nothing), *(SshJob(node, command) for node in nodes)).run(check=True)
        thread.join()
    return found[0] / len(nodes)


async def _nothing() -> None:
    pass


def private_size(pid: int) -> int:
    """Return the bytes of a process that it shares with nobody."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0  # it has ended
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nodes", type=int, nargs="?", default=500)
    parser.add_argument("--broken", type=int, default=10)
    parser.add_argument("--fanout", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ways", nargs="*", default=list(WAYS))
    parser.add_argument("--memory", action="store_true", help="measure the memory of connected nodes too")
    options = parser.parse_args()
    logging.getLogger(TRIOFLOW).setLevel(logging.CRITICAL)
    ways = {name: way for name, way in WAYS.items() if any(name.startswith(one) for one in options.ways)}
    best: dict[str, tuple[int, float, float]] = {}
    with ExitStack() as stack:
        given = field(stack, options.nodes, options.broken)
        print(f"{len(given.names)} nodes, {len(given.broken)} out of reach; load {os.getloadavg()[0]:.0f}\n")
        for _ in range(options.rounds):
            for name, way in ways.items():
                if name.startswith(TRIOFLOW) or shutil.which(name):
                    found = way(given, options.fanout)
                    best[name] = min(best.get(name, found), found, key=lambda found: (-found[0], found[2]))
        print("| | succeeded | s to the last sound node | s in all |\n|---|---:|---:|---:|")
        for name, (done, last, over) in best.items():
            print(f"| {name} | {done} | {last:.1f} | {over:.1f} |")
        if options.memory:
            print(f"\nprivate memory here of a connected node: {private_memory(given) / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
