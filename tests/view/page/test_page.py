"""The page of a run in progress: what its server refuses, what it tells, and how it learns the end of a run."""

import contextlib
import gc
import http.client
import itertools
import json
import os
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow.look
from trioflow import (
    Answer,
    CommandJob,
    Job,
    Pool,
    Retry,
    Scheduler,
    ThreadJob,
    Throttled,
    Trace,
)
from trioflow._core.base._text_forms import duration_text
from trioflow._core.words import _explain
from trioflow._core.words._job_queries import question_of
from trioflow.abc import incidents_of
from trioflow.cli import _outputs
from trioflow.view import save
from trioflow.view.look import _answers, _client, _console, _page, _watch
from trioflow.view.look._console import NO_ANSWER, WatchedRun
from trioflow.view.look._page import Page, PageServer, TracePage
from trioflow.view.trace._trace_file import read_record
from trioflow.view.trace.report._report import report_html
from ...batch.process import running
from ...bodies import fail, hooked, nothing
from ...cli.command_line import trioflow as trioflow_command
from ...conftest import Virtual
from ...jobs.posix.process_trees import until_there
from ...places import PATIENCE
from ...pythons import Python, python
from .pages import PROGRAM, program, serving

pytestmark = pytest.mark.usefixtures("impatient", "answers")


def request(
    server: PageServer, method: str, name: str, body: Any = None, **headers: str
) -> Any:
    """Send a request as the page does, but for the headers that are given; return the answer and its text."""
    host = f"127.0.0.1:{server.server_address[1]}"
    connection = http.client.HTTPConnection(
        "127.0.0.1", server.server_address[1], timeout=PATIENCE
    )
    usual = {"Host": host} | (
        {}
        if body is None
        else {"Origin": f"http://{host}", "Content-Type": "application/json"}
    )
    all_headers = usual | {
        key.replace("_", "-"): value for key, value in headers.items()
    }
    data = None if body is None else json.dumps(body)
    with contextlib.suppress(
        ConnectionError
    ):  # the server refuses what is too large without reading it
        connection.request(
            method,
            name,
            data,
            {key: value for key, value in all_headers.items() if value},
        )
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def in_a_run(backend: Any, use: Any, *jobs: Any, **options: Any) -> Scheduler:
    def look() -> None:
        with serving() as server:
            use(server)

    scheduler = Scheduler(
        ThreadJob(look, label="looking", critical=True), *jobs, label="night", **options
    )
    scheduler.run(backend=backend)
    return scheduler


def test_a_page_is_given_to_who_knows_its_address_alone(backend: Any) -> None:
    """Another token, another host, another origin, another form of a post: all are refused, and change nothing."""
    refused: dict[str, int] = {}

    def use(server: PageServer) -> None:
        path, steer = f"/{server.token}/", {"do": "cancel"}
        other = {"Origin": "http://127.0.0.1:1"}
        tries: dict[str, tuple[Any, ...]] = {
            "no token": ("GET", "/"),
            "another token": ("GET", f"/{server.token[::-1]}/"),
            "another name": ("GET", f"{path}secret"),
            "another host": ("GET", path, None, {"Host": "evil.example"}),
            "a name that begins so": (
                "GET",
                path,
                None,
                {"Host": "localhost.evil.example:1"},
            ),
            "a name with a user": (
                "GET",
                path,
                None,
                {"Host": "127.0.0.1:1@evil.example"},
            ),
            "no host": ("GET", path, None, {"Host": " "}),
            "a file that it has not": ("GET", f"{path}file?path=/etc/passwd"),
            "another origin": ("POST", f"{path}steer", steer, other),
            "no origin": ("POST", f"{path}steer", steer, {"Origin": ""}),
            "a form of another page": (
                "POST",
                f"{path}steer",
                steer,
                {"Content_Type": "text/plain"},
            ),
            "no token to steer": ("POST", "/steer", steer),
            "no words": ("POST", f"{path}steer", ["cancel"]),
            "no word": ("POST", f"{path}steer", {}),
            "too much": ("POST", f"{path}steer", {"do": "cancel", "value": 5000 * "x"}),
        }
        for name, (method, address, *rest) in tries.items():
            headers = rest[1] if len(rest) > 1 else {}
            refused[name] = request(
                server, method, address, rest[0] if rest else None, **headers
            )[0].status
        assert request(server, "GET", path)[0].status == 200

    scheduler = in_a_run(backend, use, Job(nothing))
    assert {name: status for name, status in refused.items() if status != 403} == {}
    assert (scheduler.stop_reason.value, incidents_of(scheduler)) == ("completed", ())  # type: ignore[union-attr]


