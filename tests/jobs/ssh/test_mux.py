"""Sessions that are asked for without an ssh: of a real one that holds a connection, and of one that means no good."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Self

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioflow import Job, JobTimeout, Scheduler, SshError, SshJob, SshNode
from trioflow.jobs.ssh import _connections, _mux, _remote_commands
from trioflow.jobs.ssh._mux import MessageReader, MuxSession, MuxUnavailable
from trioflow.jobs.ssh._transport import READY, Gateway, OpenSsh

from ...bodies import run
from ...places import PATIENCE
from ..posix.process_trees import TREE, Watched, until_there
from .servers import Server, Site, targets

PIPE = subprocess.PIPE
Answer = Callable[[socket.socket], None]


def said(*numbers: int, text: bytes | None = None) -> bytes:
    """Return a message of the one that holds a connection."""
    body = struct.pack(f">{len(numbers)}I", *numbers)
    if text is not None:
        body += len(text).to_bytes(4, "big") + text
    return len(body).to_bytes(4, "big") + body


HELLO = said(_mux.HELLO, 4)


class Master(OpenSsh):
    """Holds no connection: who comes to its socket is answered by a function each, the last one again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.came = self.processes = 0
        self._answers = answers
        self._stack = contextlib.ExitStack()

    def connect(self, node: SshNode, path: str, gateway: Gateway | None) -> list[str]:
        listener = self._stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(f"{path}.new")
        listener.listen()
        thread = threading.Thread(target=self._accept, args=(listener,))
        thread.start()
        self._stack.callback(thread.join, PATIENCE)
        self._stack.callback(listener.shutdown, socket.SHUT_RDWR)
        return holding(path)

    def run(self, node: SshNode, path: str, line: str) -> list[str]:
        self.processes += 1
        return ["sh", "-c", line]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                answer = self._answers[min(self.came, len(self._answers) - 1)]
                self.came += 1
                thread = threading.Thread(target=self._answer, args=(client, answer))
                thread.start()
                self._stack.callback(thread.join, PATIENCE)

    def _answer(self, client: socket.socket, answer: Answer) -> None:
        with client, contextlib.suppress(ConnectionError):
            answer(client)


def holding(path: str) -> list[str]:
    """Return what has a socket appear, as one that holds a connection does, and goes on."""
    return ["sh", "-c", f"mv {path}.new {path}; echo {READY}; exec sleep 1000"]


def request(client: socket.socket) -> tuple[bytes, list[int]]:
    """Return the requested command line, and the descriptors."""
    client.sendall(HELLO)
    assert message(client) == HELLO[4:]
    asked = message(client)
    descriptors = descriptors_of(client)
    assert struct.unpack(">8I", asked[:32]) == (_mux.NEW_SESSION, 0, 0, 0, 1, 1, 0, 0xFFFFFFFF)
    assert asked[32:36] == bytes(4)
    size = int.from_bytes(asked[36:40], "big")
    return asked[40 : 40 + size], descriptors


def descriptors_of(client: socket.socket) -> list[int]:
    return [socket.recv_fds(client, 1, 1)[1][0] for _ in range(3)]


def message(client: socket.socket) -> bytes:
    """Return the next message; ConnectionError if there is none."""
    size = int.from_bytes(exactly(client, 4), "big")
    return exactly(client, size)


def exactly(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = client.recv(size - len(data))
        if not piece:
            raise ConnectionError
        data += piece
    return data


def serves(client: socket.socket) -> None:
    """Run what is asked for, and tell it byte by byte."""
    line, descriptors = request(client)
    stdin, stdout, stderr = descriptors
    process = subprocess.Popen(["sh", "-c", line], stdin=stdin, stdout=stdout, stderr=stderr)
    for one in descriptors:
        os.close(one)
    told = said(_mux.OPENED, 0, 7) + said(_mux.NO_TERMINAL, 7)
    told += said(_mux.EXITED, 7, process.wait(PATIENCE))
    for one in told:
        client.sendall(bytes([one]))


def answers(*, hello: bool, after: bytes = b"", waits: bool = False) -> Answer:
    """Say something in the place of a hello, or after a request; then go, or wait until the other one goes."""

    def answer(client: socket.socket) -> None:
        if hello:
            for one in request(client)[1]:
                os.close(one)
        client.sendall(after)
        while waits and client.recv(4096):
            pass

    return answer


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Master]]:
    """Play the process that holds a connection."""
    with contextlib.ExitStack() as stack:

        def start(*given: Answer) -> Master:
            master = stack.enter_context(Master(*given))
            monkeypatch.setattr(_connections, "OPENSSH_CLIENT", master)
            return master

        yield start


