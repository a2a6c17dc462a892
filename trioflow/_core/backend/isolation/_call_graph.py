"""The call graph of asyncio's tools (Python 3.14), such as `python -m asyncio pstree`: which task awaits which."""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

HAS_CALL_GRAPH: Final = hasattr(asyncio, "future_add_to_awaited_by")
"""Whether asyncio has a call graph, and tools that read it: since Python 3.14."""


def add_edge(task: Any, host_task: Any) -> None:
    """Record in asyncio's call graph that `host_task`, which awaits a run, awaits a worker's `task`."""
    if HAS_CALL_GRAPH:
        cast(Any, asyncio).future_add_to_awaited_by(task, host_task)


def remove_edge(task: Any, host_task: Any) -> None:
    """Remove the edge again, which refers to `host_task`: that may be a worker's task, too, and must be as it was."""
    if HAS_CALL_GRAPH:
        cast(Any, asyncio).future_discard_from_awaited_by(task, host_task)