def test_an_answer_is_taken_from_the_page_alone(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user, another run, `steer=False`, no text: the question stays as it is."""
    ask = Answer("publish?", label="approve")
    told: dict[str, Any] = {}

    def use(server: PageServer) -> None:
        while not (state := server.page.state())["asks"]:
            server.page.ask()
        key = state["asks"][0][0]
        path, form = (
            f"/{server.token}/steer",
            {"do": "answer", "seen": state["seen"], "job": key},
        )
        form["marks"] = [state["marks"][key]]
        yes = form | {"value": "yes"}
        with pytest.raises(_client.NoAnswer):
            _client.ask(
                os.getpid(), {"do": "answer", "value": ["approve", "x" * 1_000_000]}
            )
        with monkeypatch.context() as patch:
            patch.setattr(_answers.answer_thread, "may_steer", False)
            told["steer=False"] = json.loads(request(server, "POST", path, yes)[1])[
                "error"
            ]
        with monkeypatch.context() as patch:
            patch.setattr(_answers, "peer_of", lambda _: (1, os.geteuid() + 1))
            told["another user"] = json.loads(request(server, "POST", path, yes)[1])
        told["another run"] = json.loads(
            request(server, "POST", path, yes | {"seen": "0"})[1]
        )["error"]
        told["no text"] = json.loads(
            request(server, "POST", path, form | {"value": {"yes": 1}})[1]
        )["error"]
        told["no question"] = json.loads(
            request(server, "POST", path, yes | {"job": 0})[1]
        )["error"]
        assert (ask.state.value, question_of(ask)) == (
            "running",
            ("publish?", None, False, "", 1),
        )
        told["the page"] = json.loads(request(server, "POST", path, yes)[1])

    in_a_run(backend, use, ask)
    assert ask.result() == "yes"
    assert told.pop("the page") == {"done": "'approve': answered 'yes'"}
    assert told.pop("another user").keys() == {"error"}
    assert "steer=False" in told.pop("steer=False")
    assert "look again" in told.pop("another run")
    assert "give it as text" in told.pop("no text")
    assert "asks nothing now" in told.pop("no question")
    assert not told


def exchange(server: PageServer, head: str, body: bytes = b"") -> bytes:
    """Send a request as bytes, and return the first line of the answer; b"" if there was none."""
    with socket.create_connection(
        ("127.0.0.1", server.server_address[1]), timeout=PATIENCE
    ) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(head.replace("\n", "\r\n").encode())
            connection.sendall(body)
        with connection.makefile("rb") as answer:
            return answer.readline().rstrip()


DEEP = (
    json.dumps({"do": "answer", "value": "x"})
    .replace('"x"', 1500 * "[" + 1500 * "]")
    .encode()
)


LARGEST = b'{"do": "fly"}'.ljust(_page.MAX_REQUEST_SIZE)


@pytest.mark.parametrize(
    ("size", "body", "status"),
    [
        ("", b"{}", 403),
        ("Content-Length: -1\n", b"{}", 403),
        ("Content-Length: two\n", b"{}", 403),
        (f"Content-Length: {5000 * '9'}\n", b"{}", 403),
        ("Content-Length: 0\n", b"", 403),
        (f"Content-Length: {_page.MAX_REQUEST_SIZE}\n", LARGEST, 200),
        (f"Content-Length: {_page.MAX_REQUEST_SIZE + 1}\n", b"%s " % LARGEST, 403),
        ("Content-Length: 1000000\n", 1_000_000 * b" ", 403),
        ("Content-Length: 1000000000\n", b"{}", 403),
        ("Transfer-Encoding: chunked\n", b"2\r\n{}\r\n0\r\n\r\n", 403),
        (f"Content-Length: {len(DEEP)}\n", DEEP, 403),
        ("Content-Length: 12\n", b'{"do": "fly"', 403),
        ("Content-Length: 13\n", b'{"do": "fly"}', 200),
    ],
)
def test_each_request_that_steers_has_answer(
    patient_server: PageServer, size: str, body: bytes, status: int
) -> None:
    """Whatever its size, as announced and as sent: a client that was cut off while it sent 1 MB had no answer."""
    host = f"127.0.0.1:{patient_server.server_address[1]}"
    common = f"Host: {host}\nOrigin: http://{host}\nContent-Type: application/json\n"
    head = f"POST /{patient_server.token}/steer HTTP/1.1\n{common}{size}\n"
    assert exchange(patient_server, head, body).startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize(
    "name",
    [
        "state?have=%ff",
        "job?key=two",
        f"job?key={5000 * '9'}",
        "jobs?seen=&which=box+two",
        "steer",
    ],
)
def test_a_wrong_address_is_refused(patient_server: PageServer, name: str) -> None:
    """Some had no answer at all; a question steers nothing."""
    head = f"GET /{patient_server.token}/{name} HTTP/1.1\nHost: localhost\n\n"
    assert exchange(patient_server, head).startswith(b"HTTP/1.1 403 ")


def test_a_body_that_comes_slowly_keeps_nobody_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others are answered meanwhile; the slow one is, too, once its body is complete, and one that ends early."""
    monkeypatch.setattr(_page.PageHandler, "timeout", PATIENCE)
    with serving(Page(os.getpid(), None)) as server:
        address, head = (
            ("127.0.0.1", server.server_address[1]),
            steering_head(server, 13),
        )
        with (
            socket.create_connection(address, PATIENCE) as slow,
            socket.create_connection(address, PATIENCE) as early,
        ):
            for connection in (slow, early):
                connection.sendall(head + b'{"do":')
            for byte in b' "fly"':
                slow.sendall(bytes([byte]))
                assert request(server, "GET", f"/{server.token}/")[0].status == 200
            slow.sendall(b"}")
            early.shutdown(socket.SHUT_WR)
            lines = [
                connection.makefile("rb").readline() for connection in (slow, early)
            ]
    assert [line.split()[1] for line in lines] == [b"200", b"403"]


def test_a_body_that_never_ends_is_cut_off(
    patient_server: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_page.PageHandler, "timeout", 0.2)
    head = steering_head(patient_server, 13).decode().replace("\r\n", "\n")
    assert exchange(patient_server, head, b'{"do":') == b""


def steering_head(server: PageServer, size: int) -> bytes:
    host = f"127.0.0.1:{server.server_address[1]}"
    words = [
        f"Host: {host}",
        f"Origin: http://{host}",
        "Content-Type: application/json",
        f"Content-Length: {size}",
    ]
    return "\r\n".join(
        [f"POST /{server.token}/steer HTTP/1.1", *words, "", ""]
    ).encode()


@pytest.fixture
def patient_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PageServer]:
    """Serve the page of no run, which waits for what is late as long as a busy machine needs."""
    monkeypatch.setattr(_page, "LINGER_TIMEOUT", PATIENCE)
    monkeypatch.setattr(_page.PageHandler, "timeout", PATIENCE)
    with serving(Page(os.getpid(), None)) as server:
        yield server