Play = Callable[..., Master]


def test_a_session_without_a_process(backend: str, play: Play) -> None:
    """The bytes may arrive in any pieces; the exit code is the command's."""
    master = play(serves)
    node = SshNode("node")
    jobs = [SshJob(node, "echo out; echo err >&2; exit 3", check=False, stdout=PIPE, stderr=PIPE) for _ in range(2)]
    Scheduler(*jobs, jobs_window=1).run(backend=backend, check=True)
    for job in jobs:
        result = job.result()
        assert (result.stdout, result.stderr, result.returncode) == (b"out\n", b"err\n", 3)
    assert (master.came, master.processes) == (2, 0)


OTHERS = {
    "another version": (answers(hello=False, after=said(_mux.HELLO, 5), waits=True), 1),
    "no hello": (answers(hello=False, after=said(_mux.OPENED, 0, 1), waits=True), 1),
    "an empty message": (answers(hello=False, after=bytes(4), waits=True), 1),
    "nothing": (answers(hello=False), 2),
    "half of a hello": (answers(hello=False, after=HELLO[:-2]), 2),
    "noise": (answers(hello=False, after=b"\xff" * 1000, waits=True), 2),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_master_with_another_protocol_is_left_to_ssh(backend: str, play: Play, name: str) -> None:
    """Nothing was asked for, so nothing can run twice; what cannot change is not tried again."""
    answer, times = OTHERS[name]
    master = play(answer)
    jobs = [SshJob(SshNode("node"), "echo x", stdout=PIPE) for _ in range(2)]
    Scheduler(*jobs, jobs_window=1).run(backend=backend, check=True)
    assert [job.result().text for job in jobs] == ["x\n"] * 2
    assert (master.came, master.processes) == (times, 2)


def test_an_environment_too_long_for_a_request_is_left_to_ssh(
    backend: str, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The variables of this program may be many."""
    monkeypatch.setenv("TRIOFLOW_TEST_LONG", "x" * 100_000)
    monkeypatch.setattr(_mux, "MAX_REQUEST_BYTES", 100_000)
    master = play(serves)
    job = SshJob(SshNode("node"), "echo x", stdout=PIPE)
    run(backend, job)
    assert job.result().text == "x\n"
    assert (master.came, master.processes) == (0, 1)


def test_a_socket_in_front_of_which_too_many_wait_is_left_to_ssh(
    backend: str, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No one else of this program waits for that."""
    master = play(serves)

    with contextlib.ExitStack() as stack:

        def connect(node: SshNode, path: str, gateway: Gateway | None) -> list[str]:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(f"{path}.new")
            listener.listen(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                    waiting.setblocking(False)
                    waiting.connect(f"{path}.new")
            return holding(path)

        monkeypatch.setattr(master, "connect", connect)
        job = SshJob(SshNode("node"), "echo x", stdout=PIPE)
        run(backend, job)
    assert job.result().text == "x\n"
    assert master.processes == 1


def test_a_session_that_is_refused_is_asked_for_again(backend: str, play: Play) -> None:
    """The refusal is read, as with MaxSessions."""
    refuses = answers(hello=True, after=said(_mux.FAILURE, 0, text=b"Session open refused by peer"))
    master = play(refuses, refuses, serves)
    job = SshJob(SshNode("node"), "echo x", stdout=PIPE)
    run(backend, job)
    assert job.result().text == "x\n"
    assert (master.came, master.processes) == (3, 0)


def test_a_master_that_denies_sessions_gives_the_reason(backend: str, play: Play) -> None:
    """Nothing has started."""
    master = play(answers(hello=True, after=said(_mux.DENIED, 0, text=b"Permission denied"), waits=True))
    job = SshJob(SshNode("node"), "echo x")
    Scheduler(job).run(backend=backend)
    failure = job.raised_exception()
    assert isinstance(failure, SshError)
    assert "Permission denied" in str(failure)
    assert not failure.started
    assert master.processes == 0


BREAKING = {
    "nothing": b"",
    "that it is opened": said(_mux.OPENED, 0, 7),
    "half of an answer": said(_mux.OPENED, 0, 7)[:5],
    "another kind": said(_mux.OPENED, 0, 7) + said(0x12345678, 7),
    "half of an exit code": said(_mux.OPENED, 0, 7) + said(_mux.EXITED, 7),
    "an empty message": bytes(4),
    "noise": b"\xff" * 1000,
}


@pytest.mark.parametrize("name", BREAKING)
def test_a_master_that_breaks_off_after_the_request_is_a_lost_connection(backend: str, play: Play, name: str) -> None:
    """The command may have started, so it is not run again."""
    nonsense = answers(hello=True, after=BREAKING[name])
    master = play(nonsense)
    job = SshJob(SshNode("node"), "echo x")
    Scheduler(job).run(backend=backend)
    failure = job.raised_exception()
    assert isinstance(failure, SshError)
    assert "the connection was lost" in str(failure)
    assert failure.started
    assert (master.came, master.processes) == (1, 0)


@pytest.mark.parametrize("hello", [True, False])
def test_a_master_that_does_not_answer_is_given_up_in_time(
    backend: str, play: Play, hello: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The master may hang before its hello or after a request: no other job waits, and no descriptor stays open."""
    monkeypatch.setattr(_remote_commands, "KILL_MARGIN", 0.1)
    play(answers(hello=hello, waits=True))
    before = len(os.listdir("/proc/self/fd"))
    job = SshJob(SshNode("node"), "true", timeout=0.3, terminate_grace=0)
    Scheduler(job, Job(anyio.sleep, 0)).run(backend=backend)
    assert isinstance(job.raised_exception(), JobTimeout)
    end = time.monotonic() + PATIENCE
    while len(os.listdir("/proc/self/fd")) > before + 1:  # what listens; a thread may still close what it has
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("size", [0, 100_000])
def test_a_request_that_goes_out_in_pieces(backend: str, size: int) -> None:
    """The reader gets all of it, and then the descriptors; meanwhile the loop goes on."""
    sent, came, descriptors = os.urandom(size), bytearray(), list[int]()
    ours, theirs = socket.socketpair()

    async def both() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_mux._send, ours, sent[before:], [ours.fileno()] * 3)
            while len(came) < len(sent):
                await anyio.wait_readable(theirs)
                came.extend(theirs.recv(len(sent) - len(came)))
            for _ in range(3):
                await anyio.wait_readable(theirs)
                descriptors.extend(socket.recv_fds(theirs, 1, 1)[1])

    with ours, theirs:
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        before = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                before += ours.send(b"x")
        sent = b"x" * before + sent
        anyio.run(both, backend=backend)
    assert came == sent
    assert len(descriptors) == 3
    for one in descriptors:
        os.close(one)


def test_what_was_forked_in_between_keeps_no_session() -> None:
    """Another process may have the same socket; the session is over all the same."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs, ours.dup():
        session = MuxSession(ours, MessageReader(ours))
        assert not session.has_ended()
        session.kill()
        assert theirs.recv(1) == b""
        assert session.has_ended()
        assert session.finish() == 255


@given(st.lists(st.binary(max_size=30), max_size=4), st.lists(st.integers(0, 130), max_size=5))
def test_messages_come_whole_however_they_come(sent: list[bytes], cuts: list[int]) -> None:
    """No message is split, joined or invented."""
    data = b"".join(len(one).to_bytes(4, "big") + one for one in sent)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        messages, found = MessageReader(ours), list[bytes]()
        places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
        for first, last in pairwise(places):
            theirs.sendall(data[first:last])
            found += messages.read()
        assert found == sent
        assert messages.read() == []
        assert not messages.is_closed
        theirs.close()
        assert messages.read() == []
        assert messages.is_closed


# ---- over a real server


def test_a_command_on_a_node_has_no_process_here(backend: str, server: Server) -> None:
    """The one that holds the connection is all that there is."""
    found = list[str]()

    async def look() -> None:
        found.extend(name for _, name in targets(server) if name in ("client", "master"))

    node = server.node()
    going = SshJob(node, "sleep 1000", forever=True, terminate_grace=0.3)
    short = SshJob(node, "true")
    run(backend, going, short, Job(look, required=short))
    assert found == ["master"]


def by_ssh(*_: Any) -> Any:
    raise MuxUnavailable(is_final=True)


def test_the_users_settings_hold_as_for_ssh(
    backend: str, site: Site, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables that are sent and set, the agent, and no terminal: a session that an ssh has asked for has the same."""
    server = site.serve(2, AcceptEnv="TF_*")
    config = tmp_path / "config"
    config.write_text(
        f"SendEnv TF_SENT\nSetEnv TF_SET=set\nForwardAgent yes\nRequestTTY force\n{site.config.read_text()}"
    )
    monkeypatch.setenv("TF_SENT", "a b\n'$é")
    monkeypatch.setenv("TF_KEPT", "kept")
    show = 'echo "$TF_SENT" "$TF_SET" "${TF_KEPT-none}" "${SSH_AUTH_SOCK:+agent}" "${SSH_TTY-none}" "$TERM"'
    node = server.node(config=config)
    asked, told = SshJob(node, show, stdout=PIPE), SshJob(node, show, stdout=PIPE)
    run(backend, asked)
    monkeypatch.setattr(_connections, "request_session", by_ssh)
    run(backend, told)
    assert asked.result().text == told.result().text
    assert asked.result().text.startswith("a b\n'$é set none agent none")
    server.stop()


def test_where_a_session_cannot_be_asked_for_ssh_does_all_the_same(
    backend: str, server: Server, monkeypatch: pytest.MonkeyPatch, watched: Watched, mark: dict[str, str], tmp_path: Any
) -> None:
    """Output, exit codes, and the end of the whole tree."""
    monkeypatch.setattr(_connections, "request_session", by_ssh)
    node = server.node()
    short = SshJob(node, "echo x; exit 4", check=False, stdout=PIPE)
    begun = tmp_path / "begun"
    long = SshJob(node, ["true", f"echo begun > '{begun}'; {TREE}"], env=mark, terminate_grace=0.3)

    async def cancel() -> None:
        await anyio.to_thread.run_sync(until_there, begun)
        long.cancel()

    Scheduler(short, long, Job(cancel)).run(backend=backend)
    assert (short.result().text, short.result().returncode) == ("x\n", 4)
    assert watched.gone_in_time(), watched.alive()


def test_a_killed_master_ends_its_sessions(
    backend: str, server: Server, mark: dict[str, str], watched: Watched, tmp_path: Any
) -> None:
    """The connection was lost; the next job has another one."""
    node = server.node()
    lost = SshJob(node, f"echo begun > {tmp_path}/begun; {TREE}", env=mark, terminate_grace=0.3)

    async def kill() -> None:
        await anyio.to_thread.run_sync(until_there, tmp_path / "begun")
        for pid, name in targets(server):
            if name == "master":
                os.kill(pid, signal.SIGKILL)

    after = SshJob(node, "echo x", stdout=PIPE, required=lost)
    Scheduler(lost, Job(kill), after).run(backend=backend)
    assert isinstance(lost.raised_exception(), SshError)
    assert after.result().text == "x\n"
    assert watched.gone_in_time(), watched.alive()
