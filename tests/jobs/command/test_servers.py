"""Real servers of Debian as services: PostgreSQL, which refuses root, and Redis."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trioflow import CommandJob, JobState, OutputLine, Scheduler, Sequence

from ...servers import folder_of_server, initdb, needs_postgres, needs_redis, postgres, redis


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a folder for the data, the log and the socket of a server."""
    with folder_of_server() as folder:
        yield folder


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with the data of PostgreSQL: to create them takes a second of a core."""
    with folder_of_server() as folder:
        Scheduler(initdb(folder)).run(check=True)
        yield folder


@needs_postgres
@pytest.mark.parametrize("backend", ["asyncio"])
def test_postgresql_serves_and_ends_in_order(cluster: Path, backend: Any) -> None:
    """PostgreSQL as a service is ready when it answers, and shuts down in order after the last query."""
    server = postgres(cluster)
    psql = ["psql", "-h", cluster, "-U", "me", "-d", "postgres", "-tAc"]
    query = Sequence(
        CommandJob([*psql, "create table t (n int); insert into t values (20), (22)"], stdout=subprocess.DEVNULL),
        CommandJob([*psql, "select sum(n) from t"], stdout=subprocess.PIPE, label="sum"),
        required=server,
    )
    scheduler = Scheduler(server, query)
    assert scheduler.run(backend=backend), scheduler.debrief()
    (result,) = [job.result() for job in scheduler if job.label == "sum"]
    assert result.text == "42\n"
    assert server.state is JobState.SUCCEEDED
    assert "database system is shut down" in (cluster / "log").read_text()


@needs_postgres
@pytest.mark.parametrize("backend", ["trio"])
def test_a_postgresql_server_that_dies_stops_the_run_at_once(cluster: Path, backend: Any) -> None:
    """When a critical PostgreSQL server dies, jobs that use it are cancelled, and the error quotes its log."""
    server = postgres(cluster, ready=OutputLine("ready to accept connections"), critical=True)
    kill = CommandJob(f"kill -QUIT $(head -1 {cluster}/data/postmaster.pid)", shell=True, required=server)
    work = CommandJob(["sleep", "1000"], required=server)
    assert not Scheduler(server, kill, work).run(backend=backend)
    assert work.state is JobState.CANCELLED
    assert "while it was in use" in str(server.raised_exception())
    assert "immediate shutdown" in str(server.raised_exception())


@needs_redis
def test_redis_serves_on_a_socket(place: Path, backend: Any) -> None:
    """Redis as a service is ready when its socket accepts connections, and shuts down in order."""
    server, path = redis(place), place / "redis.sock"
    put = CommandJob(["redis-cli", "-s", path, "set", "k", "42"], required=server, stdout=subprocess.DEVNULL)
    get = CommandJob(["redis-cli", "-s", path, "get", "k"], required=put, stdout=subprocess.PIPE)
    assert Scheduler(server, put, get).run(backend=backend)
    assert get.result().text == "42\n"
    assert "bye bye" in (place / "redis.log").read_text()
