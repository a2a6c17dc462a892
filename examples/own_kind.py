"""Define a kind of job of your own: statements of SQL, which share one connection to their database.

    python examples/own_kind.py
    trioflow run examples/own_kind.py --set towns=20

The kind is the class `SqlJob`. Like every kind it is a subclass of `AbstractJob`:

- It passes the options of every job on, so a timeout, `retry` or `critical` works for it too.
- It does its work in `co_run`. What that returns is the job's result; what it raises makes the job fail.
- It gives back what its jobs share in `co_shutdown`. Each run calls that once for each job, whether it ran or not.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import threading
from typing import Any

import anyio.to_thread

from trioflow import AbstractJob, Scheduler


class SqlJob(AbstractJob[list[Any]]):
    """One SQL statement, executed in a worker thread; its result is the list of rows.

    Args:
        database: the database, shared by its jobs.
        statement: the statement, which is also the default label.
        parameters: the values of the statement's question marks.
        options: those of every job.

    """

    def __init__(self, database: Database, statement: str, *parameters: Any, **options: Any) -> None:
        self.database, self.statement, self.parameters = database, statement, parameters
        super().__init__(**{"label": statement, **options})

    async def co_run(self) -> list[Any]:
        """Execute the statement."""
        return await anyio.to_thread.run_sync(self.database.execute, self.statement, self.parameters)

    async def co_shutdown(self) -> None:
        """Close the connection; the first job of the database that is shut down does it for all."""
        self.database.close()


class Database:
    """A file with one connection, which is opened when it is first needed. Its statements run one at a time."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.connection: sqlite3.Connection | None = None
        self.lock = threading.Lock()

    def execute(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        with self.lock:
            if self.connection is None:
                self.connection = sqlite3.connect(self.path, check_same_thread=False)
            with self.connection:  # a transaction
                return self.connection.execute(statement, parameters).fetchall()

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


def scenario(towns: int = 5) -> Scheduler:
    """Return a scenario that fills a table and then adds up a column."""
    database = Database(":memory:")
    create = SqlJob(database, "create table town (name text, people integer)", critical=True)
    insert = [
        SqlJob(database, "insert into town values (?, ?)", f"town {n}", 1000 * n, label=f"town {n}", required=create)
        for n in range(1, towns + 1)
    ]
    total = SqlJob(database, "select count(*), sum(people) from town", label="total", required=insert, timeout=10)
    return Scheduler(create, *insert, total, jobs_window=4)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--towns", type=int, default=5, help="rows to insert (default: 5)")
    parser.add_argument("--backend", default="trio", choices=["trio", "asyncio"])
    arguments = parser.parse_args()
    scheduler = scenario(arguments.towns)
    done = scheduler.run(backend=arguments.backend)
    scheduler.list(details=True)
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
