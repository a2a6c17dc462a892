"""Whatever ends a job or this program, nothing that it has started on a node keeps running."""

import contextlib
import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    Job,
    JobState,
    Push,
    Scheduler,
    ScriptText,
    Sequence,
    SshError,
    SshJob,
    SshNode,
    StopReason,
)
from ...bodies import at_once, ran
from ...places import PATIENCE
from ...pythons import Python
from ..posix.process_trees import FORKING, STUBBORN, TREE, Watched, until_there
from .servers import (
    LocalConnection,
    Place,
    Server,
    Site,
    free_port,
    make_key,
    targets,
    until_written,
)

PIPE = subprocess.PIPE
SSH_PAGE = Path(__file__).parents[3] / "docs/kinds/ssh.md"
KILLS = int(os.environ.get("TRIOFLOW_KILLS", "2"))
"""The number of processes that are killed at random instants; a higher one may be set by hand."""
resists_there = pytest.mark.parametrize(
    ("place", "body"),
    [("by ssh", STUBBORN), ("local", FORKING)],
    indirect=["place"],
    ids=["stubborn", "forking"],
)
"""Processes that resist their end; test_wrapper has all kinds of them in all shells."""


def sleepers(watched: Watched) -> list[str]:
    """Return what a node still runs: the local processes have the mark too, but none of them sleeps."""
    return [line for line in watched.alive() if line.startswith("sleep")]


def long(
    place: Place, tmp_path: Path, mark: dict[str, str], body: str = TREE, **options: Any
) -> SshJob:
    """Return a job that writes a file when it has begun, and runs forever."""
    command = f"echo begun > {tmp_path}/begun; {body}"
    return SshJob(
        place.node(),
        command,
        **{"env": mark, "terminate_grace": 0.1, "label": "long", **options},
    )


@resists_there
def test_a_timeout_ends_the_command_on_the_node(
    backend: str,
    place: Place,
    body: str,
    tmp_path: Path,
    mark: dict[str, str],
    watched: Watched,
) -> None:
    """When a job has settled after a timeout, no process of its command is left on the node."""
    left: list[str] = []
    timeout = 0.3
    while not (
        tmp_path / "begun"
    ).exists():  # a busy machine may take longer to connect
        job = long(place, tmp_path, mark, body, timeout=timeout)
        Scheduler(
            job, Job(at_once, lambda: left.extend(sleepers(watched)), required=job)
        ).run(backend=backend)
        assert isinstance(job.raised_exception(), trioflow.JobTimeout)
        timeout *= 2
    assert job.last_result is not None
    assert job.last_result.signal in (signal.SIGTERM, signal.SIGKILL)
    assert left == []
    assert watched.alive() == []


@pytest.mark.parametrize(
    ("place", "end"), [("by ssh", "job"), ("local", "scope")], indirect=["place"]
)
def test_a_cancellation_ends_the_command_on_the_node(
    backend: str,
    place: Place,
    end: str,
    tmp_path: Path,
    mark: dict[str, str],
    watched: Watched,
) -> None:
    """After a cancellation, of the job or from outside of the run, no process of the command is left on the node."""
    job = long(place, tmp_path, mark)

    async def cancel(scope: anyio.CancelScope) -> None:
        await until_written(tmp_path / "begun")
        (job if end == "job" else scope).cancel()

    async def main() -> None:
        with anyio.CancelScope() as scope:
            await Scheduler(job, Job(cancel, scope)).co_run()

    anyio.run(main, backend=backend)
    with pytest.raises(trioflow.JobCancelled):
        job.result()
    assert sleepers(watched) == []
    assert watched.gone_in_time(), watched.alive()


def test_a_cancelled_command_may_clean_up(
    backend: str, server: Server, tmp_path: Path, mark: dict[str, str]
) -> None:
    """A cancelled command on a node may clean up within its grace, and its job waits until it has ended."""
    body = f"trap 'sleep 0.3; echo bye > {tmp_path}/bye; exit' TERM; while :; do sleep 0.05; done"
    job = long(server, tmp_path, mark, body, terminate_grace=60)

    async def cancel() -> None:
        await until_written(tmp_path / "begun")
        job.cancel()

    Scheduler(job, Job(cancel)).run(backend=backend)
    assert (tmp_path / "bye").exists()
    assert job.state is JobState.CANCELLED


