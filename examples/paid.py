"""Make five hundred calls that cost money, to a server with limits that is slow at times and busy at others.

    python examples/paid.py
    python examples/paid.py --calls 100 --budget 0.08

The server is part of the scenario, on this machine. It allows 400 calls per second and charges for each call that it
answers. Every seventh call is told to come back later, and every twentieth takes two seconds.

- `Rate`: no call comes too fast, whether it is a first call, a retry or a hedge.
- `Budget`: each call reserves the highest price, and `used()` corrects that. What cannot be paid for is not called.
- `Retry`: a busy server says how long to wait, and a call that waits holds no connection.
- `First`: when an answer is late, the same is asked again, and whoever answers first wins.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio

from trioflow import Budget, First, Job, Pool, Rate, Retry, Scheduler, Service, current_job

PER_SECOND, AT_ONCE, HIGHEST_PRICE = 400, 40, 0.002


class Busy(Exception):
    """The server asks to come back after some seconds."""

    def __init__(self, after: float) -> None:
        super().__init__(f"come back in {after} s")
        self.after = after


def scenario(calls: int = 500, budget: float = 0.6) -> Scheduler:
    server = Service(serve, label="server")
    patient = Retry(5, on=lambda error: error.after if isinstance(error, Busy) else False)

    def asked(number: int, which: str) -> Job[Any]:
        needs = {"api": 1, "usd": HIGHEST_PRICE, "connections": 1}
        return Job(ask, server, number, label=f"{number} {which}", required=server, needs=needs, retry=patient)

    answers = [
        First(asked(number, "asked"), asked(number, "hedge"), stagger=0.3, label=f"call {number}", required=server)
        for number in range(calls)
    ]
    # A little less than what the server takes at once: calls may arrive closer together than they have left.
    rate = Rate(requests=PER_SECOND, per=1, burst=AT_ONCE // 2)
    return Scheduler(server, *answers, pool=Pool(api=rate, usd=Budget(budget), connections=60))


# ---- the calls


async def ask(port: int, number: int) -> int:
    """Return the server's answer."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(f"GET /{number} HTTP/1.0\r\n\r\n".encode())
        received = b""
        with suppress(anyio.EndOfStream):
            while True:
                received += await stream.receive()
    answer = json.loads(received.partition(b"\r\n\r\n")[2])
    current_job().used(usd=answer["price"])
    if "after" in answer:
        raise Busy(answer["after"])
    return int(answer["value"])


# ---- the server


async def serve(*, task_status: Any) -> None:
    """Serve until the run ends; the port is the service's value."""
    with Server(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            task_status.started(server.server_port)
            await anyio.sleep_forever()
        finally:
            server.shutdown()
            thread.join()


class Server(ThreadingHTTPServer):
    """Counts what it is asked, and when."""

    request_queue_size = 200
    lock = threading.Lock()
    level, since, asked, too_fast, charged = float(AT_ONCE), 0.0, 0, 0, 0.0

    def take(self) -> int:
        """Count a call, and return its number."""
        with self.lock:
            now = time.monotonic()
            self.level = min(AT_ONCE, self.level + (now - self.since) * PER_SECOND) - 1
            self.since, self.asked = now, self.asked + 1
            self.too_fast += self.level < 0
            return self.asked

    def charge(self) -> float:
        with self.lock:
            self.charged += HIGHEST_PRICE / 2
        return HIGHEST_PRICE / 2


class Answer(BaseHTTPRequestHandler):
    """Answers one call."""

    server: Server

    def do_GET(self) -> None:
        order = self.server.take()
        if order % 7 == 0:
            answer: dict[str, Any] = {"price": 0, "after": 0.2}
        else:
            time.sleep(2 if order % 20 == 0 else 0.02)
            answer = {"price": self.server.charge(), "value": int(self.path.removeprefix("/")) ** 2}
        with suppress(ConnectionError):  # nobody waits for it any more
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=500, help="how many calls to make (default: 500)")
    parser.add_argument("--budget", type=float, default=0.6, help="how much they may cost (default: 0.6)")
    parser.add_argument("--backend", default="trio", choices=["trio", "asyncio"])
    arguments = parser.parse_args()
    scheduler = scenario(arguments.calls, arguments.budget)
    scheduler.run(backend=arguments.backend)
    calls = [job for job in scheduler if isinstance(job, First)]
    answered = [call for call in calls if call.is_succeeded()]
    print(f"{len(answered)} of {len(calls)} calls are answered")
    print(scheduler.pool)
    return 0 if len(answered) == len(calls) else 1


if __name__ == "__main__":
    sys.exit(main())
