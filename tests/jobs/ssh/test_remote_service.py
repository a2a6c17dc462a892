"""`SshService`: a program on a node is running and ready, and nothing of it is left, however it ends."""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    Job,
    JobState,
    OutputLine,
    PortOpen,
    Push,
    Scheduler,
    Script,
    SshError,
    SshJob,
    SshNode,
    SshService,
)
from trioflow.view import listing
from ...places import PATIENCE, patiently
from ...pythons import Python
from ..command.commands import failed
from ..posix.process_trees import STUBBORN, TREE, Watched, until_there
from .servers import (
    SSH_ON_TRIO,
    LocalConnection,
    Place,
    Server,
    free_port,
    until_written,
)

PIPE = subprocess.PIPE


def sniffer(place: Place, command: Any, **options: Any) -> SshService:
    return SshService(
        place.node(),
        command,
        **{"timeout": PATIENCE, "terminate_grace": 0.1, **options},
    )


# ---- when it is ready
@SSH_ON_TRIO
def test_a_sender_starts_when_the_sniffer_on_its_node_listens(
    backend: str, place: Place, tmp_path: Path, watched: Watched, mark: dict[str, str]
) -> None:
    """A job that requires a service on a node starts at its line, and the service ends after it."""
    command = (
        f"sleep 0.2; echo up > {tmp_path}/up; echo 'listening on eth0' >&2; {TREE}"
    )
    service = sniffer(place, command, ready=OutputLine("listening on"), env=mark)
    sender = SshJob(place.node(), f"cat {tmp_path}/up", required=service, stdout=PIPE)
    assert Scheduler(service, sender).run(backend=backend)
    assert (sender.result().text, service.result(), service.state) == (
        "up\n",
        "listening on eth0",
        JobState.SUCCEEDED,
    )
    assert service.last_result is not None
    assert service.last_result.signal == signal.SIGTERM
    assert watched.gone_in_time(), watched.alive()


def serving(port: int, before: str = "") -> str:
    lines = "import socket; s = socket.create_server(('127.0.0.1', %d)); [s.accept() for _ in iter(int, 1)]"
    return f"{before} exec {shlex.quote(sys.executable)} -c {shlex.quote(lines % port)}"


def test_a_service_on_a_node_may_be_ready_when_its_port_is_open(
    backend: str, place: Place, tmp_path: Path, watched: Watched, mark: dict[str, str]
) -> None:
    """A service whose `ready` is a `PortOpen` is ready when it listens, wherever its output goes, and adds none."""
    port = free_port("127.0.0.1")
    command = serving(port, f"sleep 0.2; echo up >&2; touch {tmp_path}/up;")
    options: dict[str, Any] = {
        "stdout": tmp_path / "log",
        "stderr": subprocess.STDOUT,
        "env": mark,
    }
    service = sniffer(place, command, ready=PortOpen(port, "127.0.0.1"), **options)
    sender = SshJob(place.node(), f"test -e {tmp_path}/up", required=service)
    assert Scheduler(service, sender).run(backend=backend)
    assert (service.result(), service.last_result and service.last_result.signal) == (
        port,
        signal.SIGTERM,
    )
    assert (tmp_path / "log").read_text() == "up\n"
    assert watched.gone_in_time(), watched.alive()


