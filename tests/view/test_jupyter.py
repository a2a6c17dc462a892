"""Schedulers and jobs as the values of cells: what a notebook shows of them; `test_notebook` has a real kernel."""

import re
from typing import Any
import anyio
from trioflow import AbstractJob, Job, Scheduler
from ..conftest import Virtual
from .graph.pictures import texts


def bundle(job: Any) -> dict[str, str]:
    found: dict[str, str] = job._repr_mimebundle_()
    return found


def test_a_graph_of_a_thousand_jobs_is_not_drawn() -> None:
    """A notebook shows a thousand jobs as text only, since drawing their graph would take minutes."""
    shown = bundle(Scheduler(AbstractJob(label=f"job {n}") for n in range(1000)))
    assert shown == {"text/plain": "<Scheduler Scheduler, idle, 1000 jobs>"}


def test_an_empty_scheduler_is_displayed_with_its_repr() -> None:
    """An empty scheduler is displayed with its repr: a picture and a listing of no jobs would be blank."""
    assert bundle(Scheduler()) == {"text/plain": repr(Scheduler())}


def test_jobs_without_arrows_are_drawn_as_a_grid() -> None:
    """Forty parallel jobs are drawn as a grid, because a row or a column of them would be unreadable in a cell."""
    picture = bundle(Scheduler(AbstractJob(label=f"a job {'x' * (n % 20)}") for n in range(40)))["image/svg+xml"]
    size = re.search(r'width="([0-9.]+)pt" height="([0-9.]+)pt"', picture)
    assert size is not None
    assert 1 / 2 < float(size[1]) / float(size[2]) < 2


def test_pictures_and_listings_show_the_same_times(virtual: Virtual) -> None:
    jobs = [Job(anyio.sleep, seconds, label=f"nap {seconds}") for seconds in (0.001, 0.06)]
    scheduler = Scheduler(jobs)
    virtual(scheduler.co_run)
    shown = bundle(scheduler)
    assert [line.endswith("ms") for line in shown["text/plain"].splitlines()] == [False, True]
    assert sum(text.endswith("ms") for text in texts(shown["image/svg+xml"])) == 1