def test_a_page_is_served_behind_a_forwarded_port(backend: Any) -> None:
    """Any port of this machine will do, in any case, with the token; an address without its last slash leads there."""
    answers = dict[str, int]()

    def use(server: PageServer) -> None:
        for host in ("localhost", "127.0.0.1:8000", "LOCALHOST:8000", "[::1]:8000"):
            answers[host] = request(server, "GET", f"/{server.token}/", Host=host)[
                0
            ].status
            own = {"Host": host, "Origin": f"http://{host}"}
            answers[f"post {host}"] = request(
                server, "POST", f"/{server.token}/steer", {"do": "fly"}, **own
            )[0].status
        answers["no slash"] = (
            moved := request(server, "GET", f"/{server.token}")[0]
        ).status
        assert moved.headers["Location"] == f"/{server.token}/"

    in_a_run(backend, use)
    assert answers.pop("no slash") == 308
    assert set(answers.values()) == {200}


@pytest.mark.parametrize(("port", "options"), [(22, ""), (2222, "-p 2222 ")])
def test_in_a_session_of_ssh_the_command_that_forwards_the_port_is_printed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    port: int,
    options: str,
) -> None:
    """Beside the address of a page stands how to open it on the machine from which the user has come."""
    monkeypatch.setenv("SSH_CONNECTION", f"192.0.2.1 50000 192.0.2.9 {port}")
    monkeypatch.setenv("LOGNAME", "ada")
    _outputs.echo_address("http://127.0.0.1:38911/token/")
    command = f"ssh -L 38911:127.0.0.1:38911 {options}ada@192.0.2.9"
    assert (
        capsys.readouterr().out.splitlines()[1]
        == f"From your own machine, first: {command}"
    )


