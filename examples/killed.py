"""A batch of calls to an API is killed three times, and finishes. Only calls at the moment of a kill are paid twice.

    python examples/killed.py [--calls N] [--kills N]

This program serves the API, on the loopback interface, and counts the calls. It starts the batch as a process of its
own, kills it with SIGKILL after a while, starts it again, and so on. Each time the batch goes on from its journal. At
the end the journal tells what became of the jobs, and the counts tell which calls were made twice: at most those that
were under way when the process was killed, and those whose answers came in its last turn of the event loop, after which
the journal would have been written.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from trioflow import Job, Scheduler, ThreadJob

AT_ONCE = 8


# ---- the batch, in a process of its own


def call(address: str, number: int) -> dict[str, int]:
    """Ask the API for one answer, which is slow and expensive."""
    with urllib.request.urlopen(f"{address}/square/{number}") as answer:
        found: dict[str, int] = json.load(answer)
    return found


async def total(answers: list[dict[str, int]]) -> int:
    return sum(answer["square"] for answer in answers)


def batch(address: str, calls: int) -> tuple[Scheduler, Job[int]]:
    # The port of the API is another one each time, and does not matter: `key` says what does.
    answers = [
        ThreadJob(call, address, n, label=f"call {n}", key=n, retry=2)
        for n in range(calls)
    ]
    last = Job(total, answers, label="total")
    return Scheduler(last, jobs_window=AT_ONCE), last


def run_batch(address: str, calls: int, journal: str) -> None:
    scheduler, last = batch(address, calls)
    scheduler.run(journal=journal, check=True)
    restored = sum(job.restored for job in scheduler)
    print(
        f"the sum of {calls} squares is {last.result()}; {restored} of {len(scheduler)} jobs came from the journal"
    )


# ---- the API, and who kills the batch


class Api(BaseHTTPRequestHandler):
    calls: ClassVar[collections.Counter[str]] = collections.Counter()

    def do_GET(self) -> None:
        self.calls[self.path] += 1
        time.sleep(0.02)
        number = int(self.path.rpartition("/")[2])
        body = json.dumps({"square": number * number}).encode()
        try:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            pass  # whoever asked has been killed

    def log_message(self, format: str, *args: Any) -> None: ...


def kill_and_resume(calls: int, kills: int, journal: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    command = [
        sys.executable,
        __file__,
        "--batch",
        address,
        "--calls",
        str(calls),
        "--journal",
        journal,
    ]
    for kill in range(1, kills + 1):
        enough = calls * kill // (kills + 1)
        process = subprocess.Popen(command)
        while len(Api.calls) < enough and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        process.wait()
        print(f"killed after {len(Api.calls)} of {calls} calls", flush=True)
    subprocess.run(command, check=True)
    twice = sum(count > 1 for count in Api.calls.values())
    print(
        f"{calls} calls were needed, {Api.calls.total()} were made, {twice} of them twice",
        flush=True,
    )
    assert (
        twice <= kills * 2 * AT_ONCE
    )  # as many may be under way, and as many answers may come in one turn
    server.shutdown()
    server.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--calls",
        type=int,
        default=200,
        metavar="N",
        help="how many calls the batch makes",
    )
    parser.add_argument(
        "--kills", type=int, default=3, metavar="N", help="how often it is killed"
    )
    parser.add_argument("--journal", help=argparse.SUPPRESS)
    parser.add_argument("--batch", metavar="ADDRESS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch is not None:
        run_batch(options.batch, options.calls, options.journal)
        return
    with tempfile.TemporaryDirectory() as directory:
        journal = str(Path(directory) / "run.db")
        kill_and_resume(options.calls, options.kills, journal)
        listing = subprocess.run(
            [sys.executable, "-m", "trioflow", "journal", journal],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        print(
            "\n$ trioflow journal run.db", *listing[:3], "...", *listing[-2:], sep="\n"
        )


if __name__ == "__main__":
    main()
