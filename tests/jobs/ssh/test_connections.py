"""One connection for each node: how jobs open, share and lose it, and what keeps it from opening."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    Job,
    JobState,
    Pull,
    Push,
    Scheduler,
    SshError,
    SshJob,
    SshNode,
    SshService,
    StopReason,
    Unreachable,
    _posix,
)
from trioflow.abc import incidents_of, reported_state, waiting
from trioflow.jobs.ssh import _connections
from trioflow.jobs.ssh._transport import READY, Gateway, OpenSsh
from trioflow.view.text._verdict import run_verdict
from ...bodies import fail, nothing, ran, run
from ...places import PATIENCE, patiently
from ..posix.process_trees import Watched, command_line
from .servers import Impostor, Proxy, Server, Site, free_port, make_key, until_written

PIPE = subprocess.PIPE


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connections, "INITIAL_RETRY_DELAY", 0.05)
    monkeypatch.setattr(_connections, "MAX_RETRY_DELAY", 0.4)


@pytest.fixture(autouse=True)
def nothing_left(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Check that a test leaves no process on this machine, no directory of sockets, and no open file."""
    sockets = Path(
        tempfile.mkdtemp(prefix="tf", dir="/tmp")
    )  # short enough for sockets
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(sockets))
    files = os.listdir("/proc/self/fd")
    yield
    assert len(os.listdir("/proc/self/fd")) <= len(files)
    assert watched.alive() == []
    assert list(sockets.iterdir()) == []
    sockets.rmdir()


def unreachable(backend: str, *jobs: SshJob) -> Iterator[Unreachable]:
    """Run the jobs, and yield their errors, each of which says that a node is unreachable."""
    run(backend, *jobs)
    for job in jobs:
        error = job.raised_exception()
        assert isinstance(error, Unreachable)
        yield error


def peak(server: Server, since: int) -> int:
    """Return how many sessions there were at once, by the server's log from a position on."""
    now = most = 0
    for event in re.findall(
        "Starting session|Close session", server.log.read_bytes()[since:].decode()
    ):
        now += 1 if event == "Starting session" else -1
        most = max(most, now)
    return most


