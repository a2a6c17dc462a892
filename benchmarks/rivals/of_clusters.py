"""Ways to have a function called many times on a Dask cluster of two processes, which is there until the end."""

from __future__ import annotations

import atexit
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from trioflow import Scheduler

from . import OURS

WORKERS: Final = 2
Way = Callable[[Any, int], None]
"""Takes a client, and how often to call."""


@dataclass(frozen=True, slots=True)
class ClusterRival:
    """One way to have a function called on a cluster."""

    name: str
    backend: str
    run: Way

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec("distributed") is not None


@cache
def client() -> Any:
    """Return the client of a cluster."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address=":0")
    found = Client(cluster)
    atexit.register(cluster.close)
    atexit.register(found.close)
    return found


def nothing(number: int) -> int:
    """Do next to nothing."""
    return number


def with_trioflow(backend: str) -> Way:
    """A scheduler of jobs, whose values stay on the cluster."""

    def run(client: Any, number: int) -> None:
        from trioflow import DaskJob

        scheduler = Scheduler(*(DaskJob(nothing, one, client=client) for one in range(number)))
        if not scheduler.run(backend=backend, check=True):
            raise RuntimeError("a call has failed")

    return run


def by_hand(client: Any, number: int) -> None:
    """Client.map, and wait; as each call is to be made, none is taken for another."""
    from distributed import wait

    futures = client.map(nothing, range(number), pure=False)
    wait(futures)
    if any(future.status != "finished" for future in futures):
        raise RuntimeError("a call has failed")


RIVALS: Final = (
    ClusterRival(OURS, "trio", with_trioflow("trio")),
    ClusterRival(OURS, "asyncio", with_trioflow("asyncio")),
    ClusterRival("client.map", "", by_hand),
)
