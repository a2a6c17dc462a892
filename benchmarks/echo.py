"""Servers in another process that send back what they get: what requests are measured against."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Final, Self

OF_LINES: Final = """
async def answer(reader, writer):
    writer.write(await reader.readline())
    writer.close()
"""
"""Sends back one line for each connection."""

OF_PATHS: Final = r"""
async def answer(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split()[1]
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(path), path))
    except asyncio.IncompleteReadError:
        writer.close()
"""
"""Answers HTTP requests with their paths, any number for each connection."""

MAIN: Final = """
import asyncio

async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class EchoServer:
    """Runs a program inside a `with` block; None starts none, and yields None."""

    def __init__(self, program: str | None) -> None:
        self._program = program
        self.address = "127.0.0.1", 0

    def __enter__(self) -> Self | None:
        if self._program is None:
            return None
        self._process = subprocess.Popen(
            [sys.executable, "-c", self._program + MAIN], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.address = "127.0.0.1", int(self._process.stdout.readline())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._program is not None:
            self._process.kill()
            self._process.communicate()
