"""A FastAPI app whose clients leave: it counts, by a name in the path of each request, what is under way."""

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


@contextlib.contextmanager
def counted(name: str) -> Iterator[None]:
    begun[name] += 1
    under_way[name] += 1
    try:
        yield
    finally:
        under_way[name] -= 1


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
        with counted(name):
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)

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
