"""`trioflow ssh` and `trioflow batch -S`, against real servers on loopback."""

import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any
import pytest
from click.testing import Result
from trioflow import SshNode
from trioflow.cli._node_runner import _format_hostlist
from trioflow.jobs.ssh import _connections
from ..jobs.posix.process_trees import Watched, until_there
from ..jobs.posix.process_trees import watched as watched
from ..jobs.ssh.conftest import site as site
from ..jobs.ssh.servers import Server, Site, free_port
from ..places import PATIENCE, patiently
from ..pythons import Python, python
from .command_line import ENVIRONMENT, WORDS, trioflow


@pytest.fixture(scope="module")
def server(site: Site) -> Server:
    """A server for node1 to node9; dead1 to dead9 do not exist."""
    server = site.serve(2)
    site.alias("node*", server)
    with site.config.open("a") as file:
        file.write(
            f"Host dead*\n  HostName 127.0.0.1\n  Port {free_port('127.0.0.1')}\n"
        )
    return server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connections, "INITIAL_RETRY_DELAY", 0.05)


def ssh(server: Server, *words: Any) -> Result:
    return trioflow("ssh", "-F", server.site.config, *words)


def batch(server: Server, *words: Any) -> Result:
    return trioflow("batch", "-F", server.site.config, *words)


# ---- trioflow ssh
def test_outputs_are_printed_node_by_node_and_a_table_at_the_end(
    server: Server, tmp_path: Path
) -> None:
    nodes = tmp_path / "nodes.txt"
    nodes.write_text("node[1-3]  # three\n")
    done = ssh(server, "-H", nodes, "echo", "{node};", "echo err >&2")
    blocks = re.split(r"(?m)^== ", re.sub(r"[\d.]+ [mµ]?s", "TIME", done.stdout))
    assert sorted(blocks) == [
        "",
        *(f"node{n}: exit code 0, TIME\nnode{n}\n" for n in (1, 2, 3)),
    ]
    assert done.stderr == "err\n" * 3 + "exit code 0  3  node[1-3]\n"
    assert done.exit_code == 0


@patiently(4, 40)
def test_the_table_groups_nodes_by_outcome(server: Server, unit: int) -> None:
    line = "case {node} in node1) exit 3;; node2) kill -9 $$;; node4) sleep 1000;; esac"
    done = ssh(server, "-H", "node[1-5]", "-H", "dead1", "--timeout", unit, line)
    assert done.stderr.splitlines()[-5:] == [
        "exit code 0              2  node[3,5]", "ended by signal SIGKILL  1  node2",
        "exit code 3              1  node1", "timeout                  1  node4", "unreachable              1  dead1",
    ]  # fmt: skip
    assert "dead1: it cannot be reached (tried 3 times)" in done.stderr
    assert done.exit_code == 4


def test_tag_option_puts_the_name_of_the_node_before_each_line(server: Server) -> None:
    done = ssh(
        server, "-H", "node[1-2]", "--tag", "echo {node}; echo err >&2; printf rest"
    )
    assert sorted(done.stdout.splitlines()) == [
        "node1: node1",
        "node1: rest",
        "node2: node2",
        "node2: rest",
    ]
    assert sorted(done.stderr.splitlines()) == [
        "exit code 0  2  node[1-2]",
        "node1: err",
        "node2: err",
    ]


def test_script_runs_on_nodes_with_its_included_files(
    server: Server, tmp_path: Path
) -> None:
    """Words after the options of `ssh --script` are its arguments; they and names of files may contain `{node}`."""
    (tmp_path / "node2.sh").write_text("said=second\n")
    (tmp_path / "node1.sh").write_text("said=first\n")
    (tmp_path / "main.sh").write_text('. "$(dirname "$0")/$1.sh"; echo "$said $2"\n')
    words = [
        "--script",
        tmp_path / "main.sh",
        "--include",
        f"{tmp_path}/{{node}}.sh",
        "{node}",
        "-H",
    ]
    done = ssh(server, "-H", "node[1-2]", *words)
    assert sorted(line for line in done.stdout.splitlines() if "==" not in line) == [
        "first -H",
        "second -H",
    ]
    assert done.exit_code == 0