def test_no_partial_file_is_left_by_a_cancel(
    backend: str, server: Server, tmp_path: Path, watched: Watched
) -> None:
    """A cancelled transfer leaves no partial file on the node, under any name."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(4 << 30)
    (tmp_path / "there").mkdir()
    job = SshJob(server.node(), Push(tmp_path / "large", to=f"{tmp_path}/there/"))

    async def cancel() -> None:
        while not list((tmp_path / "there").iterdir()):  # noqa: ASYNC110 - another process writes there
            await anyio.sleep(0.01)
        job.cancel()

    Scheduler(job, Job(cancel)).run(backend=backend)
    assert job.state is JobState.CANCELLED
    assert list((tmp_path / "there").iterdir()) == []
    assert watched.gone_in_time(), watched.alive()


def test_no_partial_file_is_left_on_a_node_that_allows_one_session(
    backend: str, site: Site, tmp_path: Path
) -> None:
    """The node once refused the session of the removal: it had not noticed yet that the transfer's had ended."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(4 << 30)
    server = site.serve(2, MaxSessions=1)
    push = Push(tmp_path / "large", to=f"{tmp_path}/there/")
    jobs = [
        ran(backend, SshJob(server.node(), push, timeout=timeout))
        for timeout in (0.2, 0.3)
    ]
    server.stop()
    assert {type(job.raised_exception()) for job in jobs} == {trioflow.JobTimeout}
    assert list((tmp_path / "there").iterdir()) == []


def test_the_next_connection_removes_a_partial_file(
    backend: str, server: Server, tmp_path: Path
) -> None:
    """A partial file, left by a transfer whose connection was lost, is removed over the next connection."""
    with (tmp_path / "large").open("wb") as file:
        file.truncate(4 << 30)
    (tmp_path / "there").mkdir()
    job = SshJob(server.node(), Push(tmp_path / "large", to=f"{tmp_path}/there/"))
    left: list[Path] = []

    async def cut() -> None:
        while not list((tmp_path / "there").iterdir()):  # noqa: ASYNC110 - another process writes there
            await anyio.sleep(0.01)
        server.cut()

    looking = Job(at_once, lambda: left.extend((tmp_path / "there").iterdir()))
    looking.requires(job, settled=True)
    Scheduler(job, Job(cut), Sequence(looking, SshJob(server.node(), "true"))).run(
        backend=backend
    )
    error = job.raised_exception()
    assert isinstance(error, SshError)
    assert str(error).endswith(": the connection was lost")
    assert not hasattr(error, "__notes__"), "it once said that the sshd might lack sftp"
    assert len(left) == 1
    assert list((tmp_path / "there").iterdir()) == []


