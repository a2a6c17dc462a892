"""The scenario of the README's pictures: a release is built, tested and published. Its jobs only sleep and print.

    trioflow run docs/release.py --report release.html
    trioflow graph docs/release.py -o release.svg

It takes seven seconds, or less with `--set speed=5`. One of its tests fails; an alarm reports that, and nothing is
published.
"""

from __future__ import annotations

import anyio
from anyio.abc import TaskStatus

from trioflow import Job, Scheduler, Service


def scenario(speed: float = 1.0) -> Scheduler:
    """Return the release; `speed` is how many of its seconds pass in one."""

    async def work(seconds: float, *_: object) -> None:
        await anyio.sleep(seconds / speed)

    async def fetch(seconds: float, files: int) -> None:
        await work(seconds)
        print(f"fetched {files} files")

    async def browse() -> None:
        await work(1.0)
        raise AssertionError("2 of 31 pages did not load")

    async def database(*, task_status: TaskStatus[str]) -> None:
        await work(0.4)
        task_status.started("postgresql://localhost:5433/test")
        await anyio.sleep_forever()

    async def watch() -> None:
        while True:
            await work(4)
            print("load: 0.8")

    server = Service(database, label="database")
    watcher = Job(watch, label="watch the load", forever=True)

    core = Job(fetch, 1.2, 212, label="fetch core")
    site = Job(fetch, 0.7, 96, label="fetch site")
    x86 = Job(work, 1.6, core, label="compile for x86")
    arm = Job(work, 2.1, core, label="compile for arm")
    pages = Job(work, 1.4, site, label="render the pages")
    release = Scheduler(server, watcher, site, core, label="release")
    build = Scheduler(pages, x86, arm, label="build", jobs_window=2, scheduler=release)

    browser = Job(browse, label="browser tests")
    test = Scheduler(
        Job(work, 1.2, x86, label="unit tests on x86"),
        Job(work, 1.8, arm, label="unit tests on arm"),
        Job(work, 2.5, server, label="integration tests"),
        browser,
        Job(work, 0.5, label="alert the team", required=browser, run_if="failed"),
        label="test",
        required=build,
        jobs_window=3,
        scheduler=release,
    )
    image = Job(work, 2.6, label="make the image", required=build, scheduler=release)
    Job(work, 1.5, image, label="publish", required=test, scheduler=release)
    return release
