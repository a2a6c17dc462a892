"""Real servers of Debian as services: PostgreSQL, which refuses root, and Redis."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from trioflow import CommandJob, CommandService, CommandSucceeds, JobState, OutputLine, Scheduler, Sequence

BIN = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/nowhere"))
AS_OTHER = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.geteuid() == 0 else []


@pytest.fixture
def place() -> Any:
    """Return a folder that the servers' user may write to, with a path short enough for a socket."""
    path = Path(f"/tmp/trioflow-server-{os.getpid()}")
    path.mkdir()
    if AS_OTHER:
        shutil.chown(path, "postgres", "postgres")
    yield path
    shutil.rmtree(path)


def postgres(place: Path, **options: Any) -> tuple[CommandJob, CommandService, list[Any]]:
    """Return a job that creates a cluster, a server that listens only on a socket, and the first words of a client."""
    data = place / "data"
    make = CommandJob([*AS_OTHER, BIN / "initdb", "-D", data, "-A", "trust", "-U", "me", "--no-sync"],
                      stdout=subprocess.DEVNULL, label="initdb")  # fmt: skip
    server = CommandService(
        [*AS_OTHER, BIN / "postgres", "-D", data, "-k", place, "-c", "listen_addresses=", "-c", "fsync=off"],
        required=make, timeout=40, stderr=place / "log", label="postgres", **options,
    )  # fmt: skip
    return make, server, ["psql", "-h", place, "-U", "me", "-d", "postgres", "-tAc"]


@pytest.mark.skipif(not BIN.exists(), reason="PostgreSQL is not installed")
@pytest.mark.parametrize("backend", ["asyncio"])  # the next test uses the other one: to create a cluster takes a second
def test_postgresql_serves_and_ends_in_order(place: Path, backend: Any) -> None:
    """PostgreSQL as a service is ready when it answers, and shuts down in order after the last query."""
    make, server, psql = postgres(place, ready=CommandSucceeds([BIN / "pg_isready", "-q", "-h", place]))
    query = Sequence(
        CommandJob([*psql, "create table t (n int); insert into t values (20), (22)"], stdout=subprocess.DEVNULL),
        CommandJob([*psql, "select sum(n) from t"], stdout=subprocess.PIPE, label="sum"),
        required=server,
    )
    scheduler = Scheduler(make, server, query)
    assert scheduler.run(backend=backend), scheduler.debrief()
    (result,) = [job.result() for job in scheduler if job.label == "sum"]
    assert result.text == "42\n"
    assert server.state is JobState.SUCCEEDED
    assert "database system is shut down" in (place / "log").read_text()


@pytest.mark.skipif(not BIN.exists(), reason="PostgreSQL is not installed")
@pytest.mark.parametrize("backend", ["trio"])
def test_a_postgresql_server_that_dies_stops_the_run_at_once(place: Path, backend: Any) -> None:
    """When a critical PostgreSQL server dies, jobs that use it are cancelled, and the error quotes its log."""
    make, server, _ = postgres(place, ready=OutputLine("ready to accept connections"), critical=True)
    kill = CommandJob(f"kill -QUIT $(head -1 {place}/data/postmaster.pid)", shell=True, required=server)
    work = CommandJob(["sleep", "1000"], required=server)
    assert not Scheduler(make, server, kill, work).run(backend=backend)
    assert work.state is JobState.CANCELLED
    assert "while it was in use" in str(server.raised_exception())
    assert "immediate shutdown" in str(server.raised_exception())


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="Redis is not installed")
def test_redis_serves_on_a_socket(place: Path, backend: Any) -> None:
    """Redis as a service is ready when its socket accepts connections, and shuts down in order."""
    path = place / "redis.sock"
    server = CommandService(
        ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--dir", place],
        ready=path, timeout=40, stdout=place / "redis.log", label="redis",
    )  # fmt: skip
    put = CommandJob(["redis-cli", "-s", path, "set", "k", "42"], required=server, stdout=subprocess.DEVNULL)
    get = CommandJob(["redis-cli", "-s", path, "get", "k"], required=put, stdout=subprocess.PIPE)
    assert Scheduler(server, put, get).run(backend=backend)
    assert get.result().text == "42\n"
    assert "bye bye" in (place / "redis.log").read_text()
