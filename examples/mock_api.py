"""A server that has limits, is busy and slow at times, and charges for each answer: the other side of `paid.py`.

    python examples/mock_api.py

It prints its port. `GET /NUMBER` is answered with the square of the number, for 0.001; every seventh request is told to
come back in 0.2 s, and every twentieth takes two seconds. `GET /bill` says what it has seen: how many requests, how
many of them came too fast, what was charged, and how many numbers were charged more than once.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PER_SECOND, AT_ONCE, PRICE = 400, 40, 0.001


class Server(ThreadingHTTPServer):
    request_queue_size = 500
    lock = threading.Lock()
    level, since, requests, too_fast = float(AT_ONCE), 0.0, 0, 0

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.charged: Counter[int] = Counter()

    def take(self) -> int:
        """Count a request, and return its number."""
        with self.lock:
            now = time.monotonic()
            self.level = min(AT_ONCE, self.level + (now - self.since) * PER_SECOND) - 1
            self.since, self.requests = now, self.requests + 1
            self.too_fast += self.level < 0
            return self.requests

    def answer(self, number: int) -> dict[str, Any]:
        order = self.take()
        if order % 7 == 0:
            return {"after": 0.2}
        time.sleep(2 if order % 20 == 0 else 0.02)
        with self.lock:
            self.charged[number] += 1
        return {"value": number**2, "price": PRICE}

    def bill(self) -> dict[str, Any]:
        with self.lock:
            twice = sum(count > 1 for count in self.charged.values())
            charged = round(self.charged.total() * PRICE, 6)
            return {
                "requests": self.requests,
                "too_fast": self.too_fast,
                "charged": charged,
                "twice": twice,
            }


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        asked = self.path.removeprefix("/")
        answer = (
            self.server.bill() if asked == "bill" else self.server.answer(int(asked))
        )
        with suppress(ConnectionError):  # nobody waits for it any more
            self.send_response(429 if "after" in answer else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

    def log_message(self, format: str, *args: object) -> None: ...


if __name__ == "__main__":
    with Server() as server:
        print(server.server_port, flush=True)
        with suppress(KeyboardInterrupt):
            server.serve_forever(0.01)
