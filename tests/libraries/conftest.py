"""Servers for the tests of a file."""

import asyncio
from collections.abc import Iterator
import pytest
from ..servers import folder_of_server, initdb, postgres, redis, serving


@pytest.fixture(scope="module")
def postgres_server() -> Iterator[str]:
    """Return the address of a PostgreSQL server."""
    with (
        folder_of_server() as folder,
        serving(make := initdb(folder), postgres(folder, required=make)),
    ):
        yield f"postgresql://me@/postgres?host={folder}"


@pytest.fixture
def dsn(postgres_server: str) -> Iterator[str]:
    """Return the address of a PostgreSQL server that has no other clients."""
    import asyncpg  # not in each process that collects the tests: it takes long

    async def end_others() -> None:  # a test that failed may have left some
        connection = await asyncpg.connect(postgres_server)
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
        )
        await connection.close()

    yield postgres_server
    asyncio.run(end_others())


@pytest.fixture(scope="module")
def redis_socket() -> Iterator[str]:
    with folder_of_server() as folder, serving(redis(folder)):
        yield str(folder / "redis.sock")
