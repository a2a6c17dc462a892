"""The graph on a page: its boxes, and when it is laid out again."""

from __future__ import annotations

import json
import shutil
from typing import Any

import anyio
import pytest

from trioflow import Job, Scheduler
from trioflow._core.words._run_view import runs_in_progress
from trioflow.view.look._picture import MISSING, Picture
from trioflow.view.look._watch import Watch
from trioflow.view.look._watched_run import WatchedRun

from ...bodies import nap
from ...conftest import Virtual


def pictures_of(virtual: Virtual, scheduler: Scheduler) -> list[Picture]:
    """Run a scenario; return the picture of its page once a second."""
    pictures, run, watches = list[Picture](), WatchedRun(), list[Watch]()

    async def ask() -> None:
        await anyio.sleep(0.5)
        watches.append(Watch(runs_in_progress()[0]))
        while True:
            run.update(json.loads(json.dumps({"may_steer": False, **watches[0].answer()})))
            pictures.append(Picture(run))
            await anyio.sleep(1)

    scheduler.add(Job(ask, forever=True, label="who asks"))
    virtual(scheduler.co_run)
    return pictures


def growing() -> Scheduler:
    """Return a run that grows and drops its jobs: pages, each of which is parsed."""

    async def feed() -> None:
        for number in range(20):
            page = scheduler.add(Job(nap, 1, label=f"page {number}"))
            scheduler.add(Job(nap, 1, label=f"parse {number}", required=page))
            await anyio.sleep(0.5)

    scheduler = Scheduler(Job(feed, label="feed"), keep_jobs=False, label="crawl")
    return scheduler


def test_the_graph_of_a_run_that_grows_has_its_families(virtual: Virtual) -> None:
    """Its boxes are families of jobs, which change seldom, and it is not laid out again when there are more jobs."""
    pictures = pictures_of(virtual, growing())
    assert all(set(picture._titles.values()) <= {"feed", "page *", "parse *", "who asks"} for picture in pictures)
    boxes = {title: box for box, title in pictures[-1]._titles.items()}
    assert {edge[:2] for edge in pictures[-1]._edges} == {(boxes["page *"], boxes["parse *"])}
    pictures[4].svg = "<svg/>"
    assert pictures[5].take_layout(pictures[4])
    assert pictures[5].svg == "<svg/>"
    assert len(pictures[-1].nodes) == 4
    assert max(map(len, pictures[-1].nodes.values())) > 10


def test_another_structure_is_laid_out_again(virtual: Virtual) -> None:
    """If a job is added to a run that keeps its jobs, its box has no place yet."""

    async def add() -> None:
        await anyio.sleep(2)
        scheduler.add(Job(nap, 3, label="late"))

    scheduler = Scheduler(Job(add, label="adds"), Job(nap, 5, label="early"))
    pictures = pictures_of(virtual, scheduler)
    assert not pictures[-1].take_layout(pictures[0])
    assert pictures[1].take_layout(pictures[0])


def test_without_graphviz_a_line_says_how_to_get_it(virtual: Virtual, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no picture then, and the page works without it."""
    which: Any = lambda *_args, **_options: None  # noqa: E731
    monkeypatch.setattr(shutil, "which", which)
    monkeypatch.setenv("PATH", "/nowhere")
    picture = pictures_of(virtual, Scheduler(Job(nap, 2, label="a"), Job(nap, 3, label="b")))[0].draw()
    assert (picture.svg, picture.note) == ("", MISSING)
