"""Servers in another process that reject requests: by a rate, or because they are busy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio

BY_RATE: str = """
import asyncio, sys, time

per = 60
full = {"requests": float(sys.argv[1]), "tokens": float(sys.argv[2])}
level, since = dict(full), None

async def serve(reader, writer):
    global level, since
    estimated, used = map(int, (await reader.readline()).split())
    now = time.perf_counter()
    since = now if since is None else since
    level = {key: min(full[key], level[key] + full[key] / per * (now - since)) for key in full}
    since = now
    if level["requests"] >= 1 and level["tokens"] >= used:
        level = {"requests": level["requests"] - 1, "tokens": level["tokens"] - used}
        await asyncio.sleep(0.02)
        writer.write(b"200 %d" % used)
    else:
        writer.write(b"429 0.5")
    writer.close()
"""
"""Takes so many requests and tokens per minute, each a bucket that fills steadily; a request is "ESTIMATE USED"."""

BY_CAPACITY: str = """
import asyncio, collections, sys, time

seconds, *capacities = map(float, sys.argv[1:])
busy, waiting, began = 0, collections.deque(), None

def capacity():
    return int(capacities[int((time.perf_counter() - began) / seconds) % len(capacities)])

def hand_out():
    global busy
    while waiting and busy < capacity():
        busy += 1
        waiting.popleft().set()

async def serve(reader, writer):
    global busy, began
    await reader.readline()
    began = time.perf_counter() if began is None else began
    if len(waiting) >= capacity():
        writer.write(b"429 0.1")
    else:
        turn = asyncio.Event()
        waiting.append(turn)
        hand_out()
        await turn.wait()
        await asyncio.sleep(0.05)
        busy -= 1
        hand_out()
        writer.write(b"200 0")
    writer.close()
"""
"""Works on a number of requests at once, 50 ms each; as many more wait, and others are refused.

Its arguments are the seconds that each number holds, and the numbers, which follow each other in turn.
"""

MAIN: str = """
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@contextmanager
def serving(program: str, *arguments: float) -> Iterator[int]:
    """Run a server while the block lasts; yield its port."""
    command = [sys.executable, "-c", program + MAIN, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def ask(port: int, *numbers: int) -> tuple[int, float]:
    """Send a request; return the status, and the number that comes with it."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"%s\n" % b" ".join(b"%d" % number for number in numbers))
        answer = bytearray()
        try:
            while True:
                answer += await stream.receive()
        except anyio.EndOfStream:
            pass
    status, number = answer.split()
    return int(status), float(number)