def test_a_service_on_a_node_whose_port_is_in_use_does_not_start(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    """Another server on the port of a service never passes for it: the service fails before its program starts."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        ready = PortOpen(other.getsockname()[1], "127.0.0.1")
        service = sniffer(
            local, f"touch {tmp_path}/begun; exec sleep 1000", ready=ready
        )
        assert "is in use before the service starts" in str(failed(service, backend))
    assert not (tmp_path / "begun").exists()


def test_a_service_on_a_node_may_be_a_script_with_files(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    (tmp_path / "functions.sh").write_text(
        'serve() { echo "up in $PWD"; exec sleep 1000; }\n'
    )
    (tmp_path / "serve.sh").write_text(
        '. "$(dirname "$0")/functions.sh"; sleep 0.1; serve\n'
    )
    (tmp_path / "there").mkdir()
    step = Script(tmp_path / "serve.sh", includes=[tmp_path / "functions.sh"])
    service = sniffer(local, step, ready=OutputLine("up"), cwd=tmp_path / "there")
    assert Scheduler(service, SshJob(local.node(), "true", required=service)).run(
        backend=backend
    )
    assert service.result() == f"up in {tmp_path / 'there'}"


def test_line_of_a_service_may_go_to_a_file_for_each_node(
    backend: str, local: LocalConnection, tmp_path: Path
) -> None:
    service = sniffer(
        local,
        "echo ready; exec sleep 1000",
        ready=OutputLine("ready"),
        stdout=tmp_path / "{node}.log",
    )
    assert Scheduler(service, SshJob(local.node(), "true", required=service)).run(
        backend=backend
    )
    assert [path.read_text() for path in tmp_path.glob("127*.log")] == ["ready\n"]


# ---- its errors
def test_a_service_that_ends_early_fails_with_its_output(
    backend: str, local: LocalConnection
) -> None:
    """If the program ends before it is ready, the error has the exit code and the end of its output."""
    error = failed(
        sniffer(local, "echo no such device >&2; exit 3", ready=OutputLine("ready")),
        backend,
    )
    assert isinstance(error, trioflow.CommandError)
    assert (
        "exit code 3 before it was ready (it was waiting for a line with 'ready'"
        in str(error)
    )
    assert "no such device" in str(error)


@patiently(1, 10, 60)
def test_a_service_on_a_node_that_is_not_ready_in_time_fails(
    backend: str, server: Server, watched: Watched, mark: dict[str, str], unit: float
) -> None:
    """After its timeout a service has failed with the condition and the end of the output."""
    service = sniffer(
        server, f"echo waits; {TREE}", ready=OutputLine("ready"), timeout=unit, env=mark
    )
    error = failed(service, backend)
    assert isinstance(error, trioflow.JobTimeout)
    notes = "\n".join(error.__notes__)
    assert "It was waiting for a line with 'ready'" in notes
    assert "waits" in notes
    assert watched.gone_in_time(), watched.alive()


def test_a_service_on_a_node_that_is_skipped_is_skipped(backend: str) -> None:
    node = SshNode(
        "127.0.0.1",
        port=free_port("127.0.0.1"),
        on_unreachable="skip",
        connect_timeout=1,
    )
    service = SshService(node, "exec sleep 1000", ready=OutputLine("ready"))
    scheduler = Scheduler(service, SshJob(node, "true", required=service))
    assert scheduler.run(backend=backend)
    assert (service.state, service.result()) == (JobState.SUCCEEDED, None)
    assert listing(scheduler).count("⤼") == 2
    assert "was skipped" in scheduler.explain(service)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SshService("n", ["a", "b"], ready=OutputLine("a")),
            "a service runs one program",
        ),
        (
            lambda: SshService("n", Push("a", to="b"), ready=OutputLine("a")),
            "a service runs one program",
        ),  # type: ignore[arg-type]
        (
            lambda: SshService("n", "a", ready=Path("b")),
            "give PortOpen(5432), or OutputLine(...)",
        ),  # type: ignore[arg-type]
        (
            lambda: SshService("n", "a", ready="b"),
            "give PortOpen(5432), or OutputLine(...)",
        ),  # type: ignore[arg-type]
        (
            lambda: SshService("n", "a", ready=OutputLine("a"), env={"a b": 1}),
            "env of 'SshService'",
        ),
    ],
)
def test_services_on_nodes_reject_what_has_no_meaning_there(
    make: Callable[[], Any], message: str
) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        make()
    assert message in str(caught.value)


# ---- however it ends

STATES = {"ready": "echo listening; ", "not ready": ""}


@pytest.mark.parametrize(
    ("end", "state", "body"),
    [
        ("job", "ready", STUBBORN),
        ("timeout", "not ready", STUBBORN),
        ("cut", "not ready", STUBBORN),
    ],
    ids=lambda given: given.partition(" ")[0],
)
def test_nothing_of_a_service_is_left_when_the_run_ends(
    backend: str,
    server: Server,
    end: str,
    state: str,
    body: str,
    tmp_path: Path,
    mark: dict[str, str],
    watched: Watched,
) -> None:
    """However a run ends, or the connection is cut, neither the program nor a child of it is left on the node."""
    line = f"{STATES[state]}echo begun > {tmp_path}/begun; {body}"
    service = sniffer(server, line, ready=OutputLine("listening"), env=mark)

    async def act() -> None:
        await until_written(tmp_path / "begun")
        if end == "job":
            service.cancel()
        elif end == "cut":
            server.cut()
        await anyio.sleep(0.2 if end != "timeout" else 1000)

    scheduler = Scheduler(service, Job(act))
    scheduler.run(backend=backend, timeout=1 if end == "timeout" else None)
    if end == "timeout":
        assert scheduler.stop_reason is trioflow.StopReason.TIMEOUT
    elif end == "cut":
        assert isinstance(service.raised_exception(), SshError)
    assert watched.gone_in_time(), watched.alive()


@pytest.mark.parametrize(
    ("place", "number", "state"),
    [
        ("by ssh", signal.SIGTERM, "ready"),
        ("by ssh", signal.SIGKILL, "ready"),
        ("local", signal.SIGKILL, "not ready"),
    ],
    indirect=["place"],
)
def test_nothing_of_a_service_is_left_when_this_program_is_killed(
    backend: str,
    place: Place,
    number: int,
    state: str,
    tmp_path: Path,
    mark: dict[str, str],
    watched: Watched,
) -> None:
    """When this program is killed by any signal, nothing of its services is left on either side."""
    places = Path(tempfile.mkdtemp(prefix="tf", dir="/tmp"))  # short enough for sockets
    code = (
        "import os, tempfile\nfrom trioflow import *\n"
        f"os.environ['XDG_RUNTIME_DIR'] = tempfile.tempdir = {str(places)!r}\n"
        f"node = {place.node()!r}\n"
        f"command = {f'{STATES[state]}echo begun > {tmp_path}/begun; {STUBBORN}'!r}\n"
        f"service = SshService(node, command, ready=OutputLine('listening'), env={mark!r}, terminate_grace=0.1)\n"
        "Scheduler(service, SshJob(node, 'sleep 1000', required=service)).run(\n"
        f"    backend={backend!r}, handle_signals=True)\n"
    )
    process = Python(
        ["-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until_there(tmp_path / "begun")
    process.send_signal(number)
    process.wait(PATIENCE)
    assert watched.gone_in_time(), watched.alive()
    with contextlib.suppress(OSError):
        os.rmdir(places)
    assert not places.exists()
    end = time.monotonic() + PATIENCE
    while isinstance(place, Server) and place.sessions():
        assert time.monotonic() < end
        time.sleep(0.01)