def test_files_are_pushed_before_the_command_and_pulled_after_it(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "data").write_text("x")
    (tmp_path / "node1").mkdir()
    there = f"{tmp_path}/there/{{node}}"
    copies = ["--push", tmp_path / "data", "--to", f"{there}/", "--pull", f"{there}/*"]
    line = f"cd {there}; tr x y <data >result; exit 3"
    done = ssh(
        server, "-H", "node1,:", *copies, "--into", f"{tmp_path}/back/{{node}}/", line
    )
    assert done.exit_code == 2
    assert done.stderr == "exit code 3  2  node1,localhost\n"
    lost = ssh(
        server,
        "-H",
        ":",
        "--pull",
        f"{tmp_path}/none",
        "--into",
        f"{tmp_path}/back/",
        "exit 3",
    )
    assert lost.stderr.splitlines()[-1] == "exit code 3  1  localhost"
    for node in ("node1", "localhost"):
        assert (tmp_path / "back" / node / "result").read_text() == "y"


@patiently(1, 10, 60)
def test_files_are_pulled_after_a_command_that_took_too_long(
    server: Server, tmp_path: Path, unit: float
) -> None:
    line = f"echo half > {tmp_path}/result; sleep 1000"
    done = ssh(
        server,
        "-H",
        "node1",
        "--timeout",
        unit,
        "--pull",
        f"{tmp_path}/result",
        "--into",
        tmp_path / "b",
        line,
    )
    assert done.stderr == "timeout  1  node1\n"
    assert (tmp_path / "b").read_text() == "half\n"


def test_files_can_be_copied_to_nodes_without_a_command(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "node1").write_text("x")
    place = ["--to", f"{tmp_path}/there/"]
    done = ssh(server, "-H", "node[1-2]", "--push", f"{tmp_path}/{{node}}", *place)
    assert done.stderr.splitlines()[1:] == [
        "copied      1  node1",
        "not copied  1  node2",
    ]
    assert "No such file" in done.stderr
    assert (tmp_path / "there" / "node1").read_text() == "x"
    assert done.exit_code == 1
    done = ssh(
        server,
        "-H",
        "dead1",
        "--connect-timeout",
        "1",
        "--push",
        tmp_path / "node1",
        *place,
        "true",
    )
    assert done.stderr.splitlines()[-1] == "unreachable  1  dead1"
    done = ssh(
        server,
        "-H",
        "node1",
        "--pull",
        f"{tmp_path}/none",
        "--into",
        f"{tmp_path}/back/",
        "true",
    )
    assert done.stderr.splitlines()[-1] == "not copied  1  node1"


def test_output_without_a_final_newline_gets_one(server: Server) -> None:
    """A node's standard output gets a final newline if it has none, so that the next block begins on a new line."""
    done = ssh(server, "-H", "node1", "printf a; printf b >&2")
    assert (done.stdout.splitlines()[1:], done.stderr) == (
        ["a"],
        "b\nexit code 0  1  node1\n",
    )


def test_jobs_option_limits_the_nodes_at_once(server: Server, tmp_path: Path) -> None:
    counted = f"mkdir {tmp_path}/one && sleep 0.05 && rmdir {tmp_path}/one"
    assert ssh(server, "-H", "node[1-2]", "-j", 1, counted).exit_code == 0


def test_options_after_the_command_belong_to_the_command(server: Server) -> None:
    """From the first word of the command of `ssh` on, nothing is parsed as an option of trioflow."""
    assert (
        ssh(server, "-H", "node1", "printf", "%s", "-H").stdout.splitlines()[1] == "-H"
    )


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["-H", "node[1", "true"], "unbalanced or nested brackets"),
        (["-H", "", "true"], "names no node"),
        (["true"], "Missing option '-H'"),
        (["-H", "node1"], "Missing argument"),
        (["-H", "-x", "true"], "a leading '-'"),
        (["-H", "node1", "--include", "x", "true"], "--include needs --script"),
        (["-H", "node1", "--script", "none"], "there is no file 'none'"),
        (["-H", "node1", "--push", "none"], "there is no file 'none'"),
        (["-H", "./none", "true"], "there is no file './none'"),
        (
            ["-H", "node[1-2]", "--pull", "{node}/x", "--into", "y"],
            "the copies of '{node}/x' would replace each other",
        ),
    ],
)
def test_invalid_command_line_of_ssh_is_rejected(
    server: Server, words: list[str], what: str
) -> None:
    """An invalid command line of `trioflow ssh` gives exit code 255 and an error with the reason."""
    done = ssh(server, *words)
    assert what in done.stderr
    assert done.exit_code == 255


