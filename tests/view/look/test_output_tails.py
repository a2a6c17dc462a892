"""The end of the output of a command that runs, for whoever looks at it."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from trioflow import CommandJob, Job, LocalNode, Scheduler, SshJob
from trioflow._core.words._job_queries import output_tails
from trioflow.abc import AbstractJob
from trioflow.jobs.command import _output_sinks

MORE: str = "i=0; while [ $i -lt 40000 ]; do echo a line of more than a megabyte in all; i=$((i + 1)); done; "
JOBS: dict[str, Callable[[str, Path], AbstractJob[Any]]] = {
    "captured": lambda line, _: CommandJob(line, shell=True, stdout=subprocess.PIPE),
    "captured on disk": lambda line, _: CommandJob(MORE + line, shell=True, stdout=subprocess.PIPE),
    "a file": lambda line, path: CommandJob(line, shell=True, stdout=path),
    "standard error": lambda line, _: CommandJob(f"{{ {line}; }} >&2", shell=True, stderr=subprocess.PIPE),
    "on a node": lambda line, _: SshJob(LocalNode(), line, stdout=subprocess.PIPE),
    "on a node, to a file": lambda line, path: SshJob(LocalNode(), line, stdout=path),
    "redacted": lambda line, _: CommandJob(line, shell=True, stdout=subprocess.PIPE, redact=True),
}


@pytest.mark.parametrize("place", JOBS)
def test_the_end_of_the_output_of_a_running_command_is_known(backend: Any, tmp_path: Path, place: str) -> None:
    """Captured in memory or on disk, or in a file; afterwards nothing is, and of a redacted job never."""
    go = tmp_path / "go"
    os.mkfifo(go)
    job = JOBS[place](f"echo first; echo last; read answer <{go}", tmp_path / "output")
    seen: list[tuple[str, bytes]] = []

    async def look() -> None:
        while not (seen and seen[0][1].endswith(b"last\n")) and not (job.redact and job.state.value == "running"):
            await anyio.sleep(0.01)
            seen[:] = output_tails(job, 9)
        async with await anyio.open_file(go, "w") as file:
            await file.write("\n")

    assert Scheduler(job, Job(look)).run(backend=backend)
    stream = "stderr" if place == "standard error" else "stdout"
    assert [each for each in seen if each[1]] == ([] if place == "redacted" else [(stream, b"rst\nlast\n"[-9:])])
    assert [each for each in output_tails(job, 9) if each[1]] == []


def test_a_file_that_becomes_a_pipe_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command may replace its file between the test of what it is and its opening, which would wait for a writer."""
    os.mkfifo(pipe := tmp_path / "pipe")
    assert _output_sinks.file_tail(pipe, 9) == b""
    monkeypatch.setattr(_output_sinks, "may_wait_for_writer", lambda _: False)
    assert _output_sinks.file_tail(pipe, 9) is None
    (link := tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "file").write_text("first last")
    assert _output_sinks.file_tail(link, 4) == b"last"


def test_the_end_of_what_a_node_has_written_stays(backend: Any) -> None:
    """It passes through this program on its way to the terminal: a page shows it without a monitor, and afterwards."""
    job = SshJob(LocalNode(), "echo first; echo last")
    assert Scheduler(job).run(backend=backend)
    assert [*output_tails(job, 9)] == [("stdout", b"rst\nlast\n"[-9:]), ("stderr", b"")]
