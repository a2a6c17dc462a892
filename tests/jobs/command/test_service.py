"""`CommandService`: when it is ready, how it ends, and its errors, with programs of one line of shell."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
import anyio
import pytest
import trioflow
from trioflow import (
    CommandJob,
    CommandService,
    CommandSucceeds,
    Job,
    JobState,
    OutputLine,
    PortOpen,
    Scheduler,
    Trace,
)
from ...bodies import give, give_now, take
from ...places import PATIENCE, patiently
from ..posix.process_trees import until_there
from .commands import failed, with_notes

LISTENS = """
import socket, sys, time
time.sleep(0.1)
one = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("listens", flush=True)
time.sleep(60)
"""


def shell(line: str, **options: Any) -> CommandService:
    return CommandService(line, shell=True, **{"timeout": PATIENCE, **options})


@pytest.fixture
def port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        number: int = one.getsockname()[1]
        return number


# --- ready
def test_a_line_in_two_pieces_makes_a_service_ready(backend: Any) -> None:
    service = shell(
        "printf 'rea' >&2; sleep 0.1; echo 'dy on 4711' >&2; exec sleep 60",
        ready=OutputLine("ready on"),
    )
    client = CommandJob(["echo", service], stdout=subprocess.PIPE)
    assert Scheduler(service, client).run(backend=backend)
    assert client.result().text == "ready on 4711\n"
    assert service.state is JobState.SUCCEEDED


def test_a_ready_line_may_be_a_regular_expression_and_may_go_to_a_file(
    backend: Any, tmp_path: Path
) -> None:
    """A ready line may match a regular expression, and in a file only what this attempt has written is searched.

    A file that an attempt begins anew was searched from its old end on. A line of it may end with a carriage return."""
    services: list[CommandService] = []
    for append in (True, False):
        log = tmp_path / f"log {append}"
        log.write_text("port 1\n" * 9)
        service = shell(
            r"sleep 0.1; printf 'port 22\r\n'; exec sleep 60",
            ready=OutputLine(re.compile(r"port \d+")),
            stdout=log,
            append=append,
        )
        services.append(service)
    user = Job(give_now, required=services)
    assert Scheduler(*services, user).run(backend=backend)
    assert [service.result() for service in services] == ["port 22"] * 2
    assert log.read_bytes() == b"port 22\r\n"


@patiently(0.5, 30)
def test_a_ready_line_is_not_searched_in_a_pipe_that_has_a_name(
    backend: Any, tmp_path: Path, unit: float
) -> None:
    """To open it would stop the whole run, until a program writes to it.

    A service that waited for its reader began, and was killed by SIGPIPE when it wrote."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    service = shell(
        "exec >&-; exec sleep 60", ready=OutputLine("x"), stdout=pipe, timeout=unit
    )
    assert "was not ready" in with_notes(failed(service, backend))
    os.close(reader)
    waiting = shell(
        "echo x; exec sleep 60", ready=OutputLine("x"), stdout=pipe, timeout=unit
    )
    assert "was not ready" in with_notes(failed(waiting, backend))


@pytest.mark.parametrize(
    "ready", [OutputLine("ready"), CommandSucceeds(["sh", "-c", "exit 1"])]
)
def test_services_may_share_the_object_that_says_when_they_are_ready(
    backend: Any, ready: Any
) -> None:
    timeout = PATIENCE if isinstance(ready, OutputLine) else 1
    first = shell("echo first is ready; exec sleep 300", ready=ready, timeout=timeout)
    second = shell(
        "echo second is ready; exec sleep 300",
        ready=ready,
        timeout=timeout,
        redact=True,
    )
    readers = [Job(take, service) for service in (first, second)]
    Scheduler(first, second, *readers).run(backend=backend)
    if isinstance(ready, OutputLine):
        assert [reader.result() for reader in readers] == [
            ("first is ready",),
            ("second is ready",),
        ]
    else:
        assert "waiting for \"sh -c 'exit 1'\"" in with_notes(first.raised_exception())
        assert "sh -c" not in with_notes(second.raised_exception())


def test_an_open_port_makes_a_service_ready(backend: Any, port: int) -> None:
    service = CommandService(
        [sys.executable, "-c", LISTENS, "127.0.0.1", port],
        ready=PortOpen(port),
        timeout=PATIENCE,
    )
    client = CommandJob([sys.executable, "-c", f"import socket; socket.create_connection(('localhost', {port}))"],
                        required=service)  # fmt: skip
    assert Scheduler(service, client).run(backend=backend)
    assert client.state is JobState.SUCCEEDED
    assert service.result() == port