@pytest.mark.parametrize(
    "words",
    [["ssh", "-H", "node1", "true"], ["batch", "-S", "node1", "true", ":::", "1"]],
)
def test_a_configuration_of_ssh_that_is_missing_is_a_usage_error(
    words: list[str],
) -> None:
    done = trioflow(words[0], "-F", "none/x", *words[1:])
    assert "there is no file 'none/x'" in done.stderr
    assert done.exit_code == 255


def test_ctrl_c_ends_the_commands_on_all_nodes(
    server: Server, tmp_path: Path, watched: Watched
) -> None:
    """One Ctrl-C ends the commands on all nodes; the table shows where they ran, and where none had started."""
    line = f"export TRIOFLOW_TEST={watched.mark}; touch {tmp_path}/{{node}}; sleep 1000"
    words = ["ssh", "-F", str(server.site.config), "-H", "node[1-3]", "-j", "2", line]
    environment = {**ENVIRONMENT, "TRIOFLOW_TEST": watched.mark}
    process = Python(
        [*WORDS, *words],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    until_there(tmp_path / "node1", tmp_path / "node2")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "debrief" not in told.decode()
    assert told.decode().splitlines()[-2:] == [
        "interrupted  2  node[1-2]",
        "not run      1  node3",
    ]
    assert watched.gone_in_time(), watched.alive()


def test_broken_pipe_ends_ssh_with_exit_code_141(server: Server) -> None:
    words = [
        "ssh",
        "-F",
        str(server.site.config),
        "-H",
        "node1",
        "head -c 1000000 /dev/zero",
    ]
    process = Python(
        [*WORDS, *words],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(PATIENCE) == 141


def test_names_of_nodes_are_shown_as_ranges() -> None:
    """Consecutive numbers in names of nodes are joined, with leading zeros; ports tell equal names apart."""
    names = ["b", "a3", "a1", "a2", "a10", "x01", "x02", "b", "10.0.0.7", "10.0.0.8"]
    assert (
        _format_hostlist([SshNode(name) for name in names])
        == "b,a[1-3],a10,x[01-02],10.0.0.[7-8]"
    )
    assert (
        _format_hostlist([SshNode("n1", port=3), SshNode("n1", port=4)]) == "n1:3,n1:4"
    )


# ---- trioflow batch -S
def test_a_batch_runs_on_nodes(server: Server, tmp_path: Path) -> None:
    """In a batch on nodes, arguments arrive unchanged, and the job log has the host of each command."""
    done = batch(
        server, "-S", "node[1-2]", "-j", 2, "-k", "--joblog", tmp_path / "log", "echo {} $PARALLEL_SEQ", ":::", "a b",
        "$x", "c",
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.exit_code) == ("a b 1\n$x 2\nc 3\n", "", 0)
    hosts = {
        line.split("\t")[1] for line in (tmp_path / "log").read_text().splitlines()[1:]
    }
    assert hosts <= {"node1", "node2"}


def test_local_machine_may_be_a_node_of_a_batch(server: Server, tmp_path: Path) -> None:
    """As with GNU parallel, a colon names the local machine among the nodes of a batch; it may be the only node."""
    log, places = tmp_path / "log", tmp_path / "places"
    meet = (
        f"echo >> {places}; until test $(wc -l < {places}) -ge 2; do sleep 0.05; done"
    )
    words = [
        "--timeout",
        PATIENCE,
        "--joblog",
        log,
        f"echo {{}}; sh -c '{meet}'",
        ":::",
    ]
    done = batch(server, "-S", "node1,:", "-j", 1, *words, 1, 2)
    assert sorted(done.stdout.split()) == ["1", "2"]
    assert sorted(line.split("\t")[1] for line in log.read_text().splitlines()[1:]) == [
        "localhost",
        "node1",
    ]
    assert batch(server, "-S", ":", "echo {}", ":::", 1).stdout == "1\n"


def test_batch_uses_all_nodes(server: Server, tmp_path: Path) -> None:
    """In a batch with one slot a node, two nodes share four commands."""
    meet = f"echo >> {tmp_path}/begun; until test $(wc -l < {tmp_path}/begun) -ge 2; do sleep 0.05; done"
    line = f"echo $PARALLEL_SSHHOST {{}}; sh -c '{meet}'"
    done = batch(
        server,
        "-S",
        "node[1-2]",
        "-j",
        1,
        "--timeout",
        PATIENCE,
        line,
        ":::",
        *range(4),
    )
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"node1", "node2"}
    assert sorted(line.split()[1] for line in done.stdout.splitlines()) == [
        str(number) for number in range(4)
    ]


def test_node_runs_as_many_commands_at_once_as_it_has_cpus(
    server: Server, tmp_path: Path
) -> None:
    """The default of `-j` for a node is its number of CPUs, which is read on the node."""
    cpus = os.cpu_count() or 1
    script = f'touch {tmp_path}/"$1"; until set -- {tmp_path}/*; test $# -ge {cpus}; do sleep 0.05; done'
    meet = f"sh -c '{script}' - {{}}"
    done = batch(
        server, "-S", "node1", "--timeout", PATIENCE, meet, ":::", *range(2 * cpus)
    )
    assert (done.output, done.exit_code) == ("", 0)


def test_commands_of_an_unreachable_node_run_on_another(server: Server) -> None:
    done = batch(
        server, "-S", "dead1,node1,dead2", "-j", 1, "-k", "echo {}", ":::", *range(4)
    )
    assert done.stdout == "0\n1\n2\n3\n"
    assert done.exit_code == 0
    assert "dead1: it cannot be reached" in done.stderr


def test_last_command_of_an_unreachable_node_runs_on_another(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_connections, "INITIAL_RETRY_DELAY", 0.4)
    done = batch(server, "-S", "dead1,node1", "-j", 1, "-k", "echo {}", ":::", 1, 2)
    assert (done.stdout, done.exit_code) == ("1\n2\n", 0)


def test_a_batch_without_a_reachable_node_names_each_node_once(server: Server) -> None:
    """If no node can be reached, all commands fail, and each node has one error, however many commands there are."""
    done = batch(server, "-S", "dead[1-2]", "-j", 1, "echo {}", ":::", 1, 2, 3)
    assert done.exit_code == 3
    assert done.stdout == ""
    said = done.stderr.splitlines()
    told, (closing, *failed) = said[:2], said[2:]
    assert sorted(line.split(":")[1] for line in told) == [" dead1", " dead2"]
    assert "no nodes are left" in told[-1]
    assert closing.startswith("batch  ✗ 3 failed of 3, ")
    assert [re.sub(r"echo \d", "echo N", line).split(":")[0] for line in failed] == [
        "  echo N and 2 more"
    ]


@patiently(2, 20)
def test_failures_and_timeouts_on_nodes_are_counted(
    server: Server, tmp_path: Path, unit: int
) -> None:
    """The exit code of a batch on nodes counts failures and timeouts, and the job log tells them apart."""
    line = """sh -c 'test "$1" = slow && sleep 1000; exit "$1"' - {}"""
    words = [
        "-S",
        "node1",
        "-j",
        2,
        "--timeout",
        unit,
        "--joblog",
        tmp_path / "log",
        line,
        ":::",
    ]
    assert batch(server, *words, 0, 3, "slow").exit_code == 2
    columns = [
        line.split("\t") for line in (tmp_path / "log").read_text().splitlines()[1:]
    ]
    assert sorted(line[6] for line in columns) == ["-1", "0", "3"]


def test_an_idle_timeout_holds_on_nodes(server: Server, tmp_path: Path) -> None:
    for places in ([], ["-S", ":"], ["-S", "node1"]):
        done = batch(
            server,
            *places,
            "--timeout",
            PATIENCE,
            "--idle-timeout",
            0.5,
            "sleep 1000",
            ":::",
            1,
        )
        assert "ended by --idle-timeout" in done.stderr


def test_invalid_range_of_nodes_of_a_batch_is_rejected(server: Server) -> None:
    """A range of nodes without its closing bracket ends a batch with an error and exit code 255."""
    done = batch(server, "-S", "node[1", "echo", ":::", 1)
    assert "unbalanced or nested brackets" in done.stderr
    assert done.exit_code == 255


def test_standard_input_that_no_node_gets_is_named(
    server: Server, tmp_path: Path
) -> None:
    """Data in a pipe, or a file that nobody has begun to read, is named at the end. A loop's own list is not."""
    file = tmp_path / "data"
    file.write_text("line\n" * 3)
    words = [*WORDS, "ssh", "-F", str(server.site.config), "-H", ":", "true"]
    with file.open("rb") as begun, file.open("rb") as fresh:
        os.lseek(begun.fileno(), 5, os.SEEK_SET)
        for given, is_named in (
            ({"input": "data"}, True),
            ({"stdin": fresh}, True),
            ({"stdin": begun}, False),
        ):
            done = python(*words, env=ENVIRONMENT, text=True, **given)
            assert ("standard input went to no node" in done.stderr) is is_named, (
                done.stderr
            )
