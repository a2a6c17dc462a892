"""Coroutines for the tests of asynciojobs' names."""

from typing import Any
import anyio


async def give(value: Any, delay: float = 0.0) -> Any:
    await anyio.sleep(delay)
    return value


async def fail(delay: float = 0.0) -> None:
    """Sleep, and raise KeyError("lost")."""
    await anyio.sleep(delay)
    raise KeyError("lost")
