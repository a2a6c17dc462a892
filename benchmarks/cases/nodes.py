"""What commands on nodes cost: over one connection, on many nodes, and in memory here while connections are kept.

The nodes are names of a real sshd on this machine, so its processes share the processors. Wall time is compared, from
before the first connection to after the last has been closed. Memory is that of the conductor and of all processes
below it (the proportional set size: pages that several processes share count once), not that of the server.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from ..measuring import Contest, Contestant, Sample, Setting, Stopwatch
from ..plans import Plan
from ..rivals.of_nodes import KEEPING, OVER_MANY, OVER_ONE, NodeRival, names, site

ONE: Final = "one connection, 8 at once"
MANY: Final = "a command on each node, 10 at once"
SESSIONS: Final = 8
HANDSHAKES: Final = 10
MANY_SESSIONS: Final = 4
"""Commands on each node where the memory of a session is measured."""
PATIENCE: Final = 120.0
"""Seconds after which commands have had time enough to start."""


def nodes(plan: Plan) -> Iterator[Contest]:
    """The same command many times on one node, once on each of many nodes, and one that stays on each."""
    yield Contest(
        "nodes",
        list(timed(plan, OVER_ONE, ONE, ["node0"] * plan.node_commands, SESSIONS)),
        plan.few_rounds,
    )
    yield Contest(
        "nodes",
        list(timed(plan, OVER_MANY, MANY, names(plan.nodes), HANDSHAKES)),
        plan.few_rounds,
    )
    if not plan.kept_nodes:
        return
    setting = partial(Setting, shape="kept", size=plan.kept_nodes)
    weighed = [
        Contestant(
            rival.name, setting(rival.backend), partial(weigh, rival, plan.kept_nodes)
        )
        for rival in entering(plan, KEEPING)
    ]
    yield Contest("nodes", weighed, 1)


def entering(plan: Plan, rivals: Sequence[NodeRival]) -> list[NodeRival]:
    """Return the rivals that are there, on the plan's backends."""
    return [
        rival
        for rival in rivals
        if rival.is_installed and rival.backend in ("", *plan.backends)
    ]


def timed(
    plan: Plan,
    rivals: Sequence[NodeRival],
    task: str,
    called: Sequence[str],
    window: int,
) -> Iterator[Contestant]:
    """Enter rivals for a task that all of them have rehearsed with a few nodes."""
    for rival in entering(plan, rivals):
        setting = Setting(rival.backend, task, "true", len(called), window)
        attempt, rehearse = (
            partial(take_time, rival, called, window),
            partial(rival.run, called[:2], "true", window),
        )
        yield Contestant(rival.name, setting, attempt, rehearse)


def take_time(rival: NodeRival, called: Sequence[str], window: int) -> Sample:
    """Run all, and divide the time by their number."""
    site()
    with Stopwatch() as watch:
        rival.run(called, "true", window)
    return {"command wall": watch.wall / len(called) * 1e6}


def weigh(rival: NodeRival, number: int) -> Sample:
    """Return the memory of one more session, and of one more node without any, as differences between three runs."""
    few, many = 2, number
    most = weight(rival, many, MANY_SESSIONS)
    one_each = weight(rival, many, 1)
    session = (most - one_each) / (many * (MANY_SESSIONS - 1))
    node = (one_each - weight(rival, few, 1)) / (many - few) - session
    return {"session": session / 2**20, "node": node / 2**20}


def weight(rival: NodeRival, number: int, sessions: int) -> int:
    """Return trioflow's bytes while one command, or several, run on each node."""
    called = names(number) * sessions
    window = sessions if rival.backend == "" else len(called)
    with tempfile.TemporaryDirectory() as directory:
        going, begun = Path(directory, "go"), Path(directory, "begun")
        going.touch()
        begun.mkdir()
        command = f"touch {begun}/$$; while [ -e {going} ]; do sleep 0.2; done"
        running = threading.Thread(target=rival.run, args=(called, command, window))
        running.start()
        try:
            end = time.monotonic() + PATIENCE
            while len(os.listdir(begun)) < len(called):
                if time.monotonic() > end:
                    raise RuntimeError(
                        f"{rival.name}: {len(os.listdir(begun))} of {len(called)} commands have begun"
                    )
                time.sleep(0.05)
            return sum(proportional_size(pid) for pid in below(os.getpid()))
        finally:
            going.unlink()
            running.join()


def below(pid: int) -> Iterator[int]:
    """Yield a process and its descendants, without servers and their processes."""
    todo = [pid]
    while todo:
        one = todo.pop()
        try:
            if Path(f"/proc/{one}/comm").read_text().startswith("sshd"):
                continue
            yield one
            for thread in os.listdir(f"/proc/{one}/task"):
                todo += map(
                    int, Path(f"/proc/{one}/task/{thread}/children").read_text().split()
                )
        except OSError:
            continue  # it has ended


def proportional_size(pid: int) -> int:
    """Return the size of a process, with a page shared by n processes counted as an n-th."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # it has ended
    return 0
