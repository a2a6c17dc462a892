"""Scenarios and helpers shared by the tests of a trace's exports."""

import functools
from typing import Any
from xml.etree import ElementTree as Tree
import anyio
from trioflow import AbstractJob, Job, Scheduler, Service, Trace, current_job
from ...bodies import fail, flaky, nap, serve
from ...conftest import Virtual

NASTY = [
    "</script><script>document.title = 'pwned'</script>", "<img src=x onerror=\"document.title = 'pwned'\">",
    "quotes \" ' ` and \\ backslash", "&amp; entities &lt;b&gt; & more", "control \x00 \x1b[31m \r\n \t characters",
    "]]> <!-- --> ${title} $title {{x}}", "漢字 and ünïcode \u202e \ud800", "", "long " * 60,
]  # fmt: skip
"""Labels that pages and pictures must show as plain text."""


class Closing(AbstractJob[None]):
    """A job whose shutdown fails."""

    async def co_run(self) -> None:
        await anyio.sleep(1)

    async def co_shutdown(self) -> None:
        raise OSError("no route")


async def stop(method: str) -> None:
    """Call this method of the scheduler after a second: `drain` or `cancel`."""
    await anyio.sleep(1)
    getattr(current_job().scheduler, method)()


def everything(**options: Any) -> Scheduler:
    """Return some 40 jobs: a window, retries, a service, nesting, and each outcome."""
    fetch: list[Job[Any]] = [
        Job(nap, 2 + 5 * number % 7, label=f"fetch {number}") for number in range(12)
    ]
    reset = functools.partial(ConnectionError, "reset")
    fetch[3] = Job(flaky(2, error=reset), label="fetch 3", retry=3)
    fetch[5] = Job(fail, 4, label="fetch 5")
    parse = [
        Job(nap, 1 + number % 3, label=f"parse {number}", required=fetch[number])
        for number in range(12)
    ]
    parse[5].run_if = "settled"
    database = Service(serve, 3, "address", label="database")
    watch = Job(anyio.sleep_forever, label="watch", forever=True)
    tests = Scheduler(
        *(Job(nap, 2, label=f"test {number}") for number in range(4)),
        label="tests",
        jobs_window=2,
    )
    part = Job(flaky(error=reset), label="part", critical=True)
    broken = Scheduler(part, Job(nap, 3, label="other"), label="broken", retry=1)
    build = Scheduler(
        compiled := Job(nap, 4, label="compile"),
        tests.requires(compiled),
        broken,
        label="build",
    )
    blocked = Job(nap, 1, fetch[5], label="uses 5")
    load = Job(nap, 6, database, label="load", required=parse)
    alarm = Job(nap, label="alarm", run_if="failed", required=load)
    slow = Job(nap, 90, label="slow", timeout=7)
    options = {"jobs_window": 5, "label": "everything", **options}
    return Scheduler(
        database,
        watch,
        *fetch,
        *parse,
        build,
        blocked,
        load,
        alarm,
        slow,
        Closing(label="c"),
        **options,
    )


def traced(virtual: Virtual, scheduler: Scheduler, **options: Any) -> Trace:
    trace = Trace()
    virtual(functools.partial(scheduler.co_run, instruments=[trace], **options))
    return trace


SVG = "{http://www.w3.org/2000/svg}"


def find_by_class(picture: Tree.Element, css: str) -> list[Tree.Element]:
    """Return the elements of a picture that have all these CSS classes, separated by blanks."""
    return [
        one
        for one in picture.iter()
        if set(css.split()) <= set(one.get("class", "").split())
    ]


def texts(picture: Tree.Element) -> list[str]:
    return [one.text or "" for one in picture.iter(f"{SVG}text")]
