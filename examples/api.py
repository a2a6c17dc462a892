"""Ask an API two hundred times, no faster than it allows; some calls fail, and what can be joined is joined.

    python examples/api.py
    trioflow run examples/api.py --set calls=40

The API is part of the scenario, a service on this machine. It takes forty requests at once and a hundred per second,
and says 429 to what is more. It also has a bad moment, in which it says 429 to whoever comes, with a `Retry-After`.

- `Rate` keeps the limits that are known: the API has nothing to refuse.
- `Throttled` is for those that are not: the call that was refused waits, and so do all others; then it goes first.
- There is no temperature for every fortieth city. That call fails, and the others go on.
- Each twenty calls are joined as soon as all of them have settled, by a job that uses those that succeeded. `ref`
  passes the jobs themselves, not their results: a failed one does not keep the join from running.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio

from trioflow import Job, Pool, Rate, Scheduler, Service, ThreadJob, Throttled, ref

AT_ONCE, PER_SECOND, PER_JOIN = 40, 100, 20


def scenario(calls: int = 200) -> Scheduler:
    api = Service(serve, label="api")
    temperatures = [ThreadJob(temperature, api, city, label=f"city {city}", needs={"api": 1}) for city in range(calls)]
    groups = [temperatures[first : first + PER_JOIN] for first in range(0, calls, PER_JOIN)]
    joins = [
        Job(joined, *map(ref, group), label=f"cities {number * PER_JOIN} on", required=group)
        for number, group in enumerate(groups)
    ]
    # A little less than what the API takes at once: requests may arrive closer together than they have left.
    rate = Rate(requests=PER_SECOND, per=1, burst=AT_ONCE - 10)
    return Scheduler(
        api, *temperatures, *joins, Job(report, *joins, label="report"), pool=Pool(api=rate), jobs_window=16
    )


# ---- the calls


def temperature(address: str, city: int) -> float:
    """Return the temperature of a city; this runs in a thread."""
    try:
        with urllib.request.urlopen(f"{address}/{city}", timeout=10) as answer:
            return float(json.load(answer)["temperature"])
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 429:
                raise Throttled("api", after=float(error.headers["Retry-After"])) from None
            raise LookupError(f"the API knows no city {city}") from None


async def joined(*calls: ThreadJob[float]) -> tuple[int, float]:
    """Return the number and the sum of the temperatures that are known."""
    known = [call.result() for call in calls if call.is_succeeded()]
    return len(known), sum(known)


async def report(*joins: tuple[int, float]) -> str:
    """Return the mean of all that is known."""
    number, total = (sum(part) for part in zip(*joins, strict=True))
    return f"{number} temperatures, {total / number:.2f} on average"


# ---- the API


async def serve(*, task_status: Any) -> None:
    """Serve until the run ends; the address is the service's value."""
    with Api(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            task_status.started(f"http://127.0.0.1:{server.server_port}")
            await anyio.sleep_forever()
        finally:
            server.shutdown()
            thread.join()


class Api(ThreadingHTTPServer):
    """Counts what it is asked, and when."""

    request_queue_size = 100
    lock = threading.Lock()
    level, since, asked, refused = float(AT_ONCE), 0.0, 0, 0

    def wait(self) -> float:
        """Take a request, and return 0; or return after how many seconds to come again."""
        with self.lock:
            now = time.monotonic()
            self.level = min(AT_ONCE, self.level + (now - self.since) * PER_SECOND)
            self.since, self.asked = now, self.asked + 1
            if self.asked == PER_JOIN:  # the bad moment
                return 0.2
            if self.level < 1:
                self.refused += 1
                return (1 - self.level) / PER_SECOND
            self.level -= 1
            return 0


class Answer(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Api

    def do_GET(self) -> None:
        city, wait = int(self.path.removeprefix("/")), self.server.wait()
        status = 429 if wait else 404 if city % 40 == 13 else 200
        body = json.dumps({"temperature": city * 7 % 40} if status == 200 else {}).encode()
        with suppress(ConnectionError):  # nobody waits for it any more
            self.send_response(status)
            if wait:
                self.send_header("Retry-After", f"{wait:.3f}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--calls", type=int, default=200, help="how many cities to ask for (default: 200)")
    parser.add_argument("--backend", default="trio", choices=["trio", "asyncio"])
    arguments = parser.parse_args()
    scheduler = scenario(arguments.calls)
    done = scheduler.run(backend=arguments.backend)
    last = list(scheduler)[-1]
    if not done or not last.is_succeeded():
        scheduler.debrief()
        return 1
    print(last.result())
    print("failed:", ", ".join(sorted(job.label for job in scheduler.failures())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