def test_strangers_cannot_keep_a_page_from_a_browser(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of more silent connections than a page keeps, the oldest is cut off; a browser's, which had the token, is not."""
    monkeypatch.setattr(_page, "MAX_STRANGERS", 3)

    def use(server: PageServer) -> None:
        address = "127.0.0.1", server.server_address[1]
        browser = http.client.HTTPConnection(*address, timeout=PATIENCE)
        for number in range(3):
            browser.request("GET", f"/{server.token}/")
            seen.append(browser.getresponse().read() != b"")
            silent.extend(
                socket.create_connection(address, timeout=PATIENCE)
                for _ in range(3 + number)
            )
        seen.append(silent[0].recv(1))
        browser.close()
        seen.append(request(server, "GET", f"/{server.token}/")[0].status)

    seen, silent = list[Any](), list[socket.socket]()
    in_a_run(backend, use)
    for connection in silent:
        connection.close()
    assert seen == [True, True, True, b"", 200]


def test_a_stranger_is_no_browser_that_a_page_waits_for(backend: Any) -> None:
    """Who asks without the token, or as another host, does not keep the server of a page after the end of its run."""
    asked = list[Any]()

    def use(server: PageServer) -> None:
        request(server, "GET", "/")
        request(server, "GET", f"/{server.token}/", Host="evil.example")
        asked.append({**server.browsers})

    in_a_run(backend, use)
    assert asked == [{}]


def test_each_browser_gets_the_end_of_a_run(virtual: Virtual) -> None:
    """The server waits for each that shows the page, whatever connections it uses. It ended when the first had the
    report, and the second lost it."""
    trace = Trace()
    virtual(lambda: Scheduler(Job(nothing)).co_run(instruments=[trace]))
    with serving(TracePage(trace._get_record())) as server:
        path = f"/{server.token}/"
        silent = http.client.HTTPConnection(
            "127.0.0.1", server.server_address[1], timeout=PATIENCE
        )

        def ask_by_the_silent(name: str) -> bytes:
            silent.request("GET", path + name)
            return silent.getresponse().read()

        assert ask_by_the_silent("state")
        for name in ("one", "other", "one"):
            request(server, "GET", f"{path}state?by={name}")
        ending = threading.Thread(target=server.show_end)
        ending.start()
        for get in (
            lambda: request(server, "GET", f"{path}report.html?by=one"),
            lambda: request(
                server, "GET", f"{path}report.html"
            ),  # which no browser is known to have asked for
            lambda: ask_by_the_silent("report.html"),
        ):
            get()
            ending.join(0.2)
            assert ending.is_alive()
        request(server, "GET", f"{path}report.html?by=other")
        ending.join(PATIENCE)
        assert not ending.is_alive()
        silent.close()


def test_files_of_outputs_are_served_as_text(backend: Any, tmp_path: Path) -> None:
    """A page links to the files of outputs that it lists, whatever is in their names; the server sends no others."""
    path = tmp_path / "out & #é.html"
    found = dict[str, Any]()

    def look() -> None:
        with serving() as server:
            page, state = server.page, server.page.state()
            [[key, *_]] = state["failed"]
            [[stream, link, shown]] = page.job(state["seen"], key)["files"]
            answer, text = request(server, "GET", f"/{server.token}/{link}")
            found.update(
                stream=stream,
                shown=shown,
                text=text,
                kind=answer.headers["Content-Type"],
            )
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            found["listed"] = link.replace("&", "&amp;") in page.html()[1]
            found["saved"] = path.as_uri() in page.report()
            path.unlink()
            found["gone"] = request(server, "GET", f"/{server.token}/{link}")[0].status

    command = CommandJob(["sh", "-c", "echo '<b>'; exit 3"], stdout=path)
    looking = ThreadJob(look)
    looking.requires(command, settled=True)
    Scheduler(command, looking).run(backend=backend)
    assert looking.result() is None
    assert found == {
        "stream": "stdout", "shown": str(path), "text": "<b>\n", "kind": "text/plain; charset=utf-8",
        "listed": True, "saved": True, "gone": 404,
    }  # fmt: skip


def test_a_page_runs_its_own_script_alone_and_is_in_no_frame(backend: Any) -> None:
    """The policy, as header and in the page, allows one script by its hash, and a page to talk to its server alone."""
    answers: list[Any] = []
    in_a_run(
        backend,
        lambda server: answers.append(request(server, "GET", f"/{server.token}/")),
    )
    [(answer, text)] = answers
    policy, _, frames = answer.headers["Content-Security-Policy"].rpartition("; ")
    assert policy.startswith(
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-"
    )
    assert policy.endswith(
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'"
    )
    assert (frames, f'content="{policy}"' in text) == ("frame-ancestors 'none'", True)
    assert (answer.headers["Cache-Control"], answer.headers["Referrer-Policy"]) == (
        "no-store",
        "no-referrer",
    )


def test_a_page_of_a_batch_counts_all_commands(tmp_path: Path) -> None:
    here, go = tmp_path / "here", tmp_path / "go"
    lines = [
        "true",
        "true",
        "true",
        "true",
        f"touch {here}; until test -e {go}; do sleep 0.01; done",
        "true",
        "true",
    ]
    with running("-j1", ":::", *lines) as process:
        until_there(here)
        page = Page(process.pid, None)
        page.ask()
        state = page.state()
        go.touch()
        page.follow()
        ended, report = page.state(), page.report()
        process.communicate(timeout=PATIENCE)
    assert (
        state["settled"],
        state["count"],
        state["running_count"],
        state["idle"],
    ) == (4, 7, 1, 2)
    assert (
        "4 of them are not here" in state["lacks"],
        "4 of them are not here" in report,
    ) == (True, True)
    assert (
        "all 7 jobs succeeded" in ended["verdict"],
        "feed" in report.partition("<body>")[2],
    ) == (True, False)
    assert (
        "waited for jobs to be added" in report,
        "Unknown, because jobs are missing" in report,
    ) == (False, True)


def test_a_page_shows_a_run_and_steers_it(backend: Any) -> None:
    """What runs, waits and failed is on the page; a word takes effect, and is an incident; a wrong one is an error."""
    pages: list[str] = []

    def use(server: PageServer) -> None:
        path = f"/{server.token}/"
        state = json.loads(request(server, "GET", f"{path}state")[1])
        while state["running_count"] != 3 or not state["failed"]:
            server.page.ask()
            state = json.loads(request(server, "GET", f"{path}state")[1])
        keys = {name: key for key, name, *_ in state["running"]}
        words = [
            ("pause", None, None),
            ("window", 2, None),
            ("cancel", None, keys["a\\x1bb"]),
            ("cancel", None, 99),
        ]
        for do, value, job in [*words, ("fly", None, None)]:
            body = {
                "do": do,
                "value": value,
                "job": job,
                "seen": state["seen"],
                "marks": ["1"],
            }
            pages.append(request(server, "POST", f"{path}steer", body)[1])
        pages.append(
            request(
                server, "POST", f"{path}steer", {"do": "cancel", "seen": "another"}
            )[1]
        )
        has_paused.set()
        state = server.page.state()
        while not state["waiting"] or state["running_count"] != 1:
            server.page.ask()
            state = server.page.state()
        states.append(state)
        job = request(
            server, "GET", f"{path}job?seen={state['seen']}&key={keys['looking']}"
        )[1]
        pages.append(job)
        pages.append(request(server, "GET", f"{path}report.html")[1])
        request(
            server,
            "POST",
            f"{path}steer",
            {"do": "resume", "seen": state["seen"], "marks": ["paused"]},
        )

    has_paused, states = threading.Event(), list[Any]()
    odd, wrong = (
        Job(anyio.sleep_forever, label="a\x1bb"),
        Job(fail, 0, ValueError("broken"), label="wrong"),
    )
    before = ThreadJob(has_paused.wait)
    scheduler = in_a_run(
        backend, use, odd, wrong, before, Job(nothing, required=before), jobs_window=4
    )
    pause, window, cancel, unknown, wrong_word, another, job, report = pages
    [state] = states
    assert json.loads(pause) == {"done": "'night': paused"}
    assert ", on its page" in incidents_of(scheduler)[0].message
    assert json.loads(window) == {"done": "'night': jobs_window set to 2"}
    assert json.loads(cancel) == {"done": "'a\\x1bb': cancelled"}
    assert "this job has ended" in json.loads(unknown)["error"]
    assert "'fly' is none of pause, resume" in json.loads(wrong_word)["error"]
    assert "what is not so any more" in json.loads(another)["error"]
    assert (odd.state.name, scheduler.jobs_window) == ("CANCELLED", 2)
    assert (state["running_count"], state["waiting"][0][4]) == (
        1,
        state["waiting"][0][4],
    )
    assert "waits for a resume" in state["waiting"][0][4]
    assert state["failed"][0][3] == "ValueError: broken"
    assert (json.loads(job)["state"], json.loads(job)["can_cancel"]) == (
        "running",
        True,
    )
    assert 'id="live"' not in report
    assert report.count("<script") == 2


def test_a_program_that_refuses_to_be_steered_has_a_page_without_buttons(
    backend: Any,
) -> None:
    """The page shows the run, hides the buttons, and a word is refused."""
    texts, states = list[str](), list[bool]()

    def use(server: PageServer) -> None:
        state = server.page.state()
        states.append(state["steered"])
        texts.append(
            request(
                server,
                "POST",
                f"/{server.token}/steer",
                {"do": "cancel", "seen": state["seen"]},
            )[1]
        )

    trioflow.look.enable(steer=False)
    try:
        in_a_run(backend, use)
    finally:
        trioflow.look.enable()
    assert states == [False]
    assert "refuses to be steered" in texts[0]


@pytest.mark.parametrize("keep_jobs", [True, False])
def test_a_page_says_if_jobs_may_be_missing(keep_jobs: bool) -> None:
    """With `keep_jobs=False`, jobs that ended before the first question leave no trace on the page."""
    texts: list[str] = []
    in_a_run(
        "trio",
        lambda server: texts.append(server.page.state()["lacks"]),
        keep_jobs=keep_jobs,
    )
    assert ("The program drops jobs that have ended" in texts[0]) is not keep_jobs


@pytest.mark.parametrize("most", [200, 3])
def test_a_page_has_jobs_that_are_soon_gone(
    backend: Any, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """A scheduler that drops jobs keeps the last ones while a page asks, failures included."""

    async def main() -> None:
        async with Scheduler(
            label="server", keep_jobs=False, critical_jobs=False
        ) as scheduler:
            group = scheduler.add(
                Scheduler(
                    Job(anyio.sleep_forever),
                    label="group",
                    forever=True,
                    keep_jobs=False,
                )
            )
            await scheduler.add(Job(nothing, label="before"))
            for page in pages:
                await anyio.to_thread.run_sync(page.ask)
            for number in range(3):
                await scheduler.add(Job(nothing, label=f"job {number}"))
                await group.add(Job(nothing, label="same"))
                with contextlib.suppress(ValueError):
                    await scheduler.add(Job(fail, 0, ValueError(), label="wrong"))
                for page in pages[number:]:
                    await anyio.to_thread.run_sync(page.ask)

    monkeypatch.setattr(_watch, "MAX_DROPPED", most)
    pages = [Page(os.getpid(), None), Page(os.getpid(), None)]
    anyio.run(main, backend=backend)
    pages[0].ask()
    one, two = (
        Counter((span.path, span.state.value) for span in page._run.record().spans)
        for page in pages
    )
    assert (one["group/same", "succeeded"], one["wrong", "failed"]) == (
        3,
        3 if most == 200 else 2,
    )
    assert [one[f"job {number}", "succeeded"] for number in range(3)] == [
        1,
        most == 200,
        1,
    ]
    assert (
        two["group/same", "succeeded"],
        two["wrong", "failed"],
        two["before", "succeeded"],
    ) == (2, 2, 0)


def test_a_run_that_a_page_sees_before_it_has_begun_is_the_first(backend: Any) -> None:
    """Instruments may take their time before a run begins; who looks meanwhile does not count it twice."""
    page = Page(os.getpid(), None)
    group = Scheduler(ThreadJob(page.ask), label="group")
    Scheduler(
        group, label="night", instruments=[hooked(before_run=lambda _: page.ask())]
    ).run(backend=backend)
    record = page._run.record()
    assert (
        {span.run for span in record.spans},
        {run.run_number for run in record.runs},
    ) == ({1}, {1})


@pytest.mark.parametrize(
    ("one", "several"),
    [
        ("waits for a slot: it waits", "wait for a slot: it waits"),
        (_explain.READY_TEXT, "are ready, and start" + _explain.READY_TEXT[20:]),
        (
            "is ready, but 'a' blocks the event loop",
            "are ready, but 'a' blocks the event loop",
        ),
        ("the first waits for 'is ready, '", "the first waits for 'is ready, '"),
    ],
)
def test_several_jobs_wait_in_the_plural(one: str, several: str) -> None:
    run = WatchedRun()
    shown: list[str] = []
    for count in (1, 2):
        run.answer = NO_ANSWER | {"waiting": [("slot", count * [7], count, one)]}
        shown.append(_console.console(run, "", False)["waiting"][0][4])
    assert shown == [one, several]


def test_an_answer_that_was_lost_is_told_again(backend: Any) -> None:
    """If a number is missing, the next answer has all, and the page shows what a page shows that is opened then."""
    pages, ask = (
        [Page(os.getpid(), None), Page(os.getpid(), None)],
        Answer("publish?", label="approve"),
    )
    shown: list[Any] = []

    def look() -> None:
        page = pages[0]
        while not page.state()["asks"]:
            page.ask()
        ask.answer("yes")
        while not ask.is_settled():
            time.sleep(0.01)
        page.ask()
        _client.ask(
            os.getpid(), {"watch": page._key, "number": page._run.answer["number"]}
        )  # nobody reads the answer
        for each in pages:
            each.ask()
            spans = {span.path: span.state for span in each._run.record().spans}
            shown.append(
                (spans, [[row[1], *row[3::2]] for row in each.state()["log"]["lines"]])
            )

    jobs = [Job(nothing, label=f"job {number}") for number in range(4)]
    Scheduler(ThreadJob(look, critical=True), ask, *jobs).run(backend=backend)
    assert len(shown[0][0]) == 6
    assert shown[0] == shown[1]


class Results:
    def __init__(self) -> None:
        self.made: list[weakref.ref[set[int]]] = []

    async def make(self) -> set[int]:
        result = {1}
        self.made.append(weakref.ref(result))
        return result

    def are_left(self) -> bool:
        return any(result() is not None for result in self.made)


def test_nothing_is_kept_for_a_page_that_was_closed(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program forgets the run, and the results of dropped jobs, for a page that does not ask any more."""
    results = Results()

    async def main() -> None:
        async with Scheduler(label="server", keep_jobs=False) as scheduler:
            await scheduler.add(Job(nothing))
            await anyio.to_thread.run_sync(Page(os.getpid(), None).ask)
            for _ in range(3):
                await scheduler.add(Job(results.make))
            while results.are_left():
                gc.collect()
                await anyio.sleep(0.01)

    monkeypatch.setattr(_answers, "ABANDONED_AFTER", 0.05)
    anyio.run(main, backend=backend)
    assert len(results.made) == 3
    while _answers.watches:
        time.sleep(0.01)


def test_dropped_jobs_are_kept_only_until_they_were_told(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is told anew, because an answer was lost, is no more kept for what was to come after that answer."""
    results, page = Results(), Page(os.getpid(), None)

    async def main() -> None:
        async with Scheduler(label="server", keep_jobs=False) as scheduler:
            await scheduler.add(Job(nothing))
            await anyio.to_thread.run_sync(page.ask)
            lost = {"watch": page._key, "number": 1}
            await anyio.to_thread.run_sync(_client.ask, os.getpid(), lost)
            await anyio.to_thread.run_sync(page.ask)
            for _ in range(3):
                await scheduler.add(Job(results.make))
            with anyio.fail_after(PATIENCE):
                while results.are_left():
                    await anyio.to_thread.run_sync(page.ask)
                    gc.collect()

    monkeypatch.setattr(_answers, "WATCH_INTERVAL", 0.01)
    anyio.run(main, backend=backend)
    assert len(results.made) == 3


def test_a_page_shows_a_second_run_of_its_scheduler_as_a_run_and_can_steer_it(
    backend: Any,
) -> None:
    """It showed the jobs as "run 2", with those that the first run had added, and buttons said that it had ended."""
    page = Page(os.getpid(), None)
    found: list[Any] = []

    async def grow() -> None:
        if not found:
            scheduler.add(Job(nothing, label="added"))

    def look() -> None:
        page.ask()
        found.append(sorted(span.name for span in page._run.record().spans))
        words = {"watch": page._key, "seen": page._run.answer["seen"], "page": True}
        found.append(_client.ask(os.getpid(), {"do": "pause", **words}))
        resumed = {"do": "resume", "marks": ["paused"], **words}
        found.append(_client.ask(os.getpid(), resumed))

    grows = Job(grow, label="grow")
    looks = ThreadJob(look, label="look", required=grows)
    scheduler = Scheduler(grows, looks, label="night")
    for _ in range(2):
        assert scheduler.run(backend=backend)
    done = [{"done": "'night': paused"}, {"done": "'night': resumed"}]
    assert found == [["added", "grow", "look"], *done, ["grow", "look"], *done]


def test_a_page_that_was_forgotten_shows_its_own_run_again_and_no_other(
    backend: Any,
) -> None:
    page = Page(os.getpid(), None)

    def look() -> None:
        page.ask()
        _answers.watches.clear()
        page.ask()

    def look_later() -> None:
        _answers.watches.clear()
        page.ask()

    assert Scheduler(ThreadJob(look, label="looking"), label="one").run(backend=backend)
    assert [span.path for span in page._run.record().spans] == ["looking"]
    later = ThreadJob(look_later)
    assert not Scheduler(later, label="two").run(backend=backend)
    assert str(later.raised_exception()).endswith("the run has ended")
    assert page.state()["title"] == "one"


@pytest.mark.parametrize("word", ["cancel", "drain", "pause"])
def test_a_page_steers_no_other_run_than_it_shows(backend: Any, word: str) -> None:
    page = Page(os.getpid(), None)
    assert Scheduler(ThreadJob(page.ask, label="load"), label="one").run(
        backend=backend
    )
    seen = page.state()["seen"]
    [key] = page._run.jobs

    def steer() -> list[str]:
        assert not page.has_ended
        return [
            page.steer({"do": word, "seen": seen, "job": job})["error"]
            for job in (None, key)
        ]

    steering = ThreadJob(steer, label="load")
    two = Scheduler(steering, Job(nothing), label="two")
    assert two.run(backend=backend)
    assert steering.result() == ["the run that the page shows has ended"] * 2
    assert incidents_of(two) == ()


def test_a_program_that_ends_tells_its_page_how() -> None:
    with program() as (process, page):
        following = threading.Thread(target=page.follow, daemon=True)
        following.start()
        process.communicate(b"\n")
        following.join()
        state, text = page.state(), page.html()[1]
    assert (state["ended"], "OSError: broken" in text, "has not ended" in text) == (
        True,
        True,
        False,
    )
    assert "OSError: broken" in page.report()


def test_news_are_told_at_once(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that has the page waits for another one: it gets that as soon as the program has told more."""

    def look() -> None:
        with (
            serving(Page(os.getpid(), None)) as server,
            monkeypatch.context() as patient,
        ):
            patient.setattr(_answers, "WATCH_INTERVAL", 60.0)
            asking = threading.Timer(0.01, server.page.ask)
            asking.start()
            texts.append(
                request(
                    server, "GET", f"/{server.token}/state?have={server.page.version}"
                )[1]
            )
            asking.join()

    texts: list[str] = []
    Scheduler(ThreadJob(look, label="looking")).run(backend=backend)
    assert json.loads(texts[0])["running_count"] == 1


def test_a_page_waits_for_a_run(backend: Any) -> None:
    page = Page(os.getpid(), None)
    page.ask()
    assert (page.state()["phase"], page.has_ended) == ("waits for a run", False)
    asked = ThreadJob(page.ask, label="asked")
    other = ThreadJob(lambda: Page(os.getpid(), "other").ask(), label="other")
    assert not Scheduler(asked, other, label="night").run(backend=backend)
    assert page.state()["title"] == "night"
    assert "choose a run by --run LABEL: in progress are 'night'" in str(
        other.raised_exception()
    )


@pytest.mark.usefixtures("impatient", "answers")
@pytest.mark.parametrize("is_own", [False, True])
def test_a_page_shows_a_run_that_has_ended_before_its_first_answer(
    backend: Any, is_own: bool
) -> None:
    """Who has come before the run gets its end, however short it is; so does the page that a program starts itself."""
    page, other = Page(os.getpid(), None, "key" * is_own), Page(os.getpid(), None)
    other.ask()
    if is_own:
        _answers.expect_page("key")
    else:
        page.ask()
    assert not Scheduler(Job(fail, 0, label="bad"), Job(nothing), label="short").run(
        backend=backend
    )
    page.ask()
    other.ask()
    state = page.state()
    assert other.state()["ended"]
    assert (state["ended"], state["title"], state["settled"], state["count"]) == (
        True,
        "short",
        2,
        2,
    )
    assert state["verdict"].startswith("1 failed of 2")
    assert [row[2] for row in state["failed"]] == ["bad"]
    assert Scheduler(Job(nothing), label="later").run(backend=backend)
    assert [key for key, watch in _answers.watches.items() if not watch.is_over] == []


def test_the_page_of_a_trace_has_the_panel_of_each_job(tmp_path: Path) -> None:
    """A chosen job of a trace shows what the trace knows; of a group that was tried again, its last run."""
    attempts = itertools.count()

    async def fails_once() -> None:
        if not next(attempts):
            raise OSError("again")

    bad = Job(fail, 0, label="bad", retry=1)
    group = Scheduler(
        Job(fails_once, label="step", critical=True), label="group", retry=1
    )
    command = CommandJob(
        ["echo", "words"], stdout=subprocess.PIPE, label="says", required=group
    )
    trace = Trace()
    Scheduler(bad, group, command, label="night").run(instruments=[trace])
    save(trace, tmp_path / "night.json")
    page = TracePage(read_record(tmp_path / "night.json"))
    state = page.state()
    assert (state["count"], state["settled"], len(state["failed"])) == (3, 3, 1)
    keys = {facts.span.path: key for key, (_, facts) in page._run.jobs.items()}
    assert sorted(keys) == ["bad", "group", "group/step", "says"]
    told = {path: page.job(state["seen"], key) for path, key in keys.items()}
    assert dict(told["bad"]["facts"])["attempts"] == "2"
    assert "OSError: broken" in told["bad"]["traceback"]
    assert [text for _, text in told["says"]["outputs"]] == ["words"]
    assert [link[1] for link in told["says"]["requires"]] == ["group"]
    assert [link[1] for link in told["group"]["required_by"]] == ["says"]


def test_a_chosen_job_says_of_its_attempts_what_the_job_does(
    tmp_path: Path, virtual: Virtual
) -> None:
    """`took` is without backoffs and throttles, whose attempts are none, and so is the count."""
    ends = {
        "waits": [OSError("busy")],
        "throttled": [OSError("busy"), Throttled("api", after=9)],
        "again": [OSError("x")],
    }

    async def work(name: str) -> None:
        await anyio.sleep(2)
        if ends[name]:
            raise ends[name].pop(0)

    options: dict[str, Any] = {
        "needs": {"api": 1},
        "retry": Retry(1, first=5, jitter=False),
        "log": False,
    }
    jobs = [
        Job(work, name, label=name, **(options if name != "again" else {"log": False}))
        for name in ends
    ]

    async def again() -> None:
        await jobs[-1].wait_settled()
        await anyio.sleep(40)
        jobs[-1].try_again()

    trace = Trace()
    virtual(
        lambda: Scheduler(*jobs, Job(again), pool=Pool(api=2), label="night").co_run(
            instruments=[trace]
        )
    )
    save(trace, tmp_path / "night.json")
    page = TracePage(read_record(tmp_path / "night.json"))
    seen = page.state()["seen"]
    told = {
        facts.span.path: dict(page.job(seen, key)["facts"])
        for key, (_, facts) in page._run.jobs.items()
    }
    for job in jobs:
        assert told[job.path]["took"].startswith(
            f"{duration_text(job.took)}, until "
        ), (job, told[job.path])
        assert told[job.path]["attempts"] == str(job.attempts), (job, told[job.path])
    assert [(job.attempts, job.took) for job in jobs] == [(2, 4)] * 3
    assert [(len(span.attempts), span.took) for span in trace.spans[:3]] == [(2, 4)] * 3


def test_a_trace_has_the_page_of_a_run_that_has_ended(tmp_path: Path) -> None:
    trace = Trace()
    Scheduler(Job(nothing, label="only"), label="night").run(instruments=[trace])
    save(trace, tmp_path / "night.json")
    with serving(TracePage(read_record(tmp_path / "night.json"))) as server:
        text = request(server, "GET", f"/{server.token}/page")[1]
        state = server.page.state()
        saved = request(server, "GET", f"/{server.token}/report.html")[1]
    assert (state["ended"], state["steered"], state["title"], ">night<" in text) == (
        True,
        False,
        "night",
        True,
    )
    assert saved == report_html(read_record(tmp_path / "night.json"), Path.cwd())
    assert (
        "a trace is shown by --web alone"
        in trioflow_command("look", tmp_path / "night.json").output
    )
    assert (
        "nor a trace file 'nope.json'"
        in trioflow_command("look", "nope.json", "--web").output
    )


def test_a_run_has_a_page_of_its_own(tmp_path: Path) -> None:
    """`run --web` prints the address of a page, which another process serves until a browser has the end of the run."""
    path = tmp_path / "flow.py"
    path.write_text(
        PROGRAM.replace(".run()", "").replace("Scheduler(Job", "s = Scheduler(Job"),
        encoding="utf-8",
    )
    words = ["-m", "trioflow", "run", "--no-monitor", "--web", str(path)]
    pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with Python(words, text=True, **pipes) as process:
        url = process.stderr.readline().strip()
        assert process.stdout.readline() == "works\n"
        with urllib.request.urlopen(url) as answer:
            page = answer.read().decode()
        state = dict[str, Any]()
        while not state.get("running"):  # the page has seen the run
            with urllib.request.urlopen(f"{url}state") as answer:
                state = json.load(answer)
        urllib.request.urlopen(f"{url}report.html").close()  # which is not its end
        _, errors = process.communicate("\n")
    while not state["ended"]:  # the page may still be reading the last answer
        with urllib.request.urlopen(f"{url}state") as answer:
            state = json.load(answer)
    assert '<section id="live"' in page
    assert (process.returncode, "OSError: broken" in errors) == (3, True)
    with urllib.request.urlopen(f"{url}report.html") as answer:
        assert "OSError: broken" in answer.read().decode()
    connect = urllib.request.urlopen
    with pytest.raises(OSError):  # noqa: PT011 - it is refused, or cut off
        [connect(url).close() for _ in itertools.count()]


def test_a_run_that_is_refused_has_no_page(tmp_path: Path) -> None:
    """It printed the address of a page, and then that another run is using its journal."""
    path = tmp_path / "flow.py"
    path.write_text(
        PROGRAM.replace(".run()", "").replace("Scheduler(Job", "s = Scheduler(Job"),
        encoding="utf-8",
    )
    words = [
        "-m",
        "trioflow",
        "run",
        "--no-monitor",
        "--journal",
        str(tmp_path / "run.db"),
        str(path),
    ]
    with Python(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"works\n"
            second = python(*words, "--web", text=True)
        finally:
            process.kill()
    assert "another run is using it" in second.stderr
    assert "http://" not in second.stderr
