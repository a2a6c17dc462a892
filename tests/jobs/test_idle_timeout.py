"""Signs of life that come while the event loop is blocked."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import anyio
from trioflow import CommandJob, Job, LocalNode, ProcessJob, Scheduler, SshJob, ThreadJob
from ..places import patiently
from .posix.process_trees import until_there
from .process.process_bodies import give_signs

SIGNS = """
    echo begun; touch {0}/begun-{1}; while ! test -e {0}/held; do sleep 0.02; done
    echo sign; touch {0}/sign-{1}; while ! test -e {0}/end; do sleep 0.02; done
"""


@patiently(0.5, 5, 50)
def test_signs_of_life_while_the_loop_is_blocked_prevent_the_timeout(backend: str, tmp_path: Path, unit: float) -> None:
    async def keep_alive(until: Callable[[], bool]) -> None:
        """Prevent other idle timeouts: to begin and to end may take long on a busy machine."""
        while not until():
            for job in jobs:
                if job.is_running():
                    job.progress()
            await anyio.sleep(0.02)

    async def hold() -> None:
        await keep_alive(lambda: all((tmp_path / f"begun-{name}").exists() for name in names))
        time.sleep(unit * 1.2)  # noqa: ASYNC251 - to hold the loop
        (tmp_path / "held").touch()
        for name in names:
            until_there(tmp_path / f"sign-{name}")

    async def end() -> None:
        await anyio.sleep(unit / 10)
        (tmp_path / "end").touch()
        await keep_alive(lambda: not any(job.is_running() for job in jobs))

    pipe = subprocess.PIPE
    jobs = [
        ThreadJob(give_signs, tmp_path, "thread", idle_timeout=unit),
        ProcessJob(give_signs, tmp_path, "process", idle_timeout=unit),
        CommandJob(SIGNS.format(tmp_path, "command"), shell=True, stdout=pipe, idle_timeout=unit),
        SshJob(LocalNode(), SIGNS.format(tmp_path, "node"), stdout=pipe, idle_timeout=unit),
    ]
    names = ["thread", "process", "command", "node"]
    holder = Job(hold)
    Scheduler(*jobs, holder, Job(end, required=holder)).run(backend=backend)
    assert [job.raised_exception() for job in jobs] == [None] * 4
