"""What a node says before a command starts: it is not trusted, and neither slows the event loop nor fills an error."""

import subprocess
import sys
from pathlib import Path
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trioflow import CommandError, JobState, LocalNode, SshError, SshJob, SshNode
from trioflow.jobs.command._output_sinks import MAX_TAIL_BYTES
from trioflow.jobs.ssh._transport import OpenSsh
from trioflow.jobs.ssh._wrapper import MAX_CPUS, parse_cpu_count
from ...bodies import ran, run
from .servers import Site

CHANGED = "Host key for node has changed and you have requested strict checking.\nHost key verification failed.\n"
PIECES = [
    "Offending ", "ED25519 key", " in ", "/known:1", ":", "1", " ", "\n", "\r", "\x1b[2J", "\x00", "\u2028",
    "Permission denied", "no matching", "Connection closed by", "bad configuration option", CHANGED,
]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.integers(1, 50))))
def test_any_message_of_a_node_is_explained(pieces: list[tuple[str, int]]) -> None:
    """Whatever a node says before the login, its explanation is no longer than that and some words, and printable."""
    text = "".join(piece * number for piece, number in pieces)[-MAX_TAIL_BYTES:]
    diagnostics = OpenSsh().diagnose(SshNode("node"), text)
    assert 0 < len(diagnostics.problem) < MAX_TAIL_BYTES + 500
    assert str(SshError(SshNode("node"), diagnostics.problem)).isprintable()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "/config: line 2: Bad configuration option: usekeychain\r\n"
            "/config: terminating, 1 bad configuration options",
            "/config: line 2: Bad configuration option: usekeychain",
        ),
        (
            "/bin/sh: 1: exec: nc: not found\r\nkex_exchange_identification: Connection closed by remote host\r\n"
            "Connection closed by UNKNOWN port 65535",
            "/bin/sh: 1: exec: nc: not found",
        ),
        (
            "sh: nc: not found\r\nbanner exchange: Connection to UNKNOWN port 65535: Broken pipe",
            "sh: nc: not found",
        ),
        (
            "banner exchange: Connection to UNKNOWN port 65535: Broken pipe",
            "banner exchange: Connection to UNKNOWN",
        ),
        (
            "Welcome\r\nssh: connect to host node port 22: Connection refused",
            "ssh: connect to host node port 22",
        ),
    ],
)
def test_the_message_that_names_the_cause_is_shown(text: str, problem: str) -> None:
    """Of an option that ssh does not know, or a ProxyCommand that is not there, the last message is a consequence."""
    assert problem in OpenSsh().diagnose(SshNode("node"), text).problem


def test_a_banner_of_any_length_is_searched_in_no_time() -> None:
    """A banner of 64 KiB stopped the event loop for an hour, because a pattern of cubic cost was matched against it."""
    plain = OpenSsh().diagnose(SshNode("node"), CHANGED).problem
    for text in (
        "Offending in " * 5000 + CHANGED,
        "Offending in :1" * 5000 + CHANGED,
        "Offending a in " + ":" * 65536 + CHANGED,
    ):
        assert OpenSsh().diagnose(SshNode("node"), text).problem == plain


def test_the_place_of_an_offending_key_is_that_of_the_last_line_which_names_one() -> (
    None
):
    """A banner cannot hide the place that ssh names, with a path that may contain spaces and colons."""
    text = f"Offending RSA key in /banner:7\nOffending ED25519 key in /a b:c/known in use:12\r\n{CHANGED}"
    assert (
        "in /a b:c/known in use, line 12. "
        in OpenSsh().diagnose(SshNode("node"), text).problem
    )
    for line in ("Offending key in :1", "Offending key in /known:x", "Offending key"):
        assert (
            OpenSsh()
            .diagnose(SshNode("node"), f"{line}\n{CHANGED}")
            .has_keys_placeholder
        )


