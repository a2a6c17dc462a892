"""Pages of runs in progress: their server in this process, and a program whose run one shows."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from trioflow.view.look._page import Page, PageServer

ROOT = Path(__file__).parents[3]
PROGRAM = """
import anyio, sys
from trioflow import Job, Scheduler
async def work():
    print("works", flush=True)
    await anyio.to_thread.run_sync(sys.stdin.readline)
    raise OSError("broken")
Scheduler(Job(work, label="work"), label="night").run()
"""


@contextmanager
def program() -> Iterator[tuple[subprocess.Popen[bytes], Page]]:
    """Run PROGRAM, which ends with a failure after a line of input, and return it with its page."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRIOFLOW_LOOK": "1"}
    words = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(
        words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"works\n"
            page = Page(process.pid, None)
            page.ask()
            yield process, page
        finally:
            process.kill()


@contextmanager
def serving(page: Page | None = None) -> Iterator[PageServer]:
    """Serve a page, by default that of the run of this process, which a job has begun."""
    if page is None:
        page = Page(os.getpid(), None)
        page.ask()
    with PageServer(page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
