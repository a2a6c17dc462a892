"""Make five hundred calls that cost money, to a server with limits that is slow at times and busy at others.

    python examples/paid.py
    python examples/paid.py --budget 0.1                   # ends when the money is spent
    python examples/paid.py --journal calls.db             # kill it, start it again: it goes on

The server is `mock_api.py`, in a process of its own. It allows 400 requests per second, and charges for each answer.

- `Rate`: no request comes too fast, whether it is a first call, a retry or a hedge.
- `Budget`: each call reserves the highest price, and `used()` corrects that. What cannot be paid for is not called.
- `Retry`: a busy server says how long to wait, and a call that waits holds neither money nor a connection.
- `First`: when an answer is late, the same is asked again, and whoever answers first wins.
- A journal keeps each answer, with its price: a run that was killed pays for none of them again.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import anyio

from trioflow import (
    Budget,
    First,
    Job,
    Pool,
    Rate,
    Retry,
    Scheduler,
    Service,
    current_job,
)

PER_SECOND, AT_ONCE, HIGHEST_PRICE, CONNECTIONS = (
    400,
    20,
    0.002,
    60,
)  # of the 40 at once that the server allows


class Busy(Exception):
    """The server asks to come back after some seconds."""


def scenario(
    calls: int = 500, budget: float = 0.7, port: int | None = None
) -> Scheduler:
    server = Service(serve, port, label="server")
    patient = Retry(
        5, on=lambda error: error.args[0] if isinstance(error, Busy) else False
    )
    needs = {"api": 1, "usd": HIGHEST_PRICE, "connections": 1}

    def asked(number: int, name: str) -> Job[int]:
        return Job(
            ask,
            server,
            number,
            needs=needs,
            retry=patient,
            label=name,
            key=f"{number} {name}",
        )

    answers = [
        First(
            asked(number, "asked"),
            asked(number, "hedge"),
            stagger=0.3,
            label=f"call {number}",
            required=server,
        )
        for number in range(calls)
    ]
    bill = Job(get, server, "bill", label="bill", save=None).requires(
        answers, settled=True
    )  # failed calls cost, too
    pool = Pool(
        api=Rate(requests=PER_SECOND, per=1, burst=AT_ONCE),
        usd=Budget(budget),
        connections=CONNECTIONS,
    )
    return Scheduler(server, *answers, bill, pool=pool, label="calls")


async def ask(port: int, number: int) -> int:
    """Return the server's answer, and report its price."""
    answer = await get(port, str(number))
    current_job().used(usd=answer.get("price", 0))
    if "after" in answer:
        raise Busy(answer["after"])
    return int(answer["value"])


async def get(port: int, path: str) -> dict[str, Any]:
    """Return what the server says; here, use your own client."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(f"GET /{path} HTTP/1.0\r\n\r\n".encode())
        received = b"".join([part async for part in stream])
    answer: dict[str, Any] = json.loads(received.partition(b"\r\n\r\n")[2])
    return answer


async def serve(port: int | None, *, task_status: Any) -> None:
    """Start the server, unless there is one; the port is the service's value."""
    if port is not None:
        task_status.started(port)
        await anyio.sleep_forever()
    command = [sys.executable, str(Path(__file__).with_name("mock_api.py"))]
    async with await anyio.open_process(command, stderr=None) as process:
        assert process.stdout is not None
        task_status.started(int(await process.stdout.receive()))
        try:
            await process.wait()
        finally:
            process.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--calls", type=int, default=500, help="how many calls to make (default: 500)"
    )
    parser.add_argument(
        "--budget",
        type=float,
        default=0.7,
        help="how much they may cost (default: 0.7)",
    )
    parser.add_argument("--journal", help="a file that keeps the answers")
    parser.add_argument(
        "--port", type=int, help="the port of a server that runs already"
    )
    parser.add_argument("--backend", default="trio", choices=["trio", "asyncio"])
    arguments = parser.parse_args()
    scheduler = scenario(arguments.calls, arguments.budget, arguments.port)
    scheduler.run(backend=arguments.backend, journal=arguments.journal)
    calls = [job for job in scheduler if isinstance(job, First)]
    answered = [call for call in calls if call.is_succeeded()]
    restored = [call for call in answered if call.restored]
    print(
        f"{len(answered)} of {len(calls)} calls are answered, {len(restored)} from the journal"
    )
    print(f"the server says: {list(scheduler)[-1].result(default='nothing')}")
    print(scheduler.pool)
    return 0 if len(answered) == len(calls) else 1


if __name__ == "__main__":
    sys.exit(main())
