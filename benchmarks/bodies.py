"""The bodies of jobs: the same functions for trioflow and its rivals. Each takes the number of its job."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Final

import trio

Body = Callable[[int], Any]

_draw = random.Random(20)
NAPS: Final = [
    _draw.uniform(0, 0.020) for _ in range(997)
]  # seconds; a prime number of them, so that no shape repeats in step with it


def burn(seconds: float) -> None:
    """Keep the CPU busy for some CPU time: on a busy machine, wall time would be less work."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


async def no_op(number: int) -> None:
    pass


async def burn_1ms(number: int) -> None:
    burn(0.001)


async def checkpoint_on_trio(number: int) -> None:
    await trio.lowlevel.checkpoint()


async def checkpoint_on_asyncio(number: int) -> None:
    await asyncio.sleep(0)


async def nap_on_trio(number: int) -> None:
    await trio.sleep(NAPS[number % len(NAPS)])


async def nap_on_asyncio(number: int) -> None:
    await asyncio.sleep(NAPS[number % len(NAPS)])


async def short_nap_on_trio(number: int) -> None:
    await trio.sleep(0.002)


async def short_nap_on_asyncio(number: int) -> None:
    await asyncio.sleep(0.002)


async def second_on_trio(number: int) -> None:
    await trio.sleep(1)


async def second_on_asyncio(number: int) -> None:
    await asyncio.sleep(1)


def no_op_in_thread(number: int) -> None:
    pass


def burn_1ms_in_thread(number: int) -> None:
    burn(0.001)


def nap_in_thread(number: int) -> None:
    time.sleep(NAPS[number % len(NAPS)])


ANYWHERE: Final[dict[str, Body]] = {"no-op": no_op, "1 ms burn": burn_1ms}

BODIES: Final[dict[str, dict[str, Body]]] = {
    "trio": {
        "checkpoint": checkpoint_on_trio,
        "nap": nap_on_trio,
        "nap of 2 ms": short_nap_on_trio,
        "1 s sleep": second_on_trio,
        **ANYWHERE,
    },
    "asyncio": {
        "checkpoint": checkpoint_on_asyncio,
        "nap": nap_on_asyncio,
        "nap of 2 ms": short_nap_on_asyncio,
        "1 s sleep": second_on_asyncio,
        **ANYWHERE,
    },
    "threads": {
        "no-op": no_op_in_thread,
        "1 ms burn": burn_1ms_in_thread,
        "nap": nap_in_thread,
    },
}
"""By backend and name."""
