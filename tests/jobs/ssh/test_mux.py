"""Sessions requested from a master, the ssh process that holds a connection: from a real one, and from faulty ones."""

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


def reply(*numbers: int, text: bytes | None = None) -> bytes:
    """Return a message of a master."""
    body = struct.pack(f">{len(numbers)}I", *numbers)
    if text is not None:
        body += len(text).to_bytes(4, "big") + text
    return len(body).to_bytes(4, "big") + body


HELLO = reply(_mux.HELLO, 4)


class Master(OpenSsh):
    """A fake master without a connection: one function answers each client, the last one all further clients."""

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
    """Return a command that makes a socket appear, as a master does, and keeps running."""
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
    """Run the requested command, and send the replies byte by byte."""
    line, descriptors = request(client)
    stdin, stdout, stderr = descriptors
    process = subprocess.Popen(["sh", "-c", line], stdin=stdin, stdout=stdout, stderr=stderr)
    for one in descriptors:
        os.close(one)
    replies = reply(_mux.OPENED, 0, 7) + reply(_mux.NO_TERMINAL, 7)
    replies += reply(_mux.EXITED, 7, process.wait(PATIENCE))
    for one in replies:
        client.sendall(bytes([one]))


def answers(*, hello: bool, after: bytes = b"", waits: bool = False) -> Answer:
    """Send bytes instead of a hello, or after a request; then close, or wait until the client closes."""

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
    """Return a function that replaces the master of all connections."""
    with contextlib.ExitStack() as stack:

        def start(*given: Answer) -> Master:
            master = stack.enter_context(Master(*given))
            monkeypatch.setattr(_connections, "OPENSSH_CLIENT", master)
            return master

        yield start


Play = Callable[..., Master]


def test_a_session_requested_from_the_master_needs_no_ssh_process(backend: str, play: Play) -> None:
    """A session requested from the master needs no ssh process, whatever pieces the replies arrive in."""
    master = play(serves)
    node = SshNode("node")
    jobs = [SshJob(node, "echo out; echo err >&2; exit 3", check=False, stdout=PIPE, stderr=PIPE) for _ in range(2)]
    Scheduler(*jobs, jobs_window=1).run(backend=backend, check=True)
    for job in jobs:
        result = job.result()
        assert (result.stdout, result.stderr, result.returncode) == (b"out\n", b"err\n", 3)
    assert (master.came, master.processes) == (2, 0)


OTHERS = {
    "another version": (answers(hello=False, after=reply(_mux.HELLO, 5), waits=True), 1),
    "no hello": (answers(hello=False, after=reply(_mux.OPENED, 0, 1), waits=True), 1),
    "an empty message": (answers(hello=False, after=bytes(4), waits=True), 1),
    "nothing": (answers(hello=False), 2),
    "half of a hello": (answers(hello=False, after=HELLO[:-2]), 2),
    "noise": (answers(hello=False, after=b"\xff" * 1000, waits=True), 2),
}


@pytest.mark.parametrize("name", OTHERS)
def test_ssh_runs_the_command_if_the_master_has_another_protocol(backend: str, play: Play, name: str) -> None:
    """If the master has another protocol, ssh runs the command; only a wrong version is not asked again."""
    answer, times = OTHERS[name]
    master = play(answer)
    jobs = [SshJob(SshNode("node"), "echo x", stdout=PIPE) for _ in range(2)]
    Scheduler(*jobs, jobs_window=1).run(backend=backend, check=True)
    assert [job.result().text for job in jobs] == ["x\n"] * 2
    assert (master.came, master.processes) == (times, 2)


