"""Serves the page of a run in another process on 127.0.0.1, until Ctrl-C; the program itself serves nothing.

Only who knows the address gets the page, because it contains a random token. A request must name this machine as its
host, so that no other name can be made to point at it, and one that steers must come from the page itself. The port may
be another one, because ssh and editors forward ports. The script of the page asks for the state of the run when there
is news, and changes what is shown in place.
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
from typing import Any, Final
from urllib.parse import parse_qs

from ... import _posix as posix
from ..trace.report import _report
from ._page import Page

MAX_REQUEST_SIZE: Final = 4096
REQUEST_TIMEOUT: Final = 10.0
"""How long, in seconds, a client may take to send a request, or keep a connection without one."""
END_TIMEOUT: Final = 10.0
"""How long, in seconds, a page may outlive its run, and how long ago a browser that shows it may have asked for it.

One of many jobs takes a while.
"""
MAX_STRANGERS: Final = 128
"""How many connections without the token are kept: of more, which any user can open, the oldest is cut off."""
CHUNK_SIZE: Final = 1 << 18
MAX_SHOWN_SIZE: Final = 4 << 20
"""The number of bytes of a file from which on a browser saves it, and does not show it."""
PLAIN_TEXT: Final = {"Content-Type": "text/plain; charset=utf-8"}
LOCAL_HOST: Final = re.compile(r"(?:localhost|127\.0\.0\.1|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
REFUSAL: Final = "refused: the address needs its token, and localhost, 127.0.0.1 or [::1] as its host"
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class PageServer(ThreadingHTTPServer):
    """A server of one page, on a free port of 127.0.0.1."""

    daemon_threads = True
    request_queue_size = MAX_STRANGERS

    def __init__(self, page: Page) -> None:
        super().__init__(("127.0.0.1", 0), PageHandler)
        self.page: Final = page
        self.token: Final = secrets.token_urlsafe(24)
        self.url: Final = f"http://127.0.0.1:{self.server_address[1]}/{self.token}/"
        self.asked_at = -math.inf
        """When a browser has asked for the page for the last time."""
        self.has_saved_end = threading.Event()
        """Whether a browser has got the report after the end of the run."""
        self._strangers: Final[dict[Any, None]] = {}  # connections that have not had the token yet
        self._browsers: Final = set[Any]()  # those that have had it
        self._connections_lock: Final = threading.Lock()

    def show_end(self) -> None:
        """Let a browser that shows the page get its end."""
        if time.monotonic() < self.asked_at + END_TIMEOUT:
            self.has_saved_end.wait(END_TIMEOUT)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, and cut off the oldest of too many strangers."""
        with self._connections_lock:
            self._strangers[request] = None
            if len(self._strangers) > MAX_STRANGERS:
                oldest = next(iter(self._strangers))
                del self._strangers[oldest]
                _cut_off(oldest)
        super().process_request(request, client_address)

    def trust(self, connection: Any) -> None:
        """Take a connection for that of a browser, which has the token."""
        with self._connections_lock:
            self._strangers.pop(connection, None)
            self._browsers.add(connection)

    def shutdown_request(self, request: Any) -> None:
        with self._connections_lock:
            self._strangers.pop(request, None)
            self._browsers.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._connections_lock:
            for connection in (*self._strangers, *self._browsers):
                _cut_off(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep silent: a browser has closed the connection."""


def _cut_off(connection: Any) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class PageHandler(BaseHTTPRequestHandler):
    """The answers to the requests of a page."""

    server: PageServer  # pyright: ignore[reportIncompatibleVariableOverride]
    server_version, sys_version = "trioflow", ""
    protocol_version = "HTTP/1.1"  # the connection that has had the token is used again
    timeout = REQUEST_TIMEOUT

    def do_GET(self) -> None:
        requested, page = self._requested_name(), self.server.page
        if requested is None:
            self._refuse()
            return
        self.server.trust(self.connection)
        self.server.asked_at = time.monotonic()
        name, _, query = requested.partition("?")
        words = {word: values[0] for word, values in parse_qs(query, errors="surrogatepass").items()}
        if name == "-":
            self._send(308, "", {"Location": f"/{self.server.token}/"})
        elif name == "":
            self._send(200, page.shell())
        elif name == "state":
            self._send_data(page.state(query))
        elif name == "graph":
            self._send(200, "" if page.picture is None else page.picture.svg, {"Content-Type": "image/svg+xml"})
        elif name == "job":
            key = words.get("key", "")
            self._send_data(page.job(words.get("seen", ""), int(key)) if key.isdecimal() else {})
        elif name == "file" and words.get("path") in page.files():
            self._send_file(words["path"])
        elif name == "page":
            page.wait_for_report(query)
            version, text = page.html()
            self._send(200, "" if query == f"have={version}" else text, {"X-Version": str(version)})
        elif name == "report.html":
            self._send(200, page.report(), {"Content-Disposition": 'attachment; filename="report.html"'})
            if page.has_ended:
                self.server.has_saved_end.set()
        else:
            self._refuse()

    def do_POST(self) -> None:
        size = self.headers.get("Content-Length", "")
        has_right_form = self.headers.get("Content-Type") == "application/json" and size.isdecimal()
        is_from_page = self.headers.get("Origin") == f"http://{self.headers.get('Host')}"
        if self._requested_name() != "steer" or not (is_from_page and has_right_form and int(size) <= MAX_REQUEST_SIZE):
            self._refuse()
            return
        try:
            request = json.loads(self.rfile.read(int(size)))
            answer = self.server.page.steer({**request, "do": str(request["do"])})
        except (ValueError, TypeError, LookupError, AttributeError):
            self._refuse()
            return
        self._send_data(answer)

    def _requested_name(self) -> str | None:
        """Return what follows the token in the address; None if the token or the host is wrong."""
        _, token, name = [*self.path.split("/", 2), "-", "-"][:3]
        is_right = hmac.compare_digest(token.encode(), self.server.token.encode())
        return name if is_right and LOCAL_HOST.fullmatch(self.headers.get("Host", "")) else None

    def _refuse(self) -> None:
        self.close_connection = True
        self._send(403, REFUSAL, PLAIN_TEXT)

    def _send_file(self, path: str) -> None:
        """Send a file as it is so far: as text, never as a page, or to be saved if it is large."""
        try:
            descriptor = posix.open_regular(path, os.O_RDONLY)
        except OSError as error:
            self._send(404, f"{error.strerror}: {path}", PLAIN_TEXT)
            return
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            disposition = f'{"inline" if size <= MAX_SHOWN_SIZE else "attachment"}; filename="output.txt"'
            self._send_headers(200, size, {**PLAIN_TEXT, "Content-Disposition": disposition})
            while size and (part := file.read(min(size, CHUNK_SIZE))):
                self.wfile.write(part)
                size -= len(part)
            self.close_connection = size > 0  # it has become shorter

    def _send_data(self, data: Any) -> None:
        self._send(200, json.dumps(data, separators=(",", ":")), {"Content-Type": "application/json"})

    def _send(self, code: int, text: str, headers: dict[str, str] | None = None) -> None:
        data = text.encode("utf-8", errors="backslashreplace")
        self._send_headers(code, len(data), headers or {})
        self.wfile.write(data)

    def _send_headers(self, code: int, size: int, headers: dict[str, str]) -> None:
        self.send_response(code)
        policy = f"{_report.content_policy(is_live=True)}; frame-ancestors 'none'"
        common = {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": policy, **HEADERS}
        for name, value in {**common, **headers, "Content-Length": str(size)}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the parent gets, too
    with serving(Page(os.getppid(), None, key)) as server:
        print(server.url, flush=True)
        sys.stdin.buffer.read()
        os.dup2(1, 2)  # so that who reads the errors of the parent does not wait for the end of this process, too
        server.show_end()