@resists_there
def test_nothing_is_left_when_this_program_is_killed(
    backend: str,
    place: Place,
    body: str,
    tmp_path: Path,
    mark: dict[str, str],
    watched: Watched,
) -> None:
    """When this program is killed, no command, ssh process or temporary file is left on either side."""
    places = Path(tempfile.mkdtemp(prefix="tf", dir="/tmp"))  # short enough for sockets
    code = (
        "import os, tempfile, trioflow\n"
        f"os.environ['XDG_RUNTIME_DIR'] = tempfile.tempdir = {str(places)!r}\n"
        f"node = trioflow.{place.node()!r}\n"
        f"command = ['true', {f'echo begun > {tmp_path}/begun; {body}'!r}]\n"
        f"job = trioflow.SshJob(node, command, env={mark!r}, terminate_grace=0.1)\n"
        f"trioflow.Scheduler(job).run(backend={backend!r})\n"
    )
    process = Python(["-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until_there(tmp_path / "begun")
    assert isinstance(place, LocalConnection) or list(places.iterdir()) != []
    process.kill()
    process.wait()
    assert watched.gone_in_time(), watched.alive()
    assert list(places.iterdir()) == []
    places.rmdir()
    end = time.monotonic() + PATIENCE
    while isinstance(place, Server) and place.sessions():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_ctrl_c_ends_the_command_on_the_node(
    backend: str, server: Server, tmp_path: Path, mark: dict[str, str], watched: Watched
) -> None:
    job = long(server, tmp_path, mark)
    scheduler = Scheduler(job)

    def interrupt() -> None:
        until_there(tmp_path / "begun")
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        scheduler.run(backend=backend)
    thread.join()
    assert scheduler.stop_reason is StopReason.INTERRUPTED
    assert watched.gone_in_time(), watched.alive()


def test_a_daemon_survives_its_job(
    backend: str, server: Server, tmp_path: Path, mark: dict[str, str]
) -> None:
    """A process started as the page says outlives its job. Once, it kept the output open, and the job did not end."""
    (advice,) = re.findall(
        "start it by\\s+`(setsid program .*&)`", SSH_PAGE.read_text()
    )
    command = advice.replace(
        "program", f"sh -c 'echo $$ > {tmp_path}/pid; sleep 1000'"
    ).replace("log", f"{tmp_path}/log")
    steps = [command, f"while ! test -s {tmp_path}/pid; do sleep 0.01; done"]
    job = ran(backend, SshJob(server.node(), steps, env=mark, timeout=PATIENCE))
    pid = int((tmp_path / "pid").read_text())
    assert job.state is JobState.SUCCEEDED
    assert Path(f"/proc/{pid}").exists()


# ---- malicious servers
class Hostile:
    """An ssh server of asyncssh's, in a thread, whose answer to every command is garbage."""

    def __init__(self, site: Site, answer: Any) -> None:
        self.site, self._answer = site, answer
        self.port = free_port("127.0.0.1")
        key = (
            site.directory / "hostile"
        )  # one for all: the system may give the port of an earlier server again
        self.key = key if key.exists() else make_key(key)
        with site.known_hosts.open("a") as file:
            file.write(
                f"[127.0.0.1]:{self.port} {self.key.with_suffix('.pub').read_text()}"
            )
        self._ready, self._done = threading.Event(), anyio.Event()
        self._thread = threading.Thread(target=anyio.run, args=(self._serve,))

    async def _serve(self) -> None:
        import asyncssh  # not in each process that collects the tests: it takes long

        self._done = anyio.Event()
        self._scope = anyio.lowlevel.current_token()
        server = await asyncssh.create_server(
            asyncssh.SSHServer,
            "127.0.0.1",
            self.port,
            server_host_keys=[str(self.key)],
            authorized_client_keys=str(self.site.identity.with_suffix(".pub")),
            process_factory=self._answer,
            encoding=None,
        )
        self._ready.set()
        await self._done.wait()
        server.close()

    def __enter__(self) -> "Hostile":
        self._thread.start()
        assert self._ready.wait(PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        anyio.from_thread.run_sync(self._done.set, token=self._scope)
        self._thread.join(PATIENCE)


def noise(size: int) -> bytes:
    return random.Random(5).randbytes(size)


async def sends_nothing(process: Any) -> None:
    process.exit(0)


async def sends_noise(process: Any) -> None:
    process.stdout.write(noise(100_000))
    process.stderr.write(noise(100_000))
    process.exit(7)


async def forges_reports(process: Any) -> None:
    """Send invalid reports with the token, which is in the command line."""
    token = process.command.split(" trioflow ")[1].split()[0].encode()
    process.stderr.write(
        b"\x1e%b start\n\x1e%b start\n\x1e%b end 99999999 0m0s" % (token, token, token)
    )
    process.exit(0)


async def drops_the_connection(process: Any) -> None:
    process.channel.get_connection().abort()


def test_a_malicious_server_only_fails_its_own_jobs(backend: str, site: Site) -> None:
    answers = {
        one.__name__: one
        for one in (sends_nothing, sends_noise, forges_reports, drops_the_connection)
    }

    async def answer(process: Any) -> None:
        await answers[process.get_extra_info("username")](process)

    with Hostile(site, answer) as server:
        nodes = [
            SshNode("127.0.0.1", port=server.port, config=site.config, username=name)
            for name in answers
        ]
        steps = "true", ScriptText("exit 3")
        jobs = [
            SshJob(node, step, stdout=-1, stderr=-1, timeout=PATIENCE)
            for node in nodes
            for step in steps
        ]
        Scheduler(*jobs).run(backend=backend)
    for job in jobs:
        assert isinstance(job.raised_exception(), SshError), job
        assert "\x1b" not in str(job.raised_exception())


def test_no_process_survives_if_ssh_processes_are_killed_at_random_instants(
    backend: str, site: Site, watched: Watched, mark: dict[str, str]
) -> None:
    """If a local ssh or an sshd is killed at any time, each result is complete or missing, and no process is left."""
    server = site.serve(2)
    chance, done = random.Random(11), threading.Event()
    killed = list[str]()

    def kill() -> None:
        while len(killed) < KILLS and not done.is_set():
            time.sleep(0.05)
            if found := targets(server):
                pid, name = chance.choice(found)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(name)
        done.set()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        while not done.is_set():
            body = "sleep 0.02 & echo $$; sleep 0.05; wait"
            jobs = [
                SshJob(server.node(), body, env=mark, stdout=PIPE, terminate_grace=0.1)
                for _ in range(6)
            ]
            Scheduler(*jobs, jobs_window=4).run(backend=backend)
            for job in jobs:
                assert (
                    job.state is JobState.FAILED or job.result().text.strip().isdigit()
                )
    finally:
        done.set()
        thread.join()
    assert len(killed) == KILLS
    assert watched.gone_in_time(), watched.alive()
    end = time.monotonic() + PATIENCE
    while targets(server):
        assert time.monotonic() < end, targets(server)
        time.sleep(0.05)
    server.stop()
