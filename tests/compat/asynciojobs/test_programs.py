"""asynciojobs' names: whole programs that import `asynciojobs` itself, and apssh."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
import pytest
from ...places import PATIENCE
from ...pythons import python

PROGRAMS = Path(__file__).parents[1] / "programs"
STAND_IN = [str(PROGRAMS / "stand_in")]


def report(program: str, *arguments: object, path: list[str]) -> Any:
    code = f"import runpy, sys; sys.path[:0] = {path}; runpy.run_path({str(PROGRAMS / program)!r}, run_name='__main__')"
    done = python("-c", code, *arguments, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition("REPORT ")[2])


def test_a_program_has_the_same_results_with_asynciojobs_and_with_the_stand_in(
    tmp_path: Path,
) -> None:
    reports = []
    for path in ([], STAND_IN):
        folder = tmp_path / str(len(path))
        folder.mkdir()
        reports.append(report("probe_network.py", folder, path=path))
    assert reports[0] == reports[1]
    assert reports[0]["connections"] == [6, 6, 0, 4]


class Server(NamedTuple):
    """A real sshd on loopback."""

    port: int
    key: Path
    user: str


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """An sshd that admits the user of the tests, by a key made for it."""
    sshd = shutil.which(
        "sshd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin"
    )
    assert sshd is not None
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name],
            check=True,
        )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where it drops its rights
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    (tmp_path / "config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        "KexAlgorithms ecdh-sha2-nistp256\n"  # the usual one takes longer
        "SetEnv SHLVL=1\n"  # otherwise bash would read .bashrc
        "PidFile none\nStrictModes no\nUsePAM no\nSubsystem sftp internal-sftp\n"
    )
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            [sshd, "-D", "-e", "-f", tmp_path / "config"], stderr=log
        ) as process,
    ):
        try:
            deadline = time.monotonic() + PATIENCE
            while b"listening" not in (tmp_path / "log").read_bytes():
                assert process.poll() is None, (tmp_path / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield Server(port, tmp_path / "user", getpass.getuser())
        finally:
            process.terminate()


def test_apssh_runs_with_the_stand_in(server: Server, tmp_path: Path) -> None:
    """A program with apssh's local and remote jobs, transfers and scripts works with the stand-in."""
    found = report(
        "visit_by_apssh.py",
        server.port,
        server.key,
        server.user,
        tmp_path,
        path=STAND_IN,
    )
    assert found == {
        "asynciojobs is": "trioflow.compat.asynciojobs",
        "result": True,
        "output": ["hello from afar", "script got one two", "pushed and pulled"],
        "local": ["hello from here"],
        "failed": 3,
        "pulled": "pushed and pulled",
        "critical": "CommandFailedError",
        "listed": True,
    }
    assert (tmp_path / "log").read_text().count(
        "Accepted publickey"
    ) == 2  # one of each scheduler
