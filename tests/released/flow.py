"""The scenario whose journal `run.db.gz` a program of format 5 has written, in the directory of the journal.

The first run timed out, the second was answered, and killed while "late" was writing: `late.sh` slept in the middle."""

import dataclasses
import datetime
import enum
from pathlib import Path
from typing import Any
import trioflow as t
from trioflow import Job


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: float
    y: Color


VALUES: list[Any] = [
    1, 2.5, None, "é\0\udcff", b"\xff", (1, [2, {3}]), Point(0.1, Color.RED), {1: "one"}, Path("a/b"),
    datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC), "long" * 300_000,
]  # fmt: skip


async def give(number: int) -> Any:
    return VALUES[number]


async def add(*terms: float) -> float:
    return sum(terms)


async def spend() -> int:
    t.current_job().used(usd=2)
    return 2


async def copy_file(source: str, target: str) -> int:
    return Path(target).write_bytes(Path(source).read_bytes())  # noqa: ASYNC240 - it is never called


async def name_of(job: t.AbstractJob[Any]) -> str:
    return job.label


def times_two(number: int) -> int:
    return 2 * number


def dump(value: object) -> bytes:
    return repr(value).encode()


def load(data: bytes) -> object:
    return int(data)


async def fail() -> None:
    raise ValueError("no")


def flow() -> t.Scheduler:
    given = [Job(give, number, label=f"give {number}") for number in range(len(VALUES))]
    one, two = given[:2]
    thread = t.ThreadJob(times_two, one, label="thread")
    group = t.Scheduler(
        t.Sequence(Job(add, one, two, label="sum"), t.CommandJob(["echo", "group"], label="echo")),
        label="group", required=thread,
    )  # fmt: skip
    failing = Job(fail, label="fails", critical=False)
    before = Job(add, 9, label="before late")
    return t.Scheduler(
        given, thread, group, failing, before,
        t.ProcessJob(times_two, 21, label="process"),
        t.CommandJob(["cat", "in"], stdin="in", stdout="out", label="files"),
        t.CommandJob(["sh", "-c", "echo twice; exit 3"], check=(3,), label="code"),
        Job(copy_file, "in", "copy", reads="in", writes="copy", label="copies"),
        Job(add, 1, version=2, save="pickle", label="pickle"),
        Job(add, 7, save=(dump, load), label="own"),
        Job(add, 8, key="a key", retry=2, label="keyed"),
        Job(name_of, t.ref(one), label="ref"),
        Job(spend, needs={"usd": 3}, label="spends"),
        t.First(Job(add, 1, label="a"), Job(add, 1, label="b"), label="first"),
        t.Answer("deploy?", choices=["yes", "no"], label="deploy"),
        Job(add, 5, required=failing, label="after it"),
        Job(add, 6, required=failing, run_if="failed", label="alarm"),
        t.CommandJob(["sh", "late.sh"], writes="late", label="late", required=before),
        pool=t.Pool(usd=t.Budget(9)), label="flow",
    )  # fmt: skip
