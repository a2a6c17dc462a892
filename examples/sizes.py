#!/usr/bin/env python3
"""One scenario at three sizes: blocks of data are made, each is digested, and the digests are combined here.

    trioflow run examples/sizes.py                                       worker processes of this machine
    trioflow run examples/sizes.py --set nodes=node1,node2               nodes, by ssh, on which the blocks stay
    trioflow run examples/sizes.py --dask tcp://10.0.0.1:8786            a Dask cluster, on which the blocks stay

The first and the last differ by the place of the calls alone. Nodes run commands, so there each call is one of this
file, and a block is a file. Nodes and workers need Python, but not trioflow.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trioflow import Scheduler


def make(number: int, size: int) -> bytes:
    return random.Random(number).randbytes(size)


def digest(block: bytes) -> str:
    return hashlib.sha256(block).hexdigest()


async def combine(digests: list[Any]) -> str:
    """Return the digest of all digests; those from nodes are what a command has printed."""
    texts = [
        one if isinstance(one, str) else one.stdout.decode().strip() for one in digests
    ]
    return digest("".join(texts).encode())


def scenario(
    parts: int = 100, size: int = 100_000, nodes: str = "", config: str = ""
) -> Scheduler:
    """Build the scenario, with so many blocks of so many bytes.

    Args:
        parts: how many blocks.
        size: the bytes of each.
        nodes: names of nodes, separated by commas; "local" stands for this machine, without ssh.
        config: a configuration of ssh other than the user's.

    """
    from trioflow import Job, LocalNode, ProcessJob, Scheduler, SshNode

    if not nodes:
        blocks: list[Any] = [
            ProcessJob(make, number, size, label=f"make {number}")
            for number in range(parts)
        ]
        digests: list[Any] = [
            ProcessJob(digest, block, label=f"digest {number}")
            for number, block in enumerate(blocks)
        ]
    else:
        given: dict[str, Any] = {"config": config} if config else {}
        farm = [
            LocalNode() if name == "local" else SshNode(name, **given)
            for name in nodes.split(",")
        ]
        pairs = [
            on_node(farm[number % len(farm)], number, size) for number in range(parts)
        ]
        blocks, digests = [first for first, _ in pairs], [second for _, second in pairs]
    return Scheduler(
        blocks,
        Job(combine, digests, label="combine"),
        jobs_window=8 * max(1, len(nodes.split(","))),
    )


def on_node(node: Any, number: int, size: int) -> tuple[Any, Any]:
    """Return the jobs that make a block on a node, and digest it there."""
    from trioflow import Script, SshJob

    block = SshJob(node, Script(__file__, "make", number, size), label=f"make {number}")
    code = Script(__file__, "digest", number)
    return block, SshJob(
        node, code, label=f"digest {number}", stdout=subprocess.PIPE, required=block
    )


def on_the_node(what: str, number: int, size: int = 0) -> None:
    """Do what one of the commands on a node does."""
    path = Path(tempfile.gettempdir(), f"trioflow-sizes-{os.getuid()}-{number}")
    if what == "make":
        path.write_bytes(make(number, size))
    else:
        print(digest(path.read_bytes()))
        path.unlink()


if __name__ == "__main__":
    on_the_node(sys.argv[1], *map(int, sys.argv[2:]))
