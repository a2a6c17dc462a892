"""Ways to run a command on nodes by ssh, all on a real sshd of this machine, which is there until the benchmarks end.

Each way takes the names of nodes, a command that runs once for each name, and how many at once. A name may come more
than once. All of them are other names of the same server, and each has its own connection.
"""

from __future__ import annotations

import atexit
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from tests.jobs.ssh.servers import Site, have_sshd
from trioflow import Scheduler, SshJob, SshNodes

from . import OURS

Way = Callable[[Sequence[str], str, int], None]
"""Takes names, a command, and how many at once."""
MAX_STARTUPS: Final = 250
"""Connections that the server is ready for."""


@dataclass(frozen=True, slots=True)
class NodeRival:
    """One way to run a command on nodes."""

    name: str
    backend: str
    run: Way
    needs: str = "ssh"

    @property
    def is_installed(self) -> bool:
        return have_sshd() and shutil.which(self.needs) is not None


@cache
def site() -> Site:
    """Return a server that answers to any name that begins with "node"."""
    directory = Path(tempfile.mkdtemp(prefix="trioflow-benchmarks-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    found = Site(directory)
    atexit.register(found.close)
    found.alias("node*", found.serve(2, MaxStartups=MAX_STARTUPS, LogLevel="ERROR"))
    return found


def names(number: int) -> list[str]:
    """Return the names of some nodes."""
    return [f"node{one}" for one in range(number)]


def with_trioflow(backend: str) -> Way:
    """A scheduler of jobs, a window of which runs at once."""

    def run(nodes: Sequence[str], command: str, window: int) -> None:
        found = {node.hostname: node for node in SshNodes(nodes, config=site().config)}
        scheduler = Scheduler(
            *(SshJob(found[name], command) for name in nodes), jobs_window=window
        )
        if not scheduler.run(backend=backend, check=True):
            raise RuntimeError("a command has failed")

    return run


def with_xargs(nodes: Sequence[str], command: str, window: int) -> None:
    """Xargs -P over ssh: a connection for each name."""
    words = [
        "xargs",
        f"-P{window}",
        "-I{}",
        "ssh",
        "-F",
        str(site().config),
        "{}",
        command,
    ]
    subprocess.run(words, input="\n".join(nodes), text=True, check=True)


def with_control_masters(nodes: Sequence[str], command: str, window: int) -> None:
    """Xargs -P over a shell for each name: open a connection that others could share, use it once, close it."""
    with tempfile.TemporaryDirectory() as directory:
        ssh = f"ssh -T -F {site().config} -S {directory}/{{}} {{}}"
        loop = f"{ssh} -MNf && {ssh} {shlex.quote(command)}; code=$?; {ssh} -O exit; exit $code"
        words = ["xargs", f"-P{window}", "-I{}", "sh", "-c", loop]
        subprocess.run(
            words,
            input="\n".join(nodes),
            text=True,
            check=True,
            stderr=subprocess.DEVNULL,
        )


def with_control_master(nodes: Sequence[str], command: str, window: int) -> None:
    """A shell's loop: open a connection to the node, all names of which are the same, use it by xargs -P, close it."""
    with tempfile.TemporaryDirectory() as directory:
        ssh = f"ssh -F {site().config} -S {directory}/socket"
        node = nodes[0]
        loop = (
            f"{ssh} -MNf {node} && xargs -P{window} -I{{}} {ssh} {{}} {shlex.quote(command)};"
            f"code=$?; {ssh} -O exit {node}; exit $code"
        )
        subprocess.run(
            ["sh", "-c", loop],
            input="\n".join(nodes),
            text=True,
            check=True,
            stderr=subprocess.DEVNULL,
        )


def with_parallel(nodes: Sequence[str], command: str, window: int) -> None:
    """GNU parallel, which opens a connection for each name and keeps it; `window` is how many at once on each."""
    logins = "".join(
        f"{window}/ssh -F {site().config} {name}\n" for name in dict.fromkeys(nodes)
    )
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(logins)
        file.flush()
        words = [
            "parallel",
            "--will-cite",
            "--controlmaster",
            "--sshloginfile",
            file.name,
            "-N0",
            command,
        ]
        subprocess.run(
            [*words],
            input="\n".join(nodes),
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
        )


OVER_ONE: Final = (
    NodeRival(OURS, "trio", with_trioflow("trio")),
    NodeRival(OURS, "asyncio", with_trioflow("asyncio")),
    NodeRival("xargs over ControlMaster", "", with_control_master, "xargs"),
)
OVER_MANY: Final = (
    *OVER_ONE[:2],
    NodeRival("xargs over ssh", "", with_xargs, "xargs"),
    NodeRival("ControlMaster for each", "", with_control_masters, "xargs"),
)
KEEPING: Final = (
    *OVER_ONE[:2],
    NodeRival("GNU parallel --controlmaster", "", with_parallel, "parallel"),
)