def test_a_successful_command_makes_a_service_ready(
    backend: Any, tmp_path: Path
) -> None:
    """With `ready=CommandSucceeds(...)`, the command is called again until it succeeds."""
    service = shell(
        f"sleep 0.2; touch {tmp_path}/up; exec sleep 60",
        ready=CommandSucceeds(["ls", tmp_path / "up"]),
    )
    assert Scheduler(
        service, CommandJob(["ls", tmp_path / "up"], required=service)
    ).run(backend=backend)
    assert service.result().returncode == 0


def test_a_new_file_makes_a_service_ready_and_an_old_one_does_not(
    backend: Any, tmp_path: Path
) -> None:
    path = tmp_path / "pid"
    path.write_text("old")
    service = shell(
        f"sleep 0.2; rm {path}; echo new > {path}; exec sleep 60", ready=path
    )
    other = shell(
        f"sleep 0.1; touch {tmp_path}/other; exec sleep 60", ready=tmp_path / "other"
    )
    reads = CommandJob(["cat", path], required=[service, other], stdout=subprocess.PIPE)
    assert Scheduler(service, other, reads).run(backend=backend)
    assert reads.result().text == "new\n"
    assert service.result() == path


def test_a_socket_makes_a_service_ready_when_it_accepts_connections(
    backend: Any, tmp_path: Path
) -> None:
    """A service is ready when its socket accepts connections: a stale socket of a killed program is not enough."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    code = f"import os, socket, time; os.unlink({str(path)!r}); s = socket.socket(socket.AF_UNIX); "
    code += f"s.bind({str(path)!r}); time.sleep(0.2); s.listen(); time.sleep(60)"
    service = CommandService([sys.executable, "-c", code], ready=path, timeout=PATIENCE)
    connects = f"import socket; socket.socket(socket.AF_UNIX).connect({str(path)!r})"
    client = CommandJob([sys.executable, "-c", connects], required=service)
    assert Scheduler(service, client).run(backend=backend)
    assert client.state is JobState.SUCCEEDED


# --- not ready
def test_a_service_that_never_gets_ready_fails_with_its_condition(
    backend: Any, tmp_path: Path
) -> None:
    begun = tmp_path / "begun"
    line = f"echo hel''lo; touch {begun}; exec sleep 60"
    service = shell(
        line,
        ready=OutputLine("never"),
        timeout=0.1,
        on_start=lambda service: until_there(begun),
    )
    error = failed(service, backend)
    assert isinstance(error, trioflow.JobTimeout)
    assert re.search(
        "was not ready within its timeout of 0.1 s(?!.*move_on)", str(error)
    )
    assert (
        "It was waiting for a line with 'never' in its output. Maybe the program holds its output back"
        in with_notes(error)
    )
    assert "hello" in with_notes(error)


@patiently(1, 30)
def test_a_service_that_listens_on_another_address_never_gets_ready(
    backend: Any, port: int, unit: float
) -> None:
    service = CommandService(
        [sys.executable, "-c", LISTENS, "127.0.0.2", port],
        ready=PortOpen(port),
        timeout=unit,
    )
    text = with_notes(failed(service, backend))
    assert f"port {port} of localhost" in text
    assert "listens" in text


@patiently(0.5, 30)
def test_the_error_of_a_readiness_check_that_fails_is_quoted(
    backend: Any, unit: float
) -> None:
    service = shell(
        "exec sleep 60",
        ready=CommandSucceeds("echo 'no answer' >&2; exit 2", shell=True),
        timeout=unit,
    )
    text = with_notes(failed(service, backend))
    assert "exit code 2" in text
    assert "no answer" in text


@patiently(0.5, 30)
def test_the_error_of_a_readiness_check_is_that_of_its_own_attempt(
    backend: Any, tmp_path: Path, unit: float
) -> None:
    """The check of the first attempt fails, that of the second never ends."""
    begun = tmp_path / "begun"
    check = f"if test -e {begun}; then exec sleep 60; fi; echo 'no answer' >&2; exit 2"
    service = shell(
        "exec sleep 60",
        ready=CommandSucceeds(check, shell=True),
        timeout=unit,
        retry=1,
        on_start=lambda service: service.attempts == 2 and begun.touch(),
    )
    text = with_notes(failed(service, backend))
    assert service.attempts == 2
    assert "to succeed" in text
    assert "The last attempt failed" not in text


@patiently(0.2, 10)
def test_a_readiness_check_that_exceeds_its_own_timeout_is_called_again(
    backend: Any, tmp_path: Path, unit: float
) -> None:
    """It has failed once. The first call never ends, the second succeeds."""
    begun = tmp_path / "begun"
    check = f"test -e {begun} && exit; touch {begun}; exec sleep 60"
    service = shell(
        "exec sleep 60", ready=CommandSucceeds(check, shell=True, timeout=unit)
    )
    assert Scheduler(service, Job(give_now, required=service)).run(backend=backend)


@patiently(0.5, 30)
def test_the_error_of_a_service_quotes_the_timeout_of_its_readiness_check(
    backend: Any, unit: float
) -> None:
    check = CommandSucceeds("exec sleep 60", shell=True, timeout=unit / 10)
    service = shell("exec sleep 60", ready=check, timeout=unit)
    text = with_notes(failed(service, backend))
    assert f"was not ready within its timeout of {unit:g} s" in text
    assert f"did not end within its timeout of {unit / 10:g} s" in text


def test_a_readiness_check_that_cannot_be_started_fails_the_service_at_once(
    backend: Any,
) -> None:
    """A service fails at once if its readiness check cannot be started, since further checks would fail as well."""
    assert "program 'no-such' not found" in str(
        failed(shell("exec sleep 60", ready=CommandSucceeds(["no-such"])), backend)
    )


def test_a_port_in_use_fails_the_service_before_its_start(backend: Any) -> None:
    """A service whose port is in use is not started, since another program would be taken for it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        number = other.getsockname()[1]
        text = str(
            failed(
                shell(
                    "echo started; exec sleep 60", ready=PortOpen(number, "127.0.0.1")
                ),
                backend,
            )
        )
    assert f"port {number} of 127.0.0.1 is already in use" in text