def test_ssh_runs_the_command_if_the_environment_is_too_long_for_a_request(
    backend: str, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the variables of this program are too long for a request, ssh runs the command."""
    monkeypatch.setenv("TRIOFLOW_TEST_LONG", "x" * 100_000)
    monkeypatch.setattr(_mux, "MAX_REQUEST_BYTES", 100_000)
    master = play(serves)
    job = SshJob(SshNode("node"), "echo x", stdout=PIPE)
    run(backend, job)
    assert job.result().text == "x\n"
    assert (master.came, master.processes) == (0, 1)


def test_ssh_runs_the_command_if_too_many_wait_at_the_masters_socket(
    backend: str, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If too many clients of other programs wait at the master's socket, ssh runs the command."""
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


def test_a_rejected_session_is_requested_again(backend: str, play: Play) -> None:
    """A session that is rejected, as when MaxSessions of the server is reached, is requested again."""
    refuses = answers(hello=True, after=reply(_mux.FAILURE, 0, text=b"Session open refused by peer"))
    master = play(refuses, refuses, serves)
    job = SshJob(SshNode("node"), "echo x", stdout=PIPE)
    run(backend, job)
    assert job.result().text == "x\n"
    assert (master.came, master.processes) == (3, 0)


def test_the_error_has_the_reason_why_a_master_denies_a_session(backend: str, play: Play) -> None:
    """If a master denies a session, the error has its reason, and says that the command has not started."""
    master = play(answers(hello=True, after=reply(_mux.DENIED, 0, text=b"Permission denied"), waits=True))
    job = SshJob(SshNode("node"), "echo x")
    Scheduler(job).run(backend=backend)
    failure = job.raised_exception()
    assert isinstance(failure, SshError)
    assert "Permission denied" in str(failure)
    assert not failure.started
    assert master.processes == 0


BREAKING = {
    "nothing": b"",
    "opened alone": reply(_mux.OPENED, 0, 7),
    "half of an answer": reply(_mux.OPENED, 0, 7)[:5],
    "another kind of message": reply(_mux.OPENED, 0, 7) + reply(0x12345678, 7),
    "half of an exit code": reply(_mux.OPENED, 0, 7) + reply(_mux.EXITED, 7),
    "an empty message": bytes(4),
    "noise": b"\xff" * 1000,
}


@pytest.mark.parametrize("name", BREAKING)
def test_a_master_that_fails_after_the_request_counts_as_a_lost_connection(backend: str, play: Play, name: str) -> None:
    """If a master fails after the request, the command may have started, so it is not run again."""
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
def test_timeout_ends_a_job_whose_master_does_not_answer(
    backend: str, play: Play, hello: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A timeout ends a job whose master hangs, before its hello or after a request, and no descriptor stays open."""
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
def test_a_request_sent_in_pieces_arrives_with_its_descriptors(backend: str, size: int) -> None:
    """A request to a slow reader is sent in pieces, without blocking the event loop, and with its descriptors."""
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


def test_a_forked_process_with_the_socket_does_not_keep_a_session_open() -> None:
    """Ending a session also ends it for a forked process that still has its socket."""
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
def test_messages_are_read_whole_from_any_pieces(sent: list[bytes], cuts: list[int]) -> None:
    """However messages are cut into pieces, none is split, joined or invented."""
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


def test_a_command_on_a_node_has_no_local_process_but_the_master(backend: str, server: Server) -> None:
    """While a command runs on a node, the only local ssh process is the one that holds the connection."""
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


def test_settings_of_the_user_apply_to_a_session_as_with_ssh(
    backend: str, site: Site, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session over the connection has the variables and agent of a session of `ssh` and, like it, no terminal."""
    server = site.serve(2, AcceptEnv="TF_*")
    config = tmp_path / "config"
    config.write_text(
        f"SendEnv TF_SENT\nSetEnv TF_SET=set\nForwardAgent yes\nRequestTTY force\n{site.config.read_text()}"
    )
    monkeypatch.setenv("TF_SENT", "a b\n'$é")
    monkeypatch.setenv("TF_KEPT", "kept")
    show = 'echo "$TF_SENT" "$TF_SET" "${TF_KEPT-none}" "${SSH_AUTH_SOCK:+agent}" "${SSH_TTY-none}" "$TERM"'
    node = server.node(config=config)
    requested, by_client = SshJob(node, show, stdout=PIPE), SshJob(node, show, stdout=PIPE)
    run(backend, requested)
    monkeypatch.setattr(_connections, "request_session", by_ssh)
    run(backend, by_client)
    assert requested.result().text == by_client.result().text
    assert requested.result().text.startswith("a b\n'$é set none agent none")
    server.stop()


def test_ssh_runs_the_command_if_no_session_can_be_requested(
    backend: str, server: Server, monkeypatch: pytest.MonkeyPatch, watched: Watched, mark: dict[str, str], tmp_path: Any
) -> None:
    """If no session can be requested, ssh runs the command, with the same output, exit code and end."""
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
    """If a master is killed, its running job fails with a lost connection, and the next job gets a new one."""
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
