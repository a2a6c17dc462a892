"""Waiting for descriptors."""

from __future__ import annotations

import os

import anyio

from trioflow.jobs.posix._waiting import readable_on


def test_a_deadline_that_has_passed_comes_before_what_can_be_read(backend: str) -> None:
    """Otherwise a command that never stops writing would never be ended."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"x")

    async def look() -> list[bool]:
        wait, now = readable_on(backend), anyio.current_time()
        return [await wait(read_end, now + 60), await wait(read_end, now)]

    try:
        assert anyio.run(look, backend=backend) == [True, False]
    finally:
        os.close(read_end)
        os.close(write_end)