@pytest.mark.parametrize("option", ["ForceCommand", "Banner"])
def test_only_the_end_of_what_a_node_says_is_in_error(
    backend: str, site: Site, tmp_path: Path, option: str
) -> None:
    """A login shell that wrote 16 MB and exited stopped the event loop for 6 s, with all of it in the error."""
    text = tmp_path / "text"
    text.write_text("Offending in " * 100_000 + "the end\n")
    shell = {"ForceCommand": f"cat {text}; exit 1"}
    banner = {"Banner": str(text), "PubkeyAuthentication": "no"}
    job = ran(
        backend,
        SshJob(
            site.serve(5, **(shell if option == "ForceCommand" else banner)).node(),
            "true",
        ),
    )
    error = job.raised_exception()
    assert isinstance(error, SshError)
    assert len(str(error)) < MAX_TAIL_BYTES + 1000
    assert ("the end" in str(error)) is (option == "ForceCommand")
    assert ("login failed" in str(error)) is (option == "Banner")


HOSTILE_NODE = r"""
import os, re, sys, time
command = os.environ.get("SSH_ORIGINAL_COMMAND", "")
found = re.search(r"([0-9a-f]{16})'", command)
answer = open(sys.argv[1]).read().replace("MARK", chr(30) + (found[1] if found else ""))
for place in answer.split("PAUSE"):
    sys.stderr.write(place)
    sys.stderr.flush()
    time.sleep(0.05 if "PAUSE" in answer else 0)
sys.stdout.write("7\n" * 3)
"""
END = "MARK end {} 0m0s 0m0s\n{} 0m0s\n"
ANSWERS = [
    "", "MARK start\n", "MARK start\nMARK end 0", "x" * 100_000, "MARK start\n" * 1000,
    "MARK start\n" + END.format("9" * 200, "0m0s"), "MARK start\n" + END.format(0, "9" * 400 + "m0s"),
    "MARK start\n" + END.format(0, "0m.s"), "MARK start\n" + END.format(0, "0m0,5s") + "MARK start\n",
    "MARK start\n" + END.format("9" * 5000, "0m0s"), "MARK start\n" * 2 + END.format(7, "9m9s") * 3,
    "MARK start\nPAUSEMARK end 3 0m0s 0mPAUSE0s\n0m0s 0m0s\n", "\x1b[2J\x00MARKMARK start\n", END.format(0, "0m0s"),
]  # fmt: skip


def test_whatever_a_node_answers_is_its_own_failure(
    backend: str, site: Site, tmp_path: Path
) -> None:
    """A node that answers half reports, huge numbers or control characters fails, and the job on another node runs."""
    (tmp_path / "node.py").write_text(HOSTILE_NODE)
    server = site.serve(
        5, ForceCommand=f"{sys.executable} -IS {tmp_path}/node.py {tmp_path}/answer"
    )
    for answer in ANSWERS[backend == "trio" :: 2]:
        (tmp_path / "answer").write_text(answer)
        bad = SshJob(
            server.node(),
            "true",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            critical=False,
        )
        good = SshJob(LocalNode(), "true")
        run(backend, bad, good)
        error = bad.raised_exception() if bad.state is JobState.FAILED else None
        assert error is None or isinstance(error, (SshError, CommandError)), answer
        assert good.state is JobState.SUCCEEDED
    (tmp_path / "answer").write_text("MARK start\n" + END.format(0, "0m0s"))
    run(
        backend,
        bad := SshJob(
            server.node(), "true", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ),
    )
    assert (
        bad.state is JobState.SUCCEEDED
    )  # so the node has found its mark, and what it answered above was read


@given(
    st.binary(max_size=20) | st.integers(0, 10**30).map(lambda number: b"%d\n" % number)
)
def test_the_number_of_cpus_has_bounds(answer: bytes) -> None:
    """A node that named three billion CPUs had as many slots, and took all memory."""
    assert 1 <= parse_cpu_count(answer) <= MAX_CPUS
    assert [
        parse_cpu_count(text) for text in (b"8\n", b"0", b"-1", b"x", b"9999999")
    ] == [8, 1, 1, 1, MAX_CPUS]
