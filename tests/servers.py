"""Real servers of Debian for tests, as services: PostgreSQL, which refuses root, and Redis; both on sockets alone."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
import pytest
from anyio.from_thread import start_blocking_portal
from trioflow import CommandJob, CommandService, CommandSucceeds, Job, Scheduler
from trioflow.abc import AbstractJob
from .bodies import nothing
from .places import PATIENCE

BIN = next(
    iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)),
    Path("/nowhere"),
)
"""The folder of PostgreSQL's programs, which are not on Debian's PATH."""
AS_OTHER = (
    ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    if os.geteuid() == 0
    else []
)

needs_postgres = pytest.mark.skipif(
    not BIN.exists(), reason="PostgreSQL is not installed"
)
needs_redis = pytest.mark.skipif(
    shutil.which("redis-server") is None, reason="Redis is not installed"
)


@contextlib.contextmanager
def folder_of_server() -> Iterator[Path]:
    """Provide a folder that the servers' user may write to, with a path short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="trioflow-", dir="/tmp"))
    if AS_OTHER:
        shutil.chown(path, "postgres", "postgres")
    try:
        yield path
    finally:
        shutil.rmtree(path)


def initdb(folder: Path) -> CommandJob:
    return CommandJob([*AS_OTHER, BIN / "initdb", "-D", folder / "data", "-A", "trust", "-U", "me", "--no-sync"],
                      stdout=subprocess.DEVNULL, label="initdb")  # fmt: skip


def postgres(folder: Path, **options: Any) -> CommandService:
    """Return the server of the cluster in this folder, which listens only on a socket there."""
    settings = ["-c", "listen_addresses=", "-c", "fsync=off"]
    return CommandService(
        [*AS_OTHER, BIN / "postgres", "-D", folder / "data", "-k", folder, *settings],
        ready=CommandSucceeds([BIN / "pg_isready", "-q", "-h", folder]),
        timeout=PATIENCE, stderr=folder / "log", label="postgres", **options,
    )  # fmt: skip


def redis(folder: Path) -> CommandService:
    """Return a Redis server that listens only on the socket `redis.sock` in this folder."""
    socket = folder / "redis.sock"
    return CommandService(
        ["redis-server", "--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder],
        ready=socket, timeout=PATIENCE, stdout=folder / "redis.log", label="redis",
    )  # fmt: skip


@contextlib.contextmanager
def serving(*jobs: AbstractJob) -> Iterator[None]:
    """Keep servers up for tests on any loop: they are services of a run in a thread of its own."""

    @contextlib.asynccontextmanager
    async def served() -> AsyncIterator[None]:
        async with Scheduler(*jobs) as scheduler:
            await scheduler.add(
                Job(nothing, required=jobs, run_if="succeeded", label="all are ready")
            )
            yield

    with (
        start_blocking_portal("trio") as portal,
        portal.wrap_async_context_manager(served()),
    ):
        yield
