"""Whole pictures of a rich run, in terminals of many sizes: `pictures.txt` has each of them, as it must be."""

from pathlib import Path
from typing import Any
import anyio
import pytest
from trioflow import First, Job, Pool, Retry, Scheduler, Service
from trioflow.view.monitor._picture_renderer import PictureRenderer
from trioflow.view.monitor._records import StyledLine
from trioflow.view.text._symbols import Symbols
from ...bodies import fail, flaky, nap
from ...conftest import Virtual
from .monitors import Terminal, serve, watched

PICTURES = Path(__file__).with_name("pictures.txt")
FIRST_SIZES = [
    (80, height) for height in (45, 35, 34, 20, 14, 11, 10, 9, 6, 5, 4, 3, 1)
]
SIZES = [
    *FIRST_SIZES,
    *((columns, 10) for columns in (120, 60, 41, 40, 39, 30, 20, 10)),
]


def rich_run() -> tuple[Scheduler, Any]:
    """Return a run with jobs in all states, groups, kinds of failures, services, and jobs that wait."""
    alpha = Scheduler(
        Job(nap, 1, label="a1"),
        Job(fail, 1, KeyError("k"), label="a2"),
        Job(nap, 9, label="a3"),
        Job(nap, 1, label="a4"),
        label="alpha",
    )
    beta = Scheduler(
        [Job(nap, 8, label=f"b{n}") for n in (1, 2, 3)], jobs_window=1, label="beta"
    )
    side = Scheduler(Job(nap, 9, label="s1"), label="side", forever=True)
    retry = Retry(2, first=4, jitter=False)
    return watched(
        alpha,
        beta,
        Scheduler(Job(nap, 8, label="c1"), label="gamma", required=alpha),
        Scheduler(Job(nap, 1, label="d1"), label="delta"),
        First(Job(nap, 7, label="r1"), Job(nap, 8, label="r2"), label="race"),
        side,
        [Job(fail, 1, OSError(f"no {n}"), label=f"bad {n}") for n in range(3)],
        [Job(fail, 1, ValueError("v\nw"), label=f"optional {n}", critical=False) for n in range(2)],
        Job(nap, 20, label="slow", expected_duration=2.0),
        Job(nap, 20, label="late", expected_duration=1.0),
        [Job(nap, 6, label=f"need {n}", needs={"gpu": 1}) for n in range(3)],
        Service(serve, 1, label="web"),
        Service(serve, 50, label="db"),
        Job(flaky(), label="again", retry=1),
        Job(flaky(), label="soon", retry=retry),
        Job(nap, 9, label="long", timeout=3, on_timeout="move_on"),
        pool=Pool(gpu=1),
    )  # fmt: skip


def plain(picture: list[StyledLine]) -> list[str]:
    return ["".join(text for text, _ in line).rstrip() for line in picture]


@pytest.mark.both_backends
def test_a_picture_of_any_size_shows_what_matters_most(virtual: Virtual) -> None:
    scheduler, monitor = rich_run()
    shown: list[str] = []

    async def draw() -> None:
        moments: list[Any] = [
            (5, SIZES),
            (6.5, [(80, 10)]),
            (8.5, [(80, 10), (80, 14)]),
        ]
        # The thread of the monitor draws now and then with its own, which no picture here may depend on.
        picture = PictureRenderer(monitor._model, Symbols())
        now = 0.0
        for moment, sizes in moments:
            await anyio.sleep(moment - now)
            now = moment
            for columns, height in sizes:
                monitor._model.estimate._next_at = 0.0  # an estimate of now
                shown.append(f"---- {columns} x {height}, after {moment} s")
                shown.extend(plain(picture.draw(columns, height)))
        ascii_picture = PictureRenderer(monitor._model, Symbols("ascii"))
        shown.extend(["---- ASCII", *plain(ascii_picture.draw(80, 14))])
        await anyio.sleep(99)

    scheduler.add(Job(draw, forever=True, label="look"))
    terminal: Any = monitor._file
    assert isinstance(terminal, Terminal)
    virtual(scheduler.co_run)
    shown += ["---- the last one", *terminal.shown()]
    assert "\n".join(shown) + "\n" == PICTURES.read_text(encoding="utf-8")
