"""A FastAPI app under uvicorn whose clients leave: it counts what has begun, and what is under way.

Each path ends in a name, under which a test asks for the counts of its own requests.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

from trioflow import Job, Scheduler

app = FastAPI()
begun: Counter[str] = Counter()
under_way: Counter[str] = Counter()
most: Counter[str] = Counter()


@app.get("/counts/{name}")
async def counts(name: str) -> dict[str, int]:
    return {"begun": begun[name], "under way": under_way[name], "most": most[name]}


def begin(name: str) -> None:
    begun[name] += 1
    under_way[name] += 1
    most[name] = max(most[name], under_way[name])


@contextlib.contextmanager
def counted(name: str) -> Iterator[None]:
    begin(name)
    try:
        yield
    finally:
        under_way[name] -= 1


@app.get("/short/{name}")
async def short(name: str) -> str:
    with counted(name):
        await asyncio.sleep(0)
        return "here it is"


@app.get("/stream/{name}")
async def stream(name: str) -> StreamingResponse:
    """Send lines without end."""

    async def lines() -> AsyncIterator[str]:
        with counted(name):
            while True:
                yield "line\n"
                await asyncio.sleep(0.01)

    return StreamingResponse(lines())


@app.get("/page/{name}")
async def page(name: str, request: Request) -> str:
    """Work in jobs that do not end, until the client leaves."""

    async def part() -> None:
        begin(name)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            under_way[name] -= 1

    async def cancel_when_gone() -> None:
        while not await request.is_disconnected():  # noqa: ASYNC110  # there is no event for it
            await asyncio.sleep(0.01)
        scheduler.cancel()

    scheduler = Scheduler([Job(part) for _ in range(3)], jobs_window=2)
    scheduler.add(Job(cancel_when_gone, forever=True))
    await scheduler.co_run()
    return "too late"


@app.websocket("/echo/{name}")
async def echo(name: str, websocket: WebSocket) -> None:
    await websocket.accept()
    with counted(name):
        async for message in websocket.iter_text():
            await websocket.send_text(message)
