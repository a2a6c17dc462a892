"""The page of a run in another process, and its server on 127.0.0.1. The program itself serves nothing.

The address contains a random token, so only a client that knows it gets the page. A request must name this machine as
its host, so that no other name can be made to point at it. A request that steers must come from the page itself. The
port may be another, because ssh and editors forward ports. The script of the page asks for the state of the run when
there is news, and updates the page in place.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import math
import os
import re
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from ... import _posix as posix
from ..trace._trace_record import TraceRecord
from ..trace.report import _report
from . import _answers, _client, _console, _job_search, _run_log
from ._console import WatchedRun
from ._picture import Picture
from ._process_record import Record

PAUSE_FACTOR: Final = 2
"""The pause before a report is made, or a graph laid out, again, as a multiple of the time that it took."""
PLAN_PAUSE_FACTOR: Final = 50
"""The factor for a graph whose jobs changed but whose boxes did not: a growing run would replan it all the time."""
RETRY_INTERVAL: Final = 0.5
"""How long, in seconds, to wait before the next question to a program that has not answered."""
ANYWHERE: Final = Path(os.devnull)
"""The directory of a saved report that contains no file: links to files are absolute."""
MAX_NEWS: Final = 8
"""How many lines of the log the page shows at once."""
GONE: Final = "The program was killed, or has ended without a word."


class Page:
    """The page of a run, and the questions to its program.

    Args:
        pid: the process of the program.
        label: the label of the run, or None if only one run is in progress.
        own_key: the key that the program expects from the page, if it has started the page's server, which ends with
            it.

    """

    def __init__(self, pid: int, label: str | None, own_key: str = "") -> None:
        self._pid = pid
        self._label = label
        self._is_own = bool(own_key)
        self._key: Final = own_key or secrets.token_hex(8)
        self._run: Final = WatchedRun()
        self._problem = ""
        self.version = 0
        """Another number for each state of the page."""
        # Of the facts, notified when there is news.
        self._lock: Final = threading.Condition()
        # So that the report is made once for all tabs.
        self._making: Final = threading.Lock()
        # The version of the report, and its text.
        self._made = -1, ""
        # When the report may be made again.
        self._next_at = -math.inf
        self._shown: Record = {"version": -1}
        self.picture = Picture(self._run)
        self._structure = ("", -1, -1)
        self._next_picture_at = -math.inf
        self._is_drawing = False
        _report.require_jinja()

    def ask(self) -> None:
        """Ask the program for changes. It answers when something has, or after a second.

        Raises:
            NoAnswer: it does not answer.

        """
        while True:
            answer = self._question(run=self._label, **self._run.place())
            with self._lock:
                self._run.update(answer)
                if not self._run.answer["more"]:
                    self._set_problem("")
                    self._begin_picture()
                    return

    def _question(self, **words: object) -> Record:
        """Return the answer of the program, as `ask` of a client."""
        return _client.ask(self._pid, {"watch": self._key, **words})

    @property
    def has_ended(self) -> bool:
        return bool(self._run.answer["is_over"]) or self._problem == GONE

    def follow(self) -> None:
        """Ask again and again, until the run has ended, or the program is gone."""
        while not self.has_ended:
            try:
                self.ask()
            except _client.NoAnswer as error:
                # A process that was killed takes a moment to end.
                time.sleep(RETRY_INTERVAL)
                problem = GONE
                if _client.is_there(self._pid):
                    problem = str(error)
                with self._lock:
                    self._set_problem(problem)

    def _set_problem(self, problem: str) -> None:
        self._problem = problem
        self.version += 1
        self._lock.notify_all()

    # ---- the graph

    def _begin_picture(self) -> None:
        """Lay out the graph in a thread if its structure has changed. The lock is held."""
        jobs = self._run.jobs
        requirements = sum(len(facts.span.required) for _, facts in jobs.values())
        structure = self._run.answer["seen"], len(jobs), requirements
        began = time.monotonic()
        may_begin = began >= self._next_picture_at and not self._is_drawing
        if structure == self._structure or not may_begin:
            return
        self._structure = structure
        picture = Picture(self._run)
        if picture.take_layout(self.picture):
            self.picture = picture
            self._next_picture_at = _pause_end(began, PLAN_PAUSE_FACTOR)
            return
        self._is_drawing = True
        threading.Thread(
            target=self._draw, args=(picture,), name="trioflow look", daemon=True
        ).start()

    def _draw(self, picture: Picture) -> None:
        began = time.monotonic()
        try:
            picture.draw(self.picture.number + 1)
        finally:
            with self._lock:
                self.picture = picture
                self._next_picture_at = _pause_end(began, PAUSE_FACTOR)
                self._is_drawing = False
                self._set_problem(self._problem)

    # ---- the contents that are served

    def state(self, have: str = "") -> Record:
        """Return the console of the run as data, as soon as its version is another."""
        with self._lock:
            self._lock.wait_for(
                lambda: have != str(self.version), _answers.WATCH_INTERVAL
            )
            if self.has_ended:
                # A browser asks no more.
                self._lock.wait_for(
                    lambda: not self._is_drawing, _answers.WATCH_INTERVAL
                )
            if self._shown["version"] != self.version and not self._run.answer["more"]:
                self._shown = {
                    "version": self.version,
                    **self._make_state(),
                    "own": self._is_own,
                }
            return self._shown

    def _make_state(self) -> Record:
        state = _console.console(self._run, self._problem, self.has_ended)
        if self.has_ended:
            record, _ = self._read()
            state |= _console.ending(record)
        return state | {
            "graph": self.picture.number if self.picture.svg else 0,
            "graph_note": self.picture.note,
            "nodes": self.picture.states(self._run),
            "log": _run_log.log(self._run, "", MAX_NEWS),
        }

    def job(self, seen: str, key: int) -> Record:
        """Return the facts about a job that the page has shown."""
        told: Record = {}
        with self._lock:
            if seen != self._run.answer["seen"] or key not in self._run.jobs:
                return {}
        if not self.has_ended:
            with contextlib.suppress(_client.NoAnswer):
                # It has just ended.
                told = self._question(seen=seen, detail=key)
        with self._lock:
            if key in self._run.jobs:
                return _console.describe_job(self._run, key, told)
            return {}

    def find_jobs(self, seen: str, which: str, words: str) -> Record:
        """Return the jobs that are meant in the run that the page has shown."""
        with self._lock:
            if seen != self._run.answer["seen"]:
                return {}
            return _job_search.find_jobs(self._run, self.picture, which, words)

    def log(self, words: str) -> Record:
        """Return the log of the run."""
        with self._lock:
            return _run_log.log(self._run, words)

    def html(self, query: str = "") -> tuple[int, str]:
        """Return the version of the report in the page, and the page with it, or "" if a query still has this version.

        Wait until it is not, and until it may be made again.
        """
        with self._lock:
            self._lock.wait_for(
                lambda: self.has_ended, max(0.0, self._next_at - time.monotonic())
            )
            self._lock.wait_for(
                lambda: query != f"have={self.version}", _answers.WATCH_INTERVAL
            )
        with self._making:
            version = self.version
            began = time.monotonic()
            if self._made[0] != version:
                self._made = version, self.report(None)
                self._next_at = _pause_end(began, PAUSE_FACTOR)
            text = self._made[1]
            if query == f"have={version}":
                text = ""
            return version, text

    def report(self, folder: Path | None = ANYWHERE) -> str:
        """Return the report of the run so far, by default to be saved."""
        record, lacks = self._read()
        return _report.report_html(record, folder, lacks=lacks)

    def files(self) -> set[str]:
        """Return the paths of the files that the page links to."""
        paths = set[str]()
        with self._lock:
            for _, facts in self._run.jobs.values():
                if facts.command is not None:
                    paths.update(path for _, path in facts.command.files)
        return paths

    def _read(self) -> tuple[TraceRecord, str]:
        with self._lock:
            return self._run.record(), self._run.lacks(self._run.counted())

    def steer(self, request: Record) -> Record:
        """Steer the run and the job that the page has shown. Return what was done, or the error."""
        names = "do", "value", "seen", "job", "marks"
        words = {name: request.get(name) for name in names}
        try:
            return self._question(**words, page=True)
        except _client.NoAnswer as error:
            return {"error": str(error).removeprefix(f"process {self._pid}: ")}


def _pause_end(began: float, factor: float) -> float:
    """Return when something that began at a time, and has just ended, may be made again."""
    now = time.monotonic()
    return now + factor * (now - began)


class TracePage(Page):
    """The page of a run that has ended and has a trace."""

    def __init__(self, record: TraceRecord) -> None:
        super().__init__(0, None)
        self._record: Final = record
        self._run.take_record(record)
        self.picture = Picture(self._run).draw(1)

    def _make_state(self) -> Record:
        head = _console.head(self._record.tally)
        return {**super()._make_state(), **head, "title": self._record.name}

    def _read(self) -> tuple[TraceRecord, str]:
        return self._record, ""


# ---- the server

MAX_REQUEST_SIZE: Final = 4096
MAX_IGNORED_SIZE: Final = 4 << 20
LINGER_TIMEOUT: Final = 2.0
"""How many bytes of a refused request are read, and for how long, in seconds, after the answer: RFC 9112, 9.6."""
REQUEST_TIMEOUT: Final = 10.0
"""How long, in seconds, a client may take to send a request, or keep a connection without one."""
END_TIMEOUT: Final = 10.0
"""How long, in seconds, a page may outlive its run, and how long ago browsers that show it may have asked for it. A
report of many jobs takes a while."""
CLOSED: Final = ""
"""The name of a browser that has closed its connection, and may open another."""
MAX_STRANGERS: Final = 128
"""How many connections without the token are kept: of more, which any user can open, the oldest is cut off."""
CHUNK_SIZE: Final = 1 << 18
MAX_SHOWN_SIZE: Final = 4 << 20
"""A browser saves a file of more than this many bytes, and does not show it."""
PLAIN_TEXT: Final = {"Content-Type": "text/plain; charset=utf-8"}
LOCAL_HOST: Final = re.compile(
    r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE
)
REFUSAL: Final = "refused: the address needs its token, and localhost, 127.0.0.1 or [::1] as its host"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageServer(ThreadingHTTPServer):
    """A server of a single page, on a free port of 127.0.0.1."""

    daemon_threads = True
    request_queue_size = MAX_STRANGERS

    def __init__(self, page: Page) -> None:
        super().__init__(("127.0.0.1", 0), PageHandler)
        self.page: Final = page
        self.token: Final = secrets.token_urlsafe(24)
        self.url: Final = f"http://127.0.0.1:{self.server_address[1]}/{self.token}/"
        # And whether they have had the token.
        self._connections: Final[dict[Any, bool]] = {}
        # Notified when a browser has the end.
        self._connections_lock: Final = threading.Condition()
        self.browsers: Final[dict[object, float]] = {}
        """When each browser has asked last that lacks the report after the end: by its name, else by its connection."""

    def show_end(self) -> None:
        """Let all browsers that show the page get its end."""
        oldest = time.monotonic() - END_TIMEOUT
        asked = self.browsers.values()
        with self._connections_lock:
            self._connections_lock.wait_for(
                lambda: max(asked, default=-math.inf) < oldest, END_TIMEOUT
            )

    def note_browser(
        self, connection: object, name: str | None, has_end: bool = False
    ) -> None:
        """Remember that a browser asks, by whichever connection, or that it has the report after the end of the run."""
        with self._connections_lock:
            for known in (connection, CLOSED):
                self.browsers.pop(known, None)
            if has_end:
                self.browsers.pop(name, None)
            else:
                self.browsers[name or connection] = time.monotonic()
            self._connections_lock.notify_all()

    def process_request(self, request: Any, client_address: object) -> None:
        """Answer in a thread of its own, and cut off the oldest of too many strangers."""
        with self._connections_lock:
            self._connections[request] = False
            strangers = [
                one for one, has_token in self._connections.items() if not has_token
            ]
            if len(strangers) > MAX_STRANGERS:
                del self._connections[strangers[0]]
                _cut_off(strangers[0])
        super().process_request(request, client_address)

    def trust(self, connection: object) -> None:
        """Take a connection for a browser's, because it has the token."""
        with self._connections_lock:
            self._connections[connection] = True

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._connections.pop(request, None)
            asked_at = self.browsers.pop(request, None)
            if asked_at is not None:
                self.browsers[CLOSED] = asked_at
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._connections_lock:
            for connection in self._connections:
                _cut_off(connection)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep silent: a browser has closed the connection."""


def _cut_off(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class PageHandler(BaseHTTPRequestHandler):
    """The answers to the requests of a page."""

    server: PageServer  # pyright: ignore[reportIncompatibleVariableOverride]
    server_version, sys_version = "trioflow", ""
    # The connection that has had the token is used again.
    protocol_version = "HTTP/1.1"
    timeout = REQUEST_TIMEOUT

    def do_GET(self) -> None:
        try:
            self._answer(*self._requested_name().partition("?")[::2])
        except (ValueError, LookupError):
            self._refuse()

    def _answer(self, name: str, query: str) -> None:
        """Answer a question of who has the token.

        Raises:
            ValueError, LookupError: the page has no such thing.

        """
        page = self.server.page
        self.server.trust(self.connection)
        found = parse_qs(query, errors="surrogatepass")
        words = {word: values[0] for word, values in found.items()}
        if name == "-":
            self._send(308, "", {"Location": f"/{self.server.token}/"})
        elif name == "":
            # The page without the run, which it asks for.
            self.server.note_browser(self.connection, None)
            self._send(200, _report.report_html(TraceRecord(), None))
        elif name == "state":
            self.server.note_browser(self.connection, words.get("by"))
            self._send_data(page.state(words.get("have", "")))
        elif name == "graph":
            self._send(200, page.picture.svg, {"Content-Type": "image/svg+xml"})
        elif name == "job":
            self._send_data(page.job(words["seen"], int(words["key"])))
        elif name == "jobs":
            asked = [words.get(word, "") for word in ("seen", "which", "words")]
            self._send_data(page.find_jobs(*asked))
        elif name == "log":
            self._send_data(page.log(words.get("words", "")))
        elif name == "file" and words.get("path") in page.files():
            self._send_file(words["path"])
        elif name == "page":
            version, text = page.html(query)
            self._send(200, text, {"X-Version": str(version)})
        elif name == "report.html":
            disposition = 'attachment; filename="report.html"'
            self._send(200, page.report(), {"Content-Disposition": disposition})
            if page.has_ended:
                self.server.note_browser(self.connection, words.get("by"), has_end=True)
        else:
            raise LookupError(name)

    def do_POST(self) -> None:
        origin = f"http://{self.headers.get('Host')}"
        form = "application/json"
        try:
            asked = self._requested_name()
            size = int(self.headers["Content-Length"] or "")
            sent = self.headers["Origin"], self.headers["Content-Type"]
            if asked != "steer" or sent != (origin, form):
                raise LookupError(asked)
            if not 0 < size <= MAX_REQUEST_SIZE:
                raise ValueError(size)
            request = json.loads(self.rfile.read(size))
            request["do"] = str(request["do"])
            self._send_data(self.server.page.steer(request))
        except (ValueError, TypeError, LookupError, RecursionError):
            self._refuse()

    def _requested_name(self) -> str:
        """Return the part of the address after the token.

        Raises:
            LookupError: the token or the host is wrong.

        """
        _, token, name = [*self.path.split("/", 2), "-", "-"][:3]
        is_right = hmac.compare_digest(token.encode(), self.server.token.encode())
        if not (is_right and LOCAL_HOST.fullmatch(self.headers.get("Host", ""))):
            raise LookupError(name)
        return name

    def _refuse(self) -> None:
        """Refuse a request, and read the rest: a client whose request is not read to its end may lose the answer."""
        self.close_connection = True
        self._send(403, REFUSAL, PLAIN_TEXT)
        self.connection.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + LINGER_TIMEOUT
        left = MAX_IGNORED_SIZE
        while left > 0:
            seconds = deadline - time.monotonic()
            if seconds <= 0:
                break
            self.connection.settimeout(seconds)
            left -= len(self.rfile.read1()) or left

    def _send_file(self, path: str) -> None:
        """Send a file as it is so far: as text, never as a page, or to be saved if it is large."""
        try:
            descriptor = posix.open_regular(path, os.O_RDONLY)
        except OSError as error:
            self._send(404, f"{error.strerror}: {path}", PLAIN_TEXT)
            return
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            kind = "inline" if size <= MAX_SHOWN_SIZE else "attachment"
            disposition = f'{kind}; filename="output.txt"'
            headers = {**PLAIN_TEXT, "Content-Disposition": disposition}
            self._send_headers(200, size, headers)
            while size:
                part = file.read(min(size, CHUNK_SIZE))
                if not part:
                    break
                self.wfile.write(part)
                size -= len(part)
            # It has become shorter.
            self.close_connection = size > 0

    def _send_data(self, data: object) -> None:
        text = json.dumps(data, separators=(",", ":"))
        self._send(200, text, {"Content-Type": "application/json"})

    def _send(
        self, code: int, text: str, headers: dict[str, str] | None = None
    ) -> None:
        data = text.encode("utf-8", errors="backslashreplace")
        self._send_headers(code, len(data), headers or {})
        self.wfile.write(data)

    def _send_headers(self, code: int, size: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        policy = f"{_report.content_policy(is_live=True)}; frame-ancestors 'none'"
        sent = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": policy,
            **HEADERS,
            **headers,
            "Content-Length": str(size),
        }
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing, because addresses have the token."""


@contextlib.contextmanager
def serving(page: Page) -> Generator[PageServer]:
    """Serve a page during the body of the `with` statement."""
    with PageServer(page) as server:
        for target in (page.follow, server.serve_forever):
            threading.Thread(target=target, name="trioflow look", daemon=True).start()
        yield server
        server.shutdown()


def serve_parent(key: str) -> None:
    """Serve the page of the run of the parent process, until that closes standard input, and print the address.

    The parent expects the page under the key.
    """
    # The parent gets SIGINT, too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with serving(Page(os.getppid(), None, key)) as server:
        print(server.url, flush=True)
        sys.stdin.buffer.read()
        # So that who reads the errors of the parent does not wait for the end of this process, too.
        os.dup2(1, 2)
        server.show_end()
