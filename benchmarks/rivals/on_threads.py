"""Threads: code that users would write with `concurrent.futures`, and Dask's threaded scheduler."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ..bodies import Body
from ..graphs import Graph
from . import rival

THREADS: Final = min(32, (os.cpu_count() or 1) + 4)
"""Without a window: as many as `concurrent.futures` takes by default."""


@rival("concurrent.futures", "threads")
def pool(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    waiting_for = [len(required) for required in graph.requirements]
    successors = graph.successors()
    entries = graph.entries
    lock = threading.Lock()
    over = threading.Event()
    left = graph.size

    def run() -> None:
        with ThreadPoolExecutor(window or THREADS) as threads:

            def job(number: int) -> None:
                nonlocal left
                body(number)
                with lock:
                    left -= 1
                    for successor in successors[number]:
                        waiting_for[successor] -= 1
                        if not waiting_for[successor]:
                            threads.submit(job, successor)
                    if not left:
                        over.set()

            for entry in entries:
                threads.submit(job, entry)
            over.wait()

    return run


@rival("Dask", "threads", needs="dask", max_size=20_000)
def dask_threaded(graph: Graph, body: Body, window: int | None) -> Callable[[], Any]:
    import dask

    def job(number: int, *required: None) -> None:
        body(number)

    step = dask.delayed(job, pure=False)
    steps: list[Any] = []
    for number, required in enumerate(graph.requirements):
        steps.append(step(number, *[steps[requirement] for requirement in required]))

    def run() -> None:
        dask.compute(*steps, scheduler="threads", num_workers=window or THREADS)

    return run
