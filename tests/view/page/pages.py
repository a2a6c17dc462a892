"""Pages of runs in progress: their server in this process, and a program whose run one shows."""

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from trioflow.view.look._page import Page, PageServer
from ...pythons import Python

PROGRAM = """
import anyio, sys
from trioflow import Job, Scheduler
from trioflow.view.look import _answers
async def work():
    print("works", flush=True)
    await anyio.to_thread.run_sync(sys.stdin.readline)
    _answers.WATCH_INTERVAL = 60.0  # at its end, it waits so long for its page
    raise OSError("broken")
Scheduler(Job(work, label="work"), label="night").run()
"""


@contextmanager
def program() -> Iterator[tuple[subprocess.Popen[bytes], Page]]:
    """Run PROGRAM, which ends with a failure after a line of input, and return it with its page."""
    code = f"import trioflow.look\ntrioflow.look.enable()\n{PROGRAM}"
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with Python(["-c", code], **pipes) as process:
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