# ---- the directory of the sockets
@pytest.mark.parametrize(
    "kind",
    ["of another user", "in a directory of another user", "open to a group", "missing"],
)
def test_sockets_avoid_a_directory_of_others(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns a directory can replace the sockets in it, so `XDG_RUNTIME_DIR` is used only if it is private."""
    parent = Path(tempfile.mkdtemp(prefix="tf", dir="/tmp"))
    runtime_directory = parent / "run"
    if kind != "missing":
        runtime_directory.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime_directory))
    if kind == "open to a group":
        runtime_directory.chmod(0o710)
    elif kind == "of another user":
        monkeypatch.setattr(_posix, "geteuid", lambda: os.getuid() + 1)
    elif kind == "in a directory of another user":
        real = os.lstat

        def lstat(path: Any) -> Any:
            status = real(path)
            return (
                SimpleNamespace(st_uid=status.st_uid + 1, st_mode=status.st_mode)
                if path == str(parent)
                else status
            )

        monkeypatch.setattr(os, "lstat", lstat)
    path = Path(_connections._make_private_directory())
    monkeypatch.undo()
    path.rmdir()
    shutil.rmtree(parent)
    assert parent not in path.parents


def test_sockets_are_in_a_private_runtime_directory(tmp_path: Path) -> None:
    directory = _connections.PrivateDirectory()
    directory.remove()
    assert os.path.dirname(directory.path) == os.environ["XDG_RUNTIME_DIR"]


# ---- shared connections
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_many_commands_on_many_nodes_use_one_connection_per_node(
    backend: str, site: Site, server: Server, tmp_path: Path
) -> None:
    site.alias(f"many-{backend}-*", server)
    names = trioflow.SshNodes(f"many-{backend}-[1-200]", config=site.config)
    before = server.accepted
    line = "echo {node} >> {file}; echo {node}"
    jobs = [
        SshJob(
            names[one % 200], line, values={"file": tmp_path / str(one)}, stdout=PIPE
        )
        for one in range(2000)
    ]
    assert Scheduler(*jobs, jobs_window=100).run(backend=backend)
    assert server.accepted == before + 200
    for number, job in enumerate(jobs):
        said = f"{job.node.hostname}\n"
        assert (
            job.result().stdout.decode() == (tmp_path / str(number)).read_text() == said
        )


def test_all_jobs_of_a_node_share_one_connection(backend: str, server: Server) -> None:
    before = server.accepted
    service = SshService(
        server.node(), "echo up; exec sleep 1000", ready=trioflow.OutputLine("up")
    )
    jobs = [SshJob(server.node(), f"echo {number}", stdout=PIPE) for number in range(4)]
    run(
        backend,
        service,
        *jobs[:2],
        Scheduler(jobs[2], Scheduler(jobs[3]), required=service),
    )
    assert [job.result().stdout for job in jobs] == [
        f"{number}\n".encode() for number in range(4)
    ]
    assert server.accepted == before + 1


@pytest.mark.parametrize("end", [StopReason.COMPLETED, StopReason.CRITICAL])
def test_the_connection_is_closed_at_any_end_of_the_run(
    backend: str, server: Server, end: StopReason
) -> None:
    """After a run that was completed or stopped, no ssh session is left on the server."""
    job = SshJob(server.node(), "echo")
    scheduler = Scheduler(
        job, Job(fail, 0, required=job, critical=end is StopReason.CRITICAL)
    )
    scheduler.run(backend=backend)
    assert scheduler.stop_reason is end
    end_of_patience = time.monotonic() + PATIENCE
    while server.sessions():
        assert time.monotonic() < end_of_patience
        time.sleep(0.01)


class MissesFirstSignal(OpenSsh):
    """A client whose master misses the first signal, as ssh does if it comes just before ssh waits for events."""

    def __init__(self, ended: Path) -> None:
        self.ended = ended

    def connect(self, node: SshNode, socket: str, gateway: Gateway | None) -> list[str]:
        second = f"echo ended > {self.ended}; exit"
        return [
            "sh",
            "-c",
            f"trap 'trap \"{second}\" TERM' TERM; echo {READY}; while :; do sleep 0.02; done",
        ]

    def run(self, node: SshNode, socket: str, line: str) -> list[str]:
        return ["sh", "-c", line]


def test_master_that_misses_signal_gets_another(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, one run in twenty waited two seconds for a master that had missed a signal, and then killed it."""
    monkeypatch.setattr(
        _connections, "OpenSsh", lambda: MissesFirstSignal(tmp_path / "ended")
    )
    run(backend, SshJob(SshNode("node"), "true"))
    assert (tmp_path / "ended").read_text() == "ended\n"


class LosesTransfers(MissesFirstSignal):
    """A client whose transfers find that the connection is lost, in the words of ssh."""

    def transfer(self, node: SshNode, socket: str) -> list[str]:
        text = "mux_client_request_session: read from master failed: Broken pipe"
        return [
            "sh",
            "-c",
            f"echo '{text}' >&2; echo 'Connection closed by UNKNOWN port 65535' >&2; exit 255",
        ]


def test_a_transfer_says_that_its_connection_was_lost(
    backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        _connections, "OpenSsh", lambda: LosesTransfers(tmp_path / "ended")
    )
    job = ran(backend, SshJob(SshNode("node"), Pull("x", to=f"{tmp_path}/y")))
    assert (
        str(job.raised_exception())
        == f"node: Pull(x, to={tmp_path}/y): the connection was lost"
    )


def test_the_sessions_of_a_node_are_limited(
    backend: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "MAX_SESSIONS", 2)
    since = server.log.stat().st_size
    meets = f"echo >> {tmp_path}/begun; until test $(wc -l < {tmp_path}/begun) -ge 2; do sleep 0.01; done; sleep 0.05"
    run(backend, *(SshJob(server.node(), meets) for _ in range(5)))
    assert peak(server, since) == 2


@patiently(0.6, 6, 30)
def test_a_job_that_waits_for_a_session_holds_nothing_and_has_time(
    backend: str, server: Server, unit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs once waited for a session RUNNING, in a slot, and "did not end" within timeouts before they had begun."""
    monkeypatch.setattr(_connections, "MAX_SESSIONS", 1)
    node, states = server.node(), list[list[JobState]]()
    options: dict[str, Any] = {
        "timeout": 2.5 * unit,
        "on_start": lambda _: states.append([job.state for job in jobs]),
    }
    jobs = [
        SshJob(node, f"sleep {unit}", label=str(number), **options)
        for number in range(4)
    ]
    assert Scheduler(*jobs, Job(nothing), jobs_window=2).run(backend=backend)
    assert states[0] == [JobState.RUNNING, *[JobState.SCHEDULED] * 3]


def test_a_job_for_which_services_leave_no_session_is_refused(
    backend: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If services hold all sessions of a node until the run ends, a job that needs one could never start."""
    monkeypatch.setattr(_connections, "MAX_SESSIONS", 1)
    node = server.node()
    service = SshService(
        node, "echo up; exec sleep 60", ready=trioflow.OutputLine("up")
    )
    with pytest.raises(
        ValueError,
        match=r"services reserve 1 of 1 until the run ends .*: it could never start",
    ):
        Scheduler(service, SshJob(node, "true")).run(backend=backend)


@pytest.mark.parametrize("kind", ["job", "service"])
@patiently(1, 10, 40)
def test_the_time_to_connect_is_no_part_of_a_timeout(
    backend: str, server: Server, kind: str, unit: float
) -> None:
    """A connection that takes longer than a job's timeout once never succeeded, whatever the job's `retry`."""
    with Proxy(server, 1.5 * unit) as proxy:
        node = proxy.node()
        job: SshJob | SshService = SshJob(node, "true", timeout=1.2 * unit)
        if kind == "service":
            job = SshService(
                node,
                "echo up; exec sleep 60",
                ready=trioflow.OutputLine("up"),
                timeout=1.2 * unit,
            )
        assert Scheduler(job, Job(anyio.sleep, 0, required=job)).run(backend=backend)


def test_sessions_rejected_by_maxsessions_of_a_server_are_retried(
    backend: str, site: Site
) -> None:
    """Sessions that a server rejects because of its MaxSessions are requested again over the same connection."""
    server = site.serve(2, MaxSessions=2)
    jobs = [SshJob(server.node(), "sleep 0.05; echo x", stdout=PIPE) for _ in range(5)]
    run(backend, *jobs)
    assert [job.result().stdout for job in jobs] == [b"x\n"] * 5
    assert server.accepted == 1
    server.stop()


@patiently(0.6, 6, 30)
def test_a_job_that_learns_of_a_lower_maxsessions_goes_back_to_wait(
    backend: str, site: Site, unit: float
) -> None:
    """It held a slot, RUNNING, while its timeout ran, and failed by that though its command had not begun."""
    server = site.serve(2, MaxSessions=1)
    node, states = server.node(), list[list[JobState]]()
    options: dict[str, Any] = {
        "timeout": 2.5 * unit,
        "on_start": lambda _: states.append([job.state for job in jobs]),
    }
    jobs = [
        SshJob(node, f"sleep {unit}", label=str(number), **options)
        for number in range(4)
    ]
    seen = list[list[JobState]]()

    async def look() -> None:
        await anyio.sleep(0.5 * unit)
        seen.append([job.state for job in jobs])

    assert Scheduler(*jobs, Job(look, required=[]), jobs_window=3).run(backend=backend)
    assert [job.attempts for job in jobs] == [1] * 4
    assert [each.count(JobState.RUNNING) for each in states[1:]] == [1] * 3
    assert seen[0].count(JobState.RUNNING) <= 1
    server.stop()


def test_a_service_that_holds_the_only_session_of_a_server_is_named(
    backend: str, site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    server = site.serve(2, MaxSessions=1)
    node = server.node()
    service = SshService(
        node,
        "echo up; exec sleep 60",
        ready=trioflow.OutputLine("up"),
        label="the service",
    )
    job = SshJob(node, "true", required=service, label="the job", timeout=60)
    scheduler = Scheduler(service, job, timeout=4)
    assert not scheduler.run(backend=backend)
    assert job.state is JobState.CANCELLED
    assert re.search(
        "the job.*sessions of .*: 1 of 1 taken by 'the service'", caplog.text
    )
    server.stop()


def test_a_command_by_hand_in_a_job_waits_for_a_session_in_place(
    backend: str, site: Site
) -> None:
    """The body of another job runs the command: only this job is known to the engine, and it has begun."""
    server = site.serve(2, MaxSessions=1)

    async def by_hand(number: int) -> Any:
        return (
            await SshJob(
                server.node(), f"sleep 0.3; echo {number}", stdout=PIPE
            ).co_run()
        ).stdout

    jobs = [Job(by_hand, number) for number in range(3)]
    run(backend, *jobs)
    assert [job.result() for job in jobs] == [b"0\n", b"1\n", b"2\n"]
    server.stop()


def test_the_second_step_of_a_job_waits_for_a_session_in_place(
    backend: str, site: Site, tmp_path: Path
) -> None:
    """A job of which a step has begun is not called again: the step would be repeated."""
    server = site.serve(2, MaxSessions=1)
    jobs = [
        SshJob(
            server.node(),
            [f"echo x >> {tmp_path}/{number}", "sleep 0.2"],
            label=str(number),
        )
        for number in range(3)
    ]
    run(backend, *jobs)
    assert [(tmp_path / str(number)).read_text() for number in range(3)] == ["x\n"] * 3
    server.stop()


def test_transfers_rejected_by_maxsessions_of_a_server_are_retried(
    backend: str, site: Site, tmp_path: Path
) -> None:
    """Transfers that a server rejects because of its MaxSessions are retried, whatever the LogLevel of ssh."""
    server = site.serve(2, MaxSessions=1)
    config = tmp_path / "config"
    config.write_text(f"LogLevel QUIET\n{site.config.read_text()}")
    (tmp_path / "file").write_text("x")
    node = server.node(config=config)
    jobs = [
        SshJob(node, Push(tmp_path / "file", to=tmp_path / f"copy {number}"))
        for number in range(3)
    ]
    run(backend, *jobs)
    assert [(tmp_path / f"copy {number}").read_text() for number in range(3)] == [
        "x"
    ] * 3
    server.stop()


INTERACTIVE_SETTINGS = [
    "RemoteCommand top", "RequestTTY force", "StdinNull yes", "ForkAfterAuthentication yes", "SessionType none",
    "SessionType subsystem",
]  # fmt: skip


@pytest.mark.parametrize("setting", INTERACTIVE_SETTINGS)
@pytest.mark.parametrize("has_gateway", [False, True])
def test_what_the_configuration_says_of_sessions_does_no_harm(
    backend: str,
    site: Site,
    server: Server,
    tmp_path: Path,
    setting: str,
    has_gateway: bool,
) -> None:
    """Settings for interactive use, or for tunnels, harm no command, no input, no copy, and no way by a gateway."""
    config = tmp_path / "config"
    config.write_text(f"{setting}\n{site.config.read_text()}")
    (tmp_path / "file").write_text("x")
    gateway = server.node(config=config) if has_gateway else None
    node = server.node(config=config, gateway=gateway)
    copy = SshJob(node, Push(tmp_path / "file", to=tmp_path / "copy"))
    read = SshJob(node, "cat", stdin=b"input", stdout=PIPE)
    run(backend, copy, read, timeout=PATIENCE)
    assert ((tmp_path / "copy").read_text(), read.result().stdout) == ("x", b"input")


@pytest.fixture
def old_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ssh before 8.7, which rejects the settings that it does not know, and a file of its starts."""
    starts = tmp_path / "starts"
    for program in ("ssh", "sftp"):
        script = f"""#!/bin/sh
        echo {program} >> {starts}
        for word; do case $word in
            StdinNull=*|ForkAfterAuthentication=*|SessionType=*)
                echo "command-line: line 0: Bad configuration option: $(echo ${{word%=*}} | tr A-Z a-z)" >&2; exit 255
        esac; done
        case " $* " in *" -G "*) out=$({shutil.which(program)} "$@") || exit
            echo "$out" | grep -v -i -e stdinnull -e forkafter; exit; esac
        exec {shutil.which(program)} "$@"
        """
        (tmp_path / program).write_text(script)
        (tmp_path / program).chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return starts


def test_an_ssh_that_lacks_newer_settings_is_used_without_them(
    backend: str,
    server: Server,
    tmp_path: Path,
    old_ssh: Path,
) -> None:
    """An ssh before 8.7, which rejects what it does not know, gets no setting that it does not print."""
    (tmp_path / "file").write_text("x")
    first = SshJob(server.node(), Push(tmp_path / "file", to=tmp_path / "copy"))
    second = SshJob(
        server.node(connect_timeout=PATIENCE, gateway=server.node()),
        "echo y",
        stdout=PIPE,
        required=first,
    )
    run(backend, first, second)
    assert ((tmp_path / "copy").read_text(), second.result().stdout) == ("x", b"y\n")
    assert old_ssh.read_text().splitlines()[:3] == ["ssh", "ssh", "sftp"]


@pytest.mark.usefixtures("old_ssh")
def test_an_ssh_keeps_its_settings_when_it_prints_none_for_another_node(
    backend: str, server: Server, tmp_path: Path
) -> None:
    """A node whose configuration is invalid took the nodes along that were connected already."""
    config = tmp_path / "config"
    config.write_text("Nonsense yes\n")

    async def ask_in_turn() -> Any:
        await SshJob(server.node(), "true").co_run()
        with pytest.raises(SshError, match="ssh settings are invalid"):
            await SshJob(server.node(config=config), "true").co_run()
        return await SshJob(server.node(), "echo y", stdout=PIPE).co_run()

    job = Job(ask_in_turn)
    run(backend, job)
    assert job.result().stdout == b"y\n"


def test_connections_dropped_by_max_startups_are_retried(
    backend: str, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that a server drops because of its MaxStartups are retried until each node is connected."""
    monkeypatch.setattr(_connections, "MAX_ATTEMPTS", 1)
    server = site.serve(2, MaxStartups="1:100:1")
    site.alias(f"crowd-{backend}-*", server)
    nodes = trioflow.SshNodes(f"crowd-{backend}-[1-3]", config=site.config)
    jobs = [SshJob(node, "echo {node}", stdout=PIPE) for node in nodes]
    run(backend, *jobs)
    assert [job.result().stdout.decode() for job in jobs] == [
        f"{node.hostname}\n" for node in nodes
    ]
    assert server.accepted == 3
    server.stop()


def test_the_handshakes_at_once_are_limited(
    backend: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more handshakes than the limit are under way at once, however many nodes there are."""
    monkeypatch.setattr(_connections, "MAX_HANDSHAKES", 2)
    with Proxy(server, *[0.3] * 4) as proxy:
        jobs = [
            SshJob(proxy.node(connect_timeout=30 + number), "true")
            for number in range(4)
        ]
        run(backend, *jobs)
        assert proxy.peak <= 2
        assert all(job.state is JobState.SUCCEEDED for job in jobs)


@patiently(0.6, 6, 30)
def test_nodes_that_hang_do_not_keep_others_from_connecting(
    backend: str,
    site: Site,
    server: Server,
    unit: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once, hanging nodes took all handshakes, and a healthy node was given up before it was tried."""
    monkeypatch.setattr(_connections, "MAX_HANDSHAKES", 2)
    with Impostor() as impostor:
        hanging = [
            SshJob(
                impostor.node(site, username=f"u{number}", connect_timeout=1.2 * unit),
                "true",
            )
            for number in range(2)
        ]
        healthy = SshJob(server.node(connect_timeout=unit), "true")
        run(backend, *hanging, healthy)
    assert healthy.state is JobState.SUCCEEDED


@patiently(1.5, 6, 20)
def test_connect_timeout_does_not_run_while_other_nodes_connect(
    backend: str, server: Server, unit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "MAX_HANDSHAKES", 1)
    with Proxy(server, unit, unit) as proxy:
        nodes = [
            proxy.node(connect_timeout=1.9 * unit - number / 10) for number in range(2)
        ]
        jobs = [SshJob(node, "true") for node in nodes]
        Scheduler(*jobs).run(backend=backend)
    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 2


@pytest.mark.parametrize(
    ("backend", "way"), [("trio", "ProxyCommand"), ("asyncio", "ProxyJump")]
)
def test_handshakes_of_nodes_behind_a_gateway_of_the_configuration_are_limited(
    backend: str,
    way: str,
    site: Site,
    server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Handshakes are limited also for nodes behind a gateway of ssh's configuration, whose server might drop some."""
    monkeypatch.setattr(_connections, "MAX_HANDSHAKES", 1)
    gateway = site.serve(3)
    config = tmp_path / "config"
    config.write_text(site.config.read_text())
    with Proxy(gateway, *[0.5] * 2) as proxy, config.open("a") as file:
        for number, one in enumerate((server, gateway)):
            file.write(
                f"Host inner-{number}\n  HostName {one.address}\n  Port {one.port}\n"
            )
            file.write(f"  HostKeyAlias [{one.address}]:{one.port}\n")
        file.write("Host inner-*\n")
        command = f"ssh -F {config} -p {proxy.port} -W %h:%p {gateway.address}"
        jump = f"{gateway.address}:{proxy.port}"
        file.write(f"  {way} {command if way == 'ProxyCommand' else jump}\n")
        file.flush()
        jobs = [
            SshJob(SshNode(f"inner-{one}", config=config), "true") for one in range(2)
        ]
        run(backend, *jobs)
        assert proxy.peak == 1
    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 2
    gateway.stop()


@patiently(2, 20)
def test_jobs_that_wait_for_a_connection_leave_their_slots_to_others(
    backend: str, server: Server, unit: float
) -> None:
    with Proxy(server, unit) as proxy:
        name = proxy.node().name
        first = SshJob(proxy.node(), "true")
        others = [SshJob(proxy.node(), "echo x", stdout=PIPE) for _ in range(2)]
        seen: list[Any] = []

        async def cancel() -> None:
            while not proxy.count:  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.01)
            seen.append(
                [
                    (job.state, getattr(waiting(job), "text", ""))
                    for job in (first, *others)
                ]
            )
            seen.append(scheduler.explain(others[0]))
            first.cancel()

        scheduler = Scheduler(first, *others, Job(cancel), jobs_window=1)
        assert scheduler.run(backend=backend)
        assert seen[0] == [(JobState.SCHEDULED, f"connecting to {name}")] * 3
        assert (
            seen[1]
            == f"'{name}: echo x' waits for sessions of {name}: connecting to {name}"
        )
        assert first.state is JobState.CANCELLED
        assert [job.result().stdout for job in others] == [b"x\n"] * 2
        assert proxy.count == 1


def test_nobody_connects_for_a_job_that_waits_no_longer(
    backend: str, site: Site
) -> None:
    with Impostor() as impostor:
        jobs = [
            SshJob(impostor.node(site, connect_timeout=10 * PATIENCE), "true")
            for _ in range(2)
        ]

        async def cancel() -> None:
            while not impostor.count:  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.01)
            for job in jobs:
                job.cancel()

        assert (
            run(backend, *jobs, Job(cancel), timeout=PATIENCE).stop_reason
            is StopReason.COMPLETED
        )
    assert [job.state for job in jobs] == [JobState.CANCELLED] * 2


def test_cancelled_query_of_settings_is_repeated(
    backend: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the query of ssh's settings was cancelled, the jobs that came later once had no ProxyJump or host keys."""
    asked: list[SshNode] = []
    real = OpenSsh.settings

    def settings(self: OpenSsh, node: SshNode) -> Any:
        asked.append(node)
        return real(self, node) if len(asked) > 1 else ["sleep", "1000"]

    async def cancel_when_asked() -> None:
        while not asked:  # noqa: ASYNC110 - it has no event
            await anyio.sleep(0.01)
        first.cancel()

    monkeypatch.setattr(OpenSsh, "settings", settings)
    node, cancelling = server.node(), Job(cancel_when_asked)
    first, other = SshJob(node, "true"), SshJob(node, "true", required=cancelling)
    run(backend, first, other, cancelling)
    assert first.state is JobState.CANCELLED
    assert other.result().returncode == 0
    assert asked == [node, node]


def test_settings_of_ssh_are_queried_once_for_each_node(
    backend: str, site: Site, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[SshNode] = []
    real = OpenSsh.settings
    monkeypatch.setattr(
        OpenSsh,
        "settings",
        lambda self, node: [asked.append(node), real(self, node)][1],
    )
    site.alias(f"few-{backend}-*", server)
    nodes = trioflow.SshNodes(f"few-{backend}-[1-3]", config=site.config)
    run(backend, *(SshJob(node, "true") for node in nodes for _ in range(2)))
    assert sorted(node.hostname for node in asked) == [node.hostname for node in nodes]


# ---- lost connections
def test_a_broken_connection_ends_the_command_with_an_error(
    backend: str, server: Server, mark: dict[str, str], watched: Watched, tmp_path: Path
) -> None:
    """A command whose connection breaks may have done its work, so it is not run again; later jobs connect anew."""
    before = server.accepted
    job = SshJob(
        server.node(),
        f"echo x >> {tmp_path}/begun; sleep 1000",
        env=mark,
        terminate_grace=0.1,
    )
    after = SshJob(server.node(), "echo after", stdout=PIPE).requires(job, settled=True)

    async def cut() -> None:
        await until_written(tmp_path / "begun")
        server.cut()

    run(backend, job, after, Job(cut))
    error = job.raised_exception()
    assert isinstance(error, trioflow.SshError)
    assert error.started
    assert "the connection was lost, which ends the command on the node: echo x" in str(
        error
    )
    assert (tmp_path / "begun").read_text() == "x\n"
    assert after.result().stdout == b"after\n"
    assert server.accepted == before + 2
    assert watched.gone_in_time(), watched.alive()


@pytest.mark.parametrize("behind", [False, True], ids=["node", "gateway"])
def test_a_connection_whose_process_is_killed_is_opened_again(
    backend: str, site: Site, server: Server, watched: Watched, behind: bool
) -> None:
    """A killed ssh process leaves its socket, because of which the next master once could not be used."""
    inner = site.serve(4) if behind else server
    node = inner.node(gateway=server.node()) if behind else server.node()
    first = SshJob(node, "true")

    def masters() -> list[int]:
        found = {
            int(path.name): command_line(path).split() for path in watched.processes()
        }
        return [
            pid
            for pid, words in found.items()
            if "-M" in words and words[-1] == server.address
        ]

    async def kill() -> None:
        for pid in masters():
            os.kill(pid, signal.SIGKILL)
        while masters():  # noqa: ASYNC110 - other processes, which may take long to die
            await anyio.sleep(0.01)
        await anyio.sleep(0.3)  # until that is known here

    between = Job(kill, required=first)
    later = [SshJob(node, "echo x", stdout=PIPE, required=between) for _ in range(2)]
    before = server.accepted
    run(backend, first, between, *later)
    assert [job.result(default=None) and job.result().stdout for job in later] == [
        b"x\n"
    ] * 2
    assert server.accepted == before + 2
    if behind:
        inner.stop()


# ---- unreachable nodes
def test_all_jobs_of_an_unreachable_node_share_its_connection_attempts(
    backend: str, site: Site
) -> None:
    """All jobs of an unreachable node fail after the same three attempts, each with a separate error object."""
    node = SshNode("127.0.0.1", port=free_port("127.0.0.1"), config=site.config)
    jobs = [SshJob(node, "true") for _ in range(5)]
    for error in unreachable(backend, *jobs):
        assert (error.node, error.started) == (node, False)
        assert "it cannot be reached (tried 3 times)" in str(error)
        assert "Connection refused" in str(error)
    assert len({id(job.raised_exception()) for job in jobs}) == 5


def test_jobs_that_are_retried_share_each_further_attempt_to_connect(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries, try_to_open = list[None](), _connections.Connection._try_to_open

    async def counted(self: Any) -> None:
        tries.append(None)
        await try_to_open(self)

    monkeypatch.setattr(_connections.Connection, "_try_to_open", counted)
    node = SshNode("127.0.0.1", port=free_port("127.0.0.1"))
    run(
        backend,
        *(SshJob(node, "true", retry=trioflow.Retry(2, first=0)) for _ in range(3)),
    )
    assert (
        len(tries) < 1 + 3 + 3
    )  # one that has just failed when a job comes is shared no more


def test_nodes_of_one_name_have_sessions_of_their_own() -> None:
    nodes = [SshNode("twice", username=name) for name in "abc"]
    for node in nodes:
        _connections.need_session(SshJob(node, "true"), node)
    assert len({_connections._SESSION_RESOURCES[node] for node in nodes}) == 3


def test_no_traceback_for_an_unreachable_node(
    backend: str, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """For an unreachable node, `debrief` shows no traceback, since all its frames would belong to libraries."""
    node = SshNode("127.0.0.1", port=free_port("127.0.0.1"), config=site.config)
    scheduler = Scheduler(SshJob(node, "true"), SshJob(node, Push(__file__, to="x")))
    scheduler.run(backend=backend)
    scheduler.debrief()
    said = capsys.readouterr().out
    assert said.count("trioflow.Unreachable: ") == 1  # for both jobs
    assert "Traceback" not in said


def test_jobs_of_a_skipped_node_are_skipped_and_run_in_the_next_run(
    backend: str, site: Site, tmp_path: Path
) -> None:
    """With `on_unreachable="skip"`, the jobs of an unreachable node have the result None, and one incident says why.
    The verdict once was "all 2 jobs succeeded", and a journal kept their result None."""
    node = SshNode(
        "127.0.0.1",
        port=free_port("127.0.0.1"),
        config=site.config,
        on_unreachable="skip",
    )
    for _ in range(2):
        job, other = (
            SshJob(node, "true", label="try"),
            SshJob(node, "true", label="other"),
        )
        scheduler, trace = (
            Scheduler(job, other, SshJob(trioflow.LocalNode(), "true", label="here")),
            trioflow.Trace(),
        )
        assert scheduler.run(
            backend=backend, instruments=[trace], journal=str(tmp_path / "run.db")
        )
        assert not job.restored
        assert (job.result(), reported_state(job)) == (None, JobState.SKIPPED)
        assert isinstance(job.unreachable, Unreachable)
        sentence = run_verdict(scheduler, scheduler.stop_reason).sentence
        assert (sentence[:21], sentence[-11:]) == (
            "1 of 3 jobs succeeded",
            ", 2 skipped",
        )
        assert {span.label: span.state for span in trace.spans}[
            "try"
        ] is JobState.SKIPPED
        assert "was skipped, and has the result None: 127.0.0.1" in scheduler.explain(
            job
        )
        (incident,) = incidents_of(scheduler)
        assert "cannot be reached" in incident.message
        assert incident.message.endswith("its jobs are skipped")
    assert scheduler.explain(job).endswith(
        "the journal could not store its result: its node was skipped"
    )


def test_a_retry_of_a_job_connects_to_an_unreachable_node_again(
    backend: str, site: Site
) -> None:
    server = site.serve(2)
    server.stop()
    node = server.node()

    def start(error: Exception) -> bool:
        assert isinstance(error, Unreachable)
        server.start()
        return True

    job = ran(
        backend,
        SshJob(
            node, "echo up", stdout=PIPE, retry=trioflow.Retry(1, first=0, on=start)
        ),
    )
    assert job.result().stdout == b"up\n"
    server.stop()


def test_connect_timeout_ends_the_connection_to_a_node_that_hangs(
    backend: str, site: Site
) -> None:
    """`connect_timeout` ends the attempt to connect to a node that is silent, or hangs after sending its version."""
    with Impostor() as silent, Impostor(b"SSH-2.0-hangs\r\n") as handshake:
        jobs = [
            SshJob(one.node(site, connect_timeout=1.2), "true")
            for one in (silent, handshake)
        ]
        for error in unreachable(backend, *jobs):
            assert re.search("no answer in 1.2 s|timed out", str(error))


def test_a_server_that_does_not_speak_ssh_is_unreachable(
    backend: str, site: Site
) -> None:
    """A server that speaks HTTP, an old version or noise is unreachable, and control characters are not printed."""
    noises = (
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-1.5-old\r\n",
        b"SSH-2.0-x\r\n" + bytes(range(256)) * 40,
        b"\xff\x00\x1b[2J" * 1000,
    )
    with contextlib.ExitStack() as stack:
        impostors = [
            stack.enter_context(Impostor(says, closes=True)) for says in noises
        ]
        jobs = [SshJob(one.node(site, connect_timeout=3), "true") for one in impostors]
        assert not [
            error for error in unreachable(backend, *jobs) if "\x1b" in str(error)
        ]


def test_an_unknown_host_name_fails_with_the_message_of_the_resolver(
    backend: str,
) -> None:
    (error,) = unreachable(backend, SshJob("no-such-host.invalid", "true"))
    assert "Could not resolve hostname" in str(error)


# ---- host keys, identities and settings
def test_an_unknown_host_key_is_rejected(
    backend: str, site: Site, server: Server, tmp_path: Path
) -> None:
    """An unknown host key is rejected with an error that names the node and the file of known keys. Without
    `known_hosts=`, that is the file that the user's configuration of ssh names."""
    known, config = tmp_path / "nobody known", tmp_path / "config"
    known.touch()
    config.write_text(
        site.config.read_text().replace(str(site.known_hosts), f"{tmp_path}/other")
    )
    jobs = (
        SshJob(server.node(known_hosts=known), "true"),
        SshJob(server.node(config=config), "true"),
    )
    run(backend, *jobs)
    for job, file in zip(jobs, (known, f"{tmp_path}/other"), strict=True):
        error = job.raised_exception()
        assert isinstance(error, trioflow.SshError)
        assert not isinstance(error, Unreachable)
        assert f"its host key is unknown: {file} has no entry for it" in str(error)
        assert str(error).startswith("127.0.0.2")


def test_accept_new_accepts_and_records_an_unknown_host_key(
    backend: str, server: Server, tmp_path: Path
) -> None:
    known = tmp_path / "known"
    node = server.node(known_hosts=known, accept_new=True)
    assert run(backend, SshJob(node, "true")).stop_reason is StopReason.COMPLETED
    assert f"[127.0.0.2]:{server.port}" in known.read_text()
    again = ran(backend, SshJob(server.node(known_hosts=known), "true"))
    assert again.state is JobState.SUCCEEDED


def test_a_key_is_added_to_the_keys_of_thousands_of_hosts(
    backend: str, server: Server, tmp_path: Path
) -> None:
    """The limit of what ssh may report ended it when it wrote this file, and the node was unreachable."""
    known = tmp_path / "known"
    key = server.host_key.with_suffix(".pub").read_text()
    known.write_text("".join(f"host{number}.org {key}" for number in range(50_000)))
    node = server.node(known_hosts=known, accept_new=True)
    assert run(backend, SshJob(node, "true")).stop_reason is StopReason.COMPLETED
    assert f"[127.0.0.2]:{server.port}" in known.read_text()


LIMITED_FILES = """
import sys
from trioflow import Scheduler, SshJob, SshNode

node = SshNode(sys.argv[2], port=int(sys.argv[3]), config=sys.argv[4])
print(Scheduler(SshJob(node, "true")).run(backend=sys.argv[1]))
"""


def test_a_user_may_have_a_lower_limit_of_file_sizes_than_ssh(
    backend: str, server: Server
) -> None:
    """Only root may raise that limit, and no ssh could be started."""
    python = [sys.executable, "-c", LIMITED_FILES]
    arguments = [backend, server.address, str(server.port), server.site.config]
    limited = ["sh", "-c", 'ulimit -f 1000; exec "$0" "$@"', *python, *arguments]
    if os.geteuid() == 0:
        limited[:0] = ["setpriv", "--bounding-set=-sys_resource"]
    done = subprocess.run(limited, capture_output=True, check=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_a_changed_host_key_is_rejected_even_with_accept_new(
    backend: str, site: Site
) -> None:
    server = site.serve(2)
    line = len(site.known_hosts.read_text().splitlines())
    server.change_key()
    jobs = [
        SshJob(server.node(accept_new=accept_new), "true")
        for accept_new in (False, True)
    ]
    run(backend, *jobs)
    for job in jobs:
        error = job.raised_exception()
        assert isinstance(error, trioflow.SshError)
        assert not isinstance(error, Unreachable)
        assert (
            f"its host key has changed: it does not match the one in {site.known_hosts}, line {line}"
            in str(error)
        )
    server.stop()


def test_a_node_that_denies_permission_is_tried_once(
    backend: str, site: Site, server: Server, tmp_path: Path
) -> None:
    stranger = make_key(tmp_path / "stranger")
    config = tmp_path / "config"
    config.write_text(
        site.config.read_text().replace(
            f"IdentityFile {site.identity}", f"IdentityFile {stranger}"
        )
    )
    since = server.logged("Connection from")
    jobs = [SshJob(server.node(config=config), "true") for _ in range(3)]
    run(backend, *jobs)
    for job in jobs:
        assert "login failed (" in str(job.raised_exception())
        (advice,) = getattr(job.raised_exception(), "__notes__", [""])
        assert (
            f" {job.node.hostname}" in advice.rpartition("try: ssh -o BatchMode=yes")[2]
        )
        assert "Permission denied (publickey)" in str(job.raised_exception())
    assert server.logged("Connection from") == since + 1


def test_identity_overrides_the_key_of_configuration(
    backend: str, site: Site, server: Server, tmp_path: Path
) -> None:
    """The key in `identity=` is used, not that of the configuration; if it is missing, the error names it. The
    "Permission denied" of ssh would not explain the failure."""
    config = tmp_path / "config"
    config.write_text(
        site.config.read_text().replace(
            f"IdentityFile {site.identity}", "IdentityFile /no/key"
        )
    )
    job = SshJob(server.node(config=config, identity=site.identity), "true")
    missing = SshJob(server.node(config=config, identity=tmp_path / "missing"), "true")
    run(backend, job, missing)
    assert job.state is JobState.SUCCEEDED
    assert "login failed (" in str(missing.raised_exception())
    assert f"identity='{tmp_path}/missing' does not exist" in str(
        missing.raised_exception()
    )


def test_paths_of_keys_may_contain_any_characters(
    backend: str, site: Site, server: Server, tmp_path: Path
) -> None:
    directory = tmp_path / "100 %h \"a\" 'b' #1 \\n"
    directory.mkdir()
    shutil.copy(site.identity, directory / "key %u")
    shutil.copy(site.known_hosts, directory / "known")
    config = tmp_path / "config"
    config.write_text(
        "IdentityAgent none\nUserKnownHostsFile /dev/null\nGlobalKnownHostsFile /dev/null\n"
    )
    node = server.node(
        config=config, identity=directory / "key %u", known_hosts=directory / "known"
    )
    job = ran(backend, SshJob(node, "true"))
    assert job.state is JobState.SUCCEEDED, job.raised_exception()


def test_the_error_blames_a_configuration_that_ssh_rejects(
    backend: str, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("Nonsense yes\n")
    job = ran(backend, SshJob(SshNode("node", config=config), "true"))
    assert "its ssh settings are invalid" in str(job.raised_exception())


def test_the_error_names_a_missing_ssh_client(
    backend: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/no/where")
    job = ran(backend, SshJob(server.node(), "true"))
    assert "ssh could not be started" in str(job.raised_exception())


# ---- gateways
def test_nodes_share_the_connection_to_their_gateway(
    backend: str, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed last."""
    closed, request_end = list[SshNode](), _connections.Connection.request_end
    monkeypatch.setattr(
        _connections.Connection,
        "request_end",
        lambda self: closed.append(self.node) or request_end(self),
    )
    config = tmp_path / "100 %z 'a'"
    shutil.copy(site.config, config)
    gateway, *behind = (site.serve(number) for number in (3, 4, 5))
    to_gateway = gateway.node(config=config)
    jobs = [
        SshJob(node, "true")
        for node in (*(one.node(gateway=to_gateway) for one in behind), to_gateway)
    ]
    run(backend, *jobs)
    assert [job.state for job in jobs] == [JobState.SUCCEEDED] * 3
    assert [one.accepted for one in (gateway, *behind)] == [1, 1, 1]
    assert (len(closed), closed[-1]) == (3, to_gateway)
    for one in (gateway, *behind):
        one.stop()


def test_nodes_behind_an_unreachable_gateway_are_unreachable(
    backend: str, site: Site, server: Server
) -> None:
    gateway = SshNode("127.0.0.1", port=free_port("127.0.0.1"), config=site.config)
    jobs = [
        SshJob(server.node(gateway=gateway, connect_timeout=30 + number), "true")
        for number in (1, 2)
    ]
    for error in unreachable(backend, *jobs):
        assert (
            f"cannot connect to its gateway: 127.0.0.1:{gateway.port}: it cannot be reached"
            in str(error)
        )


def test_the_error_blames_a_node_that_its_gateway_cannot_reach(
    backend: str, site: Site, server: Server
) -> None:
    node = SshNode(
        "127.0.0.1",
        port=free_port("127.0.0.1"),
        config=site.config,
        gateway=server.node(),
    )
    (error,) = unreachable(backend, SshJob(node, "true"))
    assert "(tried 3 times): its gateway cannot reach it" in str(error)


@pytest.mark.skipif(shutil.which("faketime") is None, reason="needs faketime")
def test_a_wrong_clock_of_a_server_does_not_matter(site: Site) -> None:
    """The clock of a server may be wrong by thirty years: remote times are never compared with local ones."""
    server = site.serve(2, ("faketime", "-f", "-30y"))
    job = SshJob(server.node(), "echo x", stdout=subprocess.PIPE)
    assert Scheduler(job).run()
    assert job.result().text == "x\n"
    server.stop()
