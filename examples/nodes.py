"""Run an experiment on twenty nodes by ssh: push a script, warm up, measure in waves, pull the results.

    python examples/nodes.py [--nodes N] [--waves N] [--monitor] [--timeline FILE.svg]

The nodes are addresses of this machine, 127.0.1.1 and so on. On each of them the example starts a real sshd (Debian's
package openssh-server), with keys of its own. So nothing of your configuration is used or changed. With other names in
`SshNodes`, the same scenario runs on real machines.

    push ──► warm up ──► wave 1 ──► wave 2 ──► wave 3 ──► pull        on each node, over its one connection
                           │          │          │
                           └──────────┴──────────┴── a wave begins on all nodes when the one before is over
    watch the load, in the background, from the push to the end
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from trioflow import (
    LocalNode,
    Monitor,
    Pull,
    Push,
    Scheduler,
    Sequence,
    SshJob,
    SshNode,
    SshNodes,
    Trace,
)
from trioflow.view import save

AT_ONCE = 10
WORK = (
    "trioflow-example-nodes"  # in the home directory of each node; removed at the end
)
SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
MEASURE = """\
#!/bin/sh
# measure.sh WAVE: how long this node takes to count, in milliseconds
begin=$(date +%s%N)
i=0; while [ $i -lt 2000 ]; do i=$((i + 1)); done
echo "$1 $(( ($(date +%s%N) - begin) / 1000000 ))" >> result.txt
"""


# ---- the experiment


def scenario(nodes: SshNodes, waves: int, here: Path) -> Scheduler:
    """Return the whole experiment; what it makes here goes to the directory `here`."""
    script = here / "measure.sh"
    script.write_text(MEASURE)
    script.chmod(0o755)
    place = f"{WORK}/{{node}}"
    experiment = Scheduler(label="experiment", jobs_window=AT_ONCE)
    prepared = []
    for node in nodes:
        push = SshJob(
            node,
            Push(script, to=f"{WORK}/{node.hostname}/"),
            label=f"push to {node.hostname}",
        )
        warm_up = SshJob(
            node,
            "./measure.sh 0 && rm result.txt",
            cwd=place,
            label=f"warm up {node.hostname}",
        )
        load = SshJob(
            node,
            "while cut -d' ' -f1 /proc/loadavg; do sleep 0.1; done",
            stdout=here / "{node}.load",
            forever=True,
            required=push,
            label=f"watch {node.hostname}",
        )
        experiment.update([Sequence(push, warm_up), load])
        prepared.append(warm_up)
    before = prepared
    for wave in range(1, waves + 1):
        command = f"./measure.sh {wave}"
        jobs = [
            SshJob(
                node,
                command,
                cwd=place,
                timeout=30,
                required=own,
                label=f"wave {wave} on {node.hostname}",
            )
            for node, own in zip(nodes, before, strict=True)
        ]
        for job, own in zip(jobs, before, strict=True):
            job.requires(
                [one for one in before if one is not own], settled=True, order_only=True
            )
        experiment.update(jobs)
        before = jobs
    for node, last in zip(nodes, before, strict=True):
        results = Pull(
            f"{WORK}/{node.hostname}/result.txt", to=f"{here}/{node.hostname}/"
        )
        pull = SshJob(node, results, label=f"pull from {node.hostname}")
        experiment.add(
            pull.requires(last, settled=True)
        )  # what was measured, whatever failed afterwards
    return experiment


def report(nodes: SshNodes, here: Path) -> None:
    """Print what was measured, wave by wave."""
    by_wave: dict[int, list[int]] = {}
    for node in nodes:
        for line in (here / node.hostname / "result.txt").read_text().splitlines():
            wave, milliseconds = map(int, line.split())
            by_wave.setdefault(wave, []).append(milliseconds)
    for wave, times in sorted(by_wave.items()):
        print(f"wave {wave}: {len(times)} nodes, {min(times)} to {max(times)} ms")
    loads = [here / f"{node.hostname}.load" for node in nodes]
    watched = sum(load.exists() and load.stat().st_size > 0 for load in loads)
    print(f"the load of {watched} nodes was watched meanwhile")


# ---- the nodes


@contextlib.contextmanager
def loopback_nodes(number: int) -> Iterator[SshNodes]:
    """Serve ssh on that many addresses of this machine, for a block."""
    addresses = [f"127.0.1.{last}" for last in range(1, number + 1)]
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as servers:
        directory = Path(name)
        for key in ("identity", "host_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / key],
                check=True,
            )
        port = free_port(addresses[0])
        started = [
            servers.enter_context(sshd(directory, address, port))
            for address in addresses
        ]
        for address, process in zip(addresses, started, strict=True):
            wait_for(address, port, process)
        (directory / "config").write_text(
            f"Host *\n  IdentityFile {directory}/identity\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  GlobalKnownHostsFile /dev/null\n"
        )
        yield SshNodes(
            addresses,
            username=getpass.getuser(),
            port=port,
            config=directory / "config",
            known_hosts=directory / "known_hosts",
            accept_new=True,
        )


@contextlib.contextmanager
def sshd(directory: Path, address: str, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Serve ssh on one address, for a block."""
    settings = {
        "ListenAddress": address,
        "Port": port,
        "HostKey": directory / "host_key",
        "AuthorizedKeysFile": directory / "identity.pub",
        "PidFile": "none",
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "Subsystem": "sftp internal-sftp",
        "SetEnv": "SHLVL=1",  # otherwise bash would read your .bashrc for each command
    }
    config = directory / f"{address}.config"
    config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    process = subprocess.Popen(
        [SSHD, "-D", "-f", config, "-E", directory / f"{address}.log"]
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def free_port(address: str) -> int:
    with socket.socket() as one:
        one.bind((address, 0))
        port: int = one.getsockname()[1]
        return port


def wait_for(address: str, port: int, process: subprocess.Popen[bytes]) -> None:
    """Return when a server answers."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
            return
        if process.poll() is not None:
            raise SystemExit(
                f"the sshd of {address} has ended with exit code {process.returncode}"
            )
        time.sleep(0.01)


def remove_work(node: SshNode | LocalNode) -> None:
    """All nodes of this example share one home directory: leave nothing of ours in it."""
    Scheduler(SshJob(node, ("rm", "-rf", WORK))).run()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--nodes", type=int, default=20, metavar="N", help="how many nodes, at most 250"
    )
    parser.add_argument(
        "--waves",
        type=int,
        default=3,
        metavar="N",
        help="how many waves of measurements",
    )
    parser.add_argument(
        "--monitor", action="store_true", help="show the run while it goes on"
    )
    parser.add_argument(
        "--timeline",
        type=Path,
        metavar="FILE",
        help="write the timeline of the run, as SVG",
    )
    options = parser.parse_args()
    if not os.path.exists(SSHD):
        print(
            "this example needs an ssh server: install openssh-server", file=sys.stderr
        )
        return 1
    with (
        loopback_nodes(options.nodes) as nodes,
        tempfile.TemporaryDirectory() as directory,
    ):
        here = Path(directory)
        experiment = scenario(nodes, options.waves, here)
        trace = Trace()
        try:
            succeeded = experiment.run(
                instruments=[trace, Monitor()] if options.monitor else [trace]
            )
        finally:
            remove_work(nodes[0])
        if experiment.failures():
            experiment.debrief()
            return 1
        report(nodes, here)
        if options.timeline is not None:
            save(trace, options.timeline)
    return 0 if succeeded else 1


if __name__ == "__main__":
    sys.exit(main())
