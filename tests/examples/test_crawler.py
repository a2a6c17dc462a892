"""The example of a server that crawls sites."""

import pydoc
import sqlite3
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from trioflow import Scheduler, Service, ThreadJob
from .scripts import load_example


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example, whose sites have pages of links alone: pydoc takes a second for the real ones."""
    links = "".join(f'<a href="{name}.html">' for name in ("argparse", "json", "pydoc", "re", "sqlite3", "sys"))
    monkeypatch.setattr(pydoc.html, "document", lambda *_: links)
    return load_example("crawler")


def test_both_crawls_keep_what_they_find_and_everything_ends(example: ModuleType, tmp_path: Path) -> None:
    """Each page that could be read is in the database once, with its links; no more are visited than allowed."""
    file = tmp_path / "pages.db"
    scheduler = example.scenario(str(file), limit=4)
    assert scheduler.run()
    crawls = [job.result() for job in scheduler if job.label.startswith("ask for a crawl")]
    pages = list(scheduler)[-1].result()
    assert crawls == [{"stored": 4, "failed": 0}] * 2
    with sqlite3.connect(file) as database:
        stored = database.execute("select url, title, links from pages").fetchall()
    database.close()
    assert sorted(map(tuple, pages)) == sorted(stored)
    assert len(stored) == 8
    assert ("Python: json", 6) in [(title, links) for _, title, links in stored]


def test_no_host_gets_more_than_two_requests_at_once(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever crawls ask: two of the same site share its limit."""
    lock, now, most = threading.Lock(), [0], [0]
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


def test_the_script_prints_the_pages_and_draws_its_graph(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The script prints five pages, and writes a picture of its jobs."""
    monkeypatch.setattr(sys, "argv", ["crawler.py", "--limit", "5", "--graph", str(tmp_path / "graph.svg")])
    assert example.main() == 0
    assert len(capsys.readouterr().out.splitlines()) == 6
    assert "ask for the pages" in (tmp_path / "graph.svg").read_text(encoding="utf-8")
