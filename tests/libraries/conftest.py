"""Servers for the tests of a file, and both ways to run functions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..servers import folder_of_server, initdb, postgres, redis, serving
from .ways import AsJobs, ByHand, Way


@pytest.fixture(params=[AsJobs, pytest.param(ByHand, marks=pytest.mark.soak)], ids=["as jobs", "by hand"])
def way(request: pytest.FixtureRequest) -> Way:
    """Run functions as jobs, and by hand, which runs nothing of trioflow: it tells whether a library is to blame."""
    made: Way = request.param()
    return made


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    """Return the address of a PostgreSQL server."""
    with folder_of_server() as folder, serving(make := initdb(folder), postgres(folder, required=make)):
        yield f"postgresql://me@/postgres?host={folder}"


@pytest.fixture
def dsn(postgres_server: str) -> Iterator[str]:
    """Return the address of a PostgreSQL server that has no other clients."""
    import psycopg  # not in each process that collects the tests: it takes long

    yield postgres_server
    with psycopg.connect(postgres_server) as connection:  # a test that failed may have left some
        connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")


@pytest.fixture(scope="module")
def redis_socket() -> Iterator[str]:
    """Return the socket of a Redis server."""
    with folder_of_server() as folder, serving(redis(folder)):
        yield str(folder / "redis.sock")
