"""`NodePool`: the nodes of a batch, and the free slots on them."""

from __future__ import annotations

import contextlib
import subprocess
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio

from .. import SshError, Unreachable
from ..jobs.command._result import text_with_notes
from ..jobs.ssh._wrapper import parse_cpu_count

if TYPE_CHECKING:  # imported on demand at run time, because importing them would double the import time
    from .. import LocalNode, SshJob, SshNode

    Node = SshNode | LocalNode

COUNT_CPUS_COMMAND: Final = "getconf _NPROCESSORS_ONLN || nproc"


def import_ssh_job() -> type[SshJob]:
    from .. import SshJob

    return SshJob


class NodePool:
    """The free slots, each on a node.

    Args:
        nodes: the nodes.
        slots_per_node: the number of slots on each; None for a slot for each of its CPUs, which `add_slots_for_cpus`
            adds.
        print_message: prints a message to the user.

    """

    def __init__(
        self, nodes: Sequence[Node], slots_per_node: int | None, print_message: Callable[[str], Awaitable[Any]]
    ) -> None:
        self._print_message: Final = print_message
        self._reachable_nodes: Final = set(nodes)  # all nodes, until one proves to be unreachable
        self._free_slots: Final = deque(list(nodes) * (slots_per_node or 0))
        self._semaphore: Final = anyio.Semaphore(len(self._free_slots), fast_acquire=True)

    def release(self, node: Node) -> None:
        """Add a free slot on a node."""
        self._free_slots.append(node)
        self._semaphore.release()

    async def wait_for_slot(self) -> Node:
        while True:
            await self._semaphore.acquire()
            node = self._free_slots.popleft()
            if node in self._reachable_nodes or not self._reachable_nodes:
                return node

    async def add_slots_for_cpus(self, node: Node) -> int:
        """Add a slot for each CPU of a node, and return their number. If it is unknown, add one slot."""
        count_job = import_ssh_job()(
            node, COUNT_CPUS_COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
        )
        cpus = 1
        with contextlib.suppress(SshError):
            cpus = parse_cpu_count((await count_job.co_run()).stdout)
        for _ in range(cpus):
            self.release(node)
        return cpus

    async def report_unreachable(self, error: Unreachable) -> bool:
        """Report an unreachable node once, and return whether another node can be reached."""
        if error.node in self._reachable_nodes:
            self._reachable_nodes.remove(error.node)
            consequence = "" if self._reachable_nodes else "; no nodes are left: the remaining commands fail"
            await self._print_message(f"{text_with_notes(error)}{consequence}")
        return bool(self._reachable_nodes)
