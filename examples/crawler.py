"""A server that crawls sites when it is asked to, and keeps what it finds in a database.

    python examples/crawler.py [--limit PAGES] [--database FILE] [--graph FILE.svg]

The sites are part of the scenario: two servers on this machine with the documentation of the standard library, made by
pydoc. So are two clients, which ask the server for a crawl each, at the same time, and then for what it has found.

    sites ─────────┐
    database ──► server ──► ask for a crawl of each site ──► ask for the pages

- The database, the sites and the server are services: each is ready before it is used, and ends after its last user.
- Each request for a crawl has a scheduler that grows with the links that are found, within a time limit. It drops the
  jobs that have settled, so its memory does not grow.
- All crawls share one pool: no host gets more than two requests at once, whoever asks.
- `on_job_settled` gets each page as it ends: it stores it, and adds what the page links to.
"""

from __future__ import annotations

import argparse
import json
import pydoc
import re
import sqlite3
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urljoin, urlsplit

import anyio
from anyio.abc import SocketAttribute, SocketStream

from trioflow import AbstractJob, PerKey, Pool, Retry, Scheduler, Service, ThreadJob
from trioflow.view import save

Page = tuple[str, str, list[str]]  # address, title, links


# ---- a crawl


def download(url: str) -> Page:
    """Return a page of a site; this runs in a thread."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
    except HTTPError as error:  # which is an answer, too
        error.close()
        raise
    title = re.search("<title>(.*?)</title>", text)
    links = [
        urljoin(url, link).partition("#")[0]
        for link in re.findall(r'href="([^"]+\.html[^"]*)"', text)
    ]
    return (
        url,
        title[1] if title else "",
        [link for link in links if urlsplit(link).netloc == urlsplit(url).netloc],
    )


async def crawl(
    start: str, limit: int, database: sqlite3.Connection, pool: Pool
) -> dict[str, int]:
    """Visit at most `limit` pages, from `start` on; return how many were stored, and how many could not be read."""
    seen, counts = {start}, {"stored": 0, "failed": 0}

    def page(url: str) -> ThreadJob[Page]:
        host, patient = urlsplit(url).netloc, Retry(2, first=0.1, on=ConnectionError)
        return ThreadJob(
            download,
            url,
            label=urlsplit(url).path,
            needs={"host": host},
            retry=patient,
            log=False,
        )

    def store(job: AbstractJob[Page]) -> None:
        if not job.is_succeeded():
            counts["failed"] += 1
            return
        url, title, links = job.result()
        with database:
            database.execute(
                "insert or replace into pages values (?, ?, ?)",
                (url, title, len(links)),
            )
        counts["stored"] += 1
        for link in links:
            if link not in seen and len(seen) < limit:
                seen.add(link)
                pages.add(page(link))

    label = f"crawl {urlsplit(start).netloc}"
    async with Scheduler(
        pool=pool,
        timeout=60,
        keep_jobs=False,
        on_job_settled=store,
        label=label,
        critical_jobs=False,
    ) as pages:
        pages.add(page(start))
    return counts


# ---- the services


async def open_database(file: str, *, task_status: Any) -> None:
    database = sqlite3.connect(file)
    try:
        database.execute(
            "create table if not exists pages (url text primary key, title text, links integer)"
        )
        task_status.started(database)
        await anyio.sleep_forever()
    finally:
        database.close()


async def serve(database: sqlite3.Connection, limit: int, *, task_status: Any) -> None:
    """Answer `GET /crawl?from=URL` and `GET /pages`; the address is the service's value."""
    pool = Pool(host=PerKey(2))

    async def answer(stream: SocketStream) -> None:
        async with stream:
            target = urlsplit((await stream.receive()).split()[1].decode())
            if target.path == "/crawl":
                found: Any = await crawl(
                    parse_qs(target.query)["from"][0], limit, database, pool
                )
            else:
                found = database.execute(
                    "select url, title, links from pages order by links desc"
                ).fetchall()
            await stream.send(b"HTTP/1.0 200 OK\r\n\r\n" + json.dumps(found).encode())

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        task_status.started(
            f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        )
        await listener.serve(answer)


rendering = threading.Lock()  # pydoc works in one thread at a time


class Documentation(BaseHTTPRequestHandler):
    """A site with a page for each module that this program has imported."""

    def do_GET(self) -> None:
        name = self.path.strip("/").removesuffix(".html")
        if name not in sys.modules:
            self.send_error(404)
            return
        with rendering:
            text = pydoc.html.page(name, pydoc.html.document(sys.modules[name], name))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None: ...


async def serve_site(*, task_status: Any) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Documentation) as site:
        thread = threading.Thread(target=site.serve_forever, args=[0.01])
        thread.start()
        try:
            task_status.started(f"http://127.0.0.1:{site.server_port}")
            await anyio.sleep_forever()
        finally:
            site.shutdown()
            thread.join()


# ---- the scenario


def ask(*parts: str) -> Any:
    """Return what the server answers at an address, which is given in parts."""
    with urllib.request.urlopen("".join(parts), timeout=60) as answer:
        return json.load(answer)


def scenario(file: str = ":memory:", limit: int = 40) -> Scheduler:
    sites = [Service(serve_site, label=f"site {number}") for number in (1, 2)]
    server = Service(
        serve, Service(open_database, file, label="database"), limit, label="server"
    )
    crawls = [
        ThreadJob(
            ask,
            server,
            "/crawl?from=",
            site,
            f"/{module}.html",
            label=f"ask for a crawl from {module}",
        )
        for site, module in zip(sites, ["json", "argparse"], strict=True)
    ]
    pages = ThreadJob(ask, server, "/pages", label="ask for the pages", required=crawls)
    return Scheduler(
        *sites, server, *crawls, pages, label="crawler", critical_jobs=True
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=40,
        metavar="PAGES",
        help="the most pages of a crawl (40)",
    )
    parser.add_argument(
        "--database",
        default=":memory:",
        metavar="FILE",
        help="keep the pages in this file",
    )
    parser.add_argument(
        "--graph", type=Path, metavar="FILE", help="draw the jobs as they ended, as SVG"
    )
    options = parser.parse_args()
    crawler = scenario(options.database, options.limit)
    if not crawler.run():
        crawler.debrief()
        return 1
    *_, first, second, pages = crawler
    print(f"crawls: {first.result()}, {second.result()}; the pages with most links:")
    for url, title, links in pages.result()[:5]:
        print(f"{links:5}  {title:30} {url}")
    if options.graph is not None:
        save(crawler, options.graph)
    return 0


if __name__ == "__main__":
    sys.exit(main())
