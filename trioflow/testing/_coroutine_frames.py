"""Inspection of the frames of a waiting coroutine: the line of user code that waits, and whether it sleeps."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import sys
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, Final

import anyio
import anyio.lowlevel

from .._core.api.views import PACKAGE_PREFIX, describe_line

LIBRARY_MODULES: Final = ("trio", "anyio", "asyncio", "outcome", "contextlib", "types")


def waiting_line(coroutine: Any) -> str:
    """Return the file, number and text of the innermost line of user code in which a coroutine waits.

    If it waits in no such line, return a text that says so.
    """
    innermost: FrameType | None = None
    for frame in _iterate_frames(coroutine):
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
    for frame in _iterate_frames(coroutine):
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
        for frame in _iterate_frames(coroutine)
    )


def _iterate_frames(awaited: Any) -> Iterator[FrameType]:
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)
        frame = frame or getattr(awaited, "ag_frame", None)
        if frame is not None:
            yield frame
        awaited = (
            getattr(awaited, "cr_await", None)
            or getattr(awaited, "gi_yieldfrom", None)
            or getattr(awaited, "ag_await", None)
        )


@functools.cache
def _library_prefixes() -> tuple[str, ...]:
    """Return the path prefixes of the files of trioflow and of `LIBRARY_MODULES`."""
    files = [module.__file__ for name in LIBRARY_MODULES if (module := sys.modules.get(name)) and module.__file__]
    prefixes = [f"{os.path.dirname(file)}{os.sep}" if file.endswith("__init__.py") else file for file in files]
    return (PACKAGE_PREFIX, *prefixes)


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
