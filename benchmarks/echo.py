"""A server in another process that sends back each line: what requests are measured against."""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self

SERVER = """
import asyncio

async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


class EchoServer:
    """Serves inside a `with` block; `needed=False` starts none, and yields None."""

    def __init__(self, needed: bool = True) -> None:
        self._needed = needed
        self.address = "127.0.0.1", 0

    def __enter__(self) -> Self | None:
        if not self._needed:
            return None
        self._process = subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.address = "127.0.0.1", int(self._process.stdout.readline())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._needed:
            self._process.kill()
            self._process.communicate()
