"""Inspection of the frames of a waiting coroutine: the line of user code that waits, and whether it sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from types import CodeType, FrameType
from typing import Any

import anyio
import anyio.lowlevel

from .._core.backend._shared import await_chain
from .._core.base._user_code import describe_line, library_prefixes


def waiting_line(coroutine: Any) -> str:
    """Return the file, number and text of the innermost line of user code in which a coroutine waits.

    If it waits in no such line, return a text that says so.
    """
    innermost: FrameType | None = None
    for frame, _ in await_chain(coroutine):
        if not frame.f_code.co_filename.startswith(_library_prefixes()):
            innermost = frame
    if innermost is None:
        return "a line outside your Python code"
    return describe_line(innermost.f_code.co_filename, innermost.f_lineno)


def is_sleeping(coroutine: Any, *, endless: bool = False) -> bool:
    """Return whether a coroutine of user code waits in a direct call of a sleep or a checkpoint.

    Args:
        coroutine: the coroutine; for None, the result is False.
        endless: whether to include sleeps that only a cancellation ends.

    """
    codes = _sleep_code_objects(endless)
    for frame, _ in await_chain(coroutine):
        if frame.f_code in codes:
            return True
        if frame.f_code.co_filename.startswith(_library_prefixes()):
            return False
    return False


def is_waiting_for_thread(coroutine: Any) -> bool:
    """Return whether a coroutine waits for a thread that anyio, trio or asyncio has started."""
    return any(
        frame.f_code.co_name in ("run_sync", "to_thread_run_sync", "to_thread")
        and frame.f_code.co_filename.startswith(_library_prefixes())
        for frame, _ in await_chain(coroutine)
    )


@functools.cache
def _library_prefixes() -> tuple[str, ...]:
    """Return the prefixes of the file names of libraries. Code from a prompt or a doctest is the user's here."""
    return tuple(prefix for prefix in library_prefixes() if prefix != "<")


@functools.cache
def _sleep_code_objects(endless: bool) -> frozenset[CodeType]:
    """Return the code objects of all functions that only let time pass."""
    functions: list[Any] = [asyncio.sleep, anyio.sleep, anyio.sleep_until, anyio.lowlevel.checkpoint]
    functions += [anyio.sleep_forever] * endless
    with contextlib.suppress(ImportError):
        import trio

        functions += [trio.sleep, trio.sleep_until, trio.lowlevel.checkpoint]
        functions += [trio.sleep_forever] * endless
    return frozenset(function.__code__ for function in functions)