def test_a_socket_in_use_fails_the_service_before_its_start(
    backend: Any, tmp_path: Path
) -> None:
    """A service on whose socket a program listens already is not started: the other would be taken for it."""
    path = tmp_path / "s"
    begun = tmp_path / "begun"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        text = str(failed(shell(f"touch {begun}; exec sleep 60", ready=path), backend))
    assert f"the socket {str(path)!r} is already in use" in text
    assert not begun.exists()


# --- an early end
def test_a_service_that_ends_before_it_is_ready_fails(backend: Any) -> None:
    error = failed(
        shell("echo 'no'' space'; exit 3", ready=OutputLine("ready")), backend
    )
    assert isinstance(error, trioflow.CommandError)
    assert error.returncode == 3
    assert "before it was ready" in str(error)
    assert "no space" in str(error)


def test_a_service_that_goes_into_the_background_fails(backend: Any) -> None:
    began = time.monotonic()
    error = failed(
        shell(
            "sleep 1000 & echo forked",
            ready=OutputLine("never"),
            terminate_grace=PATIENCE,
        ),
        backend,
    )
    assert "must stay in the foreground" in with_notes(error)
    assert (
        time.monotonic() - began < PATIENCE
    )  # its processes are ended without waiting for the grace


@pytest.mark.parametrize("code", [0, 1])
def test_a_ready_service_that_exits_earlier_fails_at_once_whatever_its_exit_code(
    backend: Any, tmp_path: Path, code: int
) -> None:
    """A critical service that dies stops the run at once, although jobs that use it need not notice."""
    line = f"echo ready; until test -e {tmp_path}/used; do sleep 0.01; done; echo 'I'' die'; exit {code}"
    service = shell(line, ready=OutputLine("ready"), critical=True)
    client = CommandJob(
        f"touch {tmp_path}/used; exec sleep 1000", shell=True, required=service
    )
    assert not Scheduler(service, client).run(backend=backend)
    error = service.raised_exception()
    assert "while it was in use" in str(error)
    assert "I die" in str(error)
    assert client.state is JobState.CANCELLED


