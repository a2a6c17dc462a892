"""The example of a server that crawls sites."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from trioflow import Scheduler, Service, ThreadJob

from .scripts import load_example, run_example


def test_both_crawls_keep_what_they_find_and_everything_ends(tmp_path: Path) -> None:
    """Each page that could be read is in the database once, with its links; no more are visited than allowed."""
    example, file = load_example("crawler"), tmp_path / "pages.db"
    scheduler = example.scenario(str(file), limit=4)
    assert scheduler.run()
    crawls = [job.result() for job in scheduler if job.label.startswith("ask for a crawl")]
    pages = list(scheduler)[-1].result()
    assert all(found["stored"] > 0 and sum(found.values()) <= 4 for found in crawls)
    with sqlite3.connect(file) as database:
        stored = database.execute("select url, title, links from pages").fetchall()
    database.close()
    assert sorted(map(tuple, pages)) == sorted(stored)
    assert len(stored) == sum(found["stored"] for found in crawls)
    assert any(title == "Python: json" for _, title, _ in stored)


def test_no_host_gets_more_than_two_requests_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever crawls ask: two of the same site share its limit."""
    example, lock, now, most = load_example("crawler"), threading.Lock(), [0], [0]
    original = example.download

    def watched(url: str) -> Any:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        try:
            return original(url)
        finally:
            with lock:
                now[0] -= 1

    monkeypatch.setattr(example, "download", watched)
    site = Service(example.serve_site)
    server = Service(example.serve, Service(example.open_database, ":memory:"), 5)
    asked = [ThreadJob(example.ask, server, "/crawl?from=", site, f"/{name}.html") for name in ("json", "argparse")]
    assert Scheduler(*asked, critical_jobs=True).run()
    assert most[0] == 2


def test_the_script_prints_the_pages_and_draws_its_graph(tmp_path: Path) -> None:
    """The script prints five pages, and writes a picture of its jobs."""
    done = run_example("crawler", "--limit", 5, "--graph", tmp_path / "graph.svg")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 6
    assert "ask for the pages" in (tmp_path / "graph.svg").read_text(encoding="utf-8")