def test_the_error_of_a_service_quotes_output_that_went_to_a_file(
    backend: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    log.write_text("old\n")
    text = str(
        failed(
            shell(
                "echo bro''ken; exit 1",
                ready=OutputLine("x"),
                stdout=log,
                stderr=subprocess.STDOUT,
            ),
            backend,
        )
    )
    assert "broken" in text
    assert "old" not in text


# --- its end
def test_a_service_ends_after_the_jobs_that_use_it(
    backend: Any, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    line = f"trap 'echo ends >> {log}; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    service = shell(line, ready=OutputLine("ready"))
    client = CommandJob(f"sleep 0.2; echo used >> {log}", shell=True, required=service)
    assert Scheduler(service, client).run(backend=backend)
    assert log.read_text() == "used\nends\n"
    assert service.state is JobState.SUCCEEDED


def test_views_show_a_service_as_a_command(backend: Any) -> None:
    """A trace shows the exit code of a service; `redact=True` hides its command line."""
    service = shell(
        "echo ready; exec sleep 60", ready=OutputLine("ready"), label="server"
    )
    secret = shell("echo ready; exec sleep 61", ready=OutputLine("ready"), redact=True)
    trace = Trace()
    scheduler = Scheduler(
        service,
        secret,
        Job(anyio.sleep, 0, required=[service, secret]),
        instruments=[trace],
    )
    assert scheduler.run(backend=backend, check=True)
    assert [span.returncode for span in trace.spans if span.label == "server"] == [-15]
    assert service.command_line() == "echo ready; exec sleep 60"
    assert "61" not in secret._command_line()


def test_a_service_that_ignores_sigterm_is_killed(backend: Any) -> None:
    service = shell(
        "trap '' TERM; echo ready; while :; do sleep 0.05; done",
        ready=OutputLine("ready"),
        terminate_grace=0.2,
    )
    assert Scheduler(service, CommandJob(["true"], required=service)).run(
        backend=backend
    )
    assert service.pid is None
    assert service.last_result is not None
    assert service.last_result.returncode == -9


def test_a_service_is_retried_until_it_is_ready(backend: Any, tmp_path: Path) -> None:
    line = f"echo x >> {tmp_path}/tries; test $(wc -l < {tmp_path}/tries) -ge 2 || exit 1; echo ready; exec sleep 60"
    service = shell(line, ready=OutputLine("ready"), retry=2)
    assert Scheduler(service, CommandJob(["true"], required=service)).run(
        backend=backend
    )
    assert service.attempts == 2


# --- options
def test_an_on_line_callback_that_raises_fails_the_service(backend: Any) -> None:
    def take(service: CommandService, line: str) -> None:
        raise KeyError(line)

    assert (
        repr(
            failed(
                shell("echo x; exec sleep 60", ready=OutputLine("ready"), on_line=take),
                backend,
            )
        )
        == "KeyError('x')"
    )


def test_lines_of_a_service_go_to_on_line_or_to_standard_error(
    backend: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    lines: list[str] = []
    service = shell(
        "echo ready; exec sleep 60",
        ready=OutputLine("ready"),
        on_line=lambda _, line: lines.append(line),
    )
    loud = shell("echo ready; exec sleep 60", ready=OutputLine("ready"))
    Scheduler(service, loud, CommandJob(["true"], required=[service, loud])).run(
        backend=backend
    )
    assert lines == ["ready"]
    assert capfd.readouterr() == ("", "ready\n")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: shell("x", ready="ready"), "give Port"),
        (
            lambda: shell(
                "x",
                ready=OutputLine("x"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
            ),
            "its output cannot be read",
        ),
        (
            lambda: shell("x", ready=OutputLine("x"), stdout="/dev/null"),
            "its output cannot be read",
        ),
        (
            lambda: shell("x", ready=PortOpen(1), stdout="x", on_line=print),
            "goes elsewhere",
        ),
        (lambda: CommandService([], ready=PortOpen(1)), "command"),
        (lambda: PortOpen(0), "from 1 to 65535"),
        (lambda: PortOpen("80"), "the number of a TCP port"),  # type: ignore[arg-type]
        (lambda: OutputLine(""), "part of the line"),
    ],
)
def test_invalid_options_of_a_service_are_rejected(make: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        make()


def test_the_first_line_that_matches_makes_a_service_ready(backend: str) -> None:
    command = ["sh", "-c", "printf 'begins\\nready 1\\nready 2\\n'; exec sleep 99"]
    service = CommandService(command, ready=OutputLine("ready"))
    user = Job(give, service)
    assert Scheduler(service, user).run(backend=backend)
    assert user.result() == "ready 1"


def test_in_each_run_a_service_is_ready_by_a_line_of_that_run(
    backend: str, tmp_path: Path
) -> None:
    script = "echo >> runs; sleep 0.1; echo ready $(wc -l < runs); exec sleep 99"
    service = CommandService(
        ["sh", "-c", script], ready=OutputLine("ready"), cwd=tmp_path
    )
    user = Job(give, service)
    scheduler = Scheduler(service, user)
    for number in (1, 2):
        assert scheduler.run(backend=backend)
        assert user.result() == f"ready {number}"
