"""`trioflow ssh` and `trioflow batch -S`, against real servers on loopback."""

from __future__ import annotations

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
from ..places import DOCS
from ..pythons import Python
from .command_line import COMMAND, ENVIRONMENT, WORDS, trioflow


@pytest.fixture(scope="module")
def server(site: Site) -> Server:
    """A server for node1 to node9; dead1 to dead9 do not exist."""
    server = site.serve(2)
    site.alias("node*", server)
    with site.config.open("a") as file:
        file.write(f"Host dead*\n  HostName 127.0.0.1\n  Port {free_port('127.0.0.1')}\n")
    return server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connections, "MIN_PAUSE", 0.05)


def ssh(server: Server, *words: Any) -> Result:
    return trioflow("ssh", "-F", server.site.config, *words)


def batch(server: Server, *words: Any) -> Result:
    return trioflow("batch", "-F", server.site.config, *words)


# ---- trioflow ssh


def test_outputs_come_node_by_node_and_a_table_at_the_end(server: Server, tmp_path: Path) -> None:
    """Each node's output is one block, and a last line counts the nodes."""
    nodes = tmp_path / "nodes.txt"
    nodes.write_text("node[1-3]  # three\n")
    done = ssh(server, "-H", nodes, "echo", "{node};", "echo err >&2")
    blocks = re.split(r"(?m)^== ", re.sub(r"[\d.]+ [mµ]?s", "TIME", done.stdout))
    assert sorted(blocks) == ["", *(f"node{n}: exit code 0, TIME\nnode{n}\n" for n in (1, 2, 3))]
    assert done.stderr == "err\n" * 3 + "exit code 0  3  node[1-3]\n"
    assert done.exit_code == 0


def test_the_table_groups_nodes_by_outcome(server: Server) -> None:
    """Exit codes, signals, timeouts and unreachable nodes have a line each, the largest group first."""
    line = "case {node} in node1) exit 3;; node2) kill -9 $$;; node4) sleep 100;; esac"
    done = ssh(server, "-H", "node[1-6]", "-H", "dead1", "--timeout", "8", line)
    assert done.stderr.splitlines()[-5:] == [
        "exit code 0              3  node[3,5-6]",
        "ended by signal SIGKILL  1  node2",
        "exit code 3              1  node1",
        "timeout                  1  node4",
        "unreachable              1  dead1",
    ]
    assert "dead1: it cannot be reached (tried 3 times)" in done.stderr
    assert done.exit_code == 4


def test_tag_option_puts_the_name_of_the_node_before_each_line(server: Server) -> None:
    """Both output streams are tagged, and so are lines without a newline."""
    done = ssh(server, "-H", "node[1-2]", "--tag", "echo {node}; echo err >&2; printf rest")
    assert sorted(done.stdout.splitlines()) == ["node1: node1", "node1: rest", "node2: node2", "node2: rest"]
    assert sorted(done.stderr.splitlines()) == ["exit code 0  2  node[1-2]", "node1: err", "node2: err"]


def test_tagstring_is_filled_in_for_each_line(server: Server) -> None:
    """`--tagstring` is a template for each line."""
    done = ssh(server, "-H", "node1", "--tagstring", "{time:%H-%M}/{node} ", "echo a")
    assert re.fullmatch(r"\d\d-\d\d/node1 a\n", done.stdout)


def test_script_runs_on_nodes_with_its_included_files(server: Server, tmp_path: Path) -> None:
    """Words after the options are the script's arguments; they and the names of files may contain `{node}`."""
    (tmp_path / "node2.sh").write_text("said=second\n")
    (tmp_path / "node1.sh").write_text("said=first\n")
    (tmp_path / "main.sh").write_text('. "$(dirname "$0")/$1.sh"; echo "$said $2"\n')
    words = ["--script", tmp_path / "main.sh", "--include", f"{tmp_path}/{{node}}.sh", "{node}", "-H"]
    done = ssh(server, "-H", "node[1-2]", *words)
    assert sorted(line for line in done.stdout.splitlines() if "==" not in line) == ["first -H", "second -H"]
    assert done.exit_code == 0


def test_files_are_pushed_before_the_command_and_pulled_after_it(server: Server, tmp_path: Path) -> None:
    """Files are pulled even if the command fails; the local machine may be one of the nodes."""
    (tmp_path / "data").write_text("x")
    (tmp_path / "node1").mkdir()
    there = f"{tmp_path}/there/{{node}}"
    copies = ["--push", tmp_path / "data", "--to", f"{there}/", "--pull", f"{there}/*"]
    line = f"cd {there}; tr x y <data >result; exit 3"
    done = ssh(server, "-H", "node1,:", *copies, "--into", f"{tmp_path}/back/{{node}}/", line)
    assert done.exit_code == 2
    assert done.stderr == "exit code 3  2  node1,localhost\n"
    for node in ("node1", "localhost"):
        assert (tmp_path / "back" / node / "result").read_text() == "y"


def test_files_can_be_copied_to_nodes_without_a_command(server: Server, tmp_path: Path) -> None:
    """The table shows which nodes got the files, and which did not."""
    (tmp_path / "node1").write_text("x")
    place = ["--to", f"{tmp_path}/there/"]
    done = ssh(server, "-H", "node[1-2]", "--push", f"{tmp_path}/{{node}}", *place)
    assert done.stderr.splitlines()[1:] == ["copied      1  node1", "not copied  1  node2"]
    assert "No such file" in done.stderr
    assert (tmp_path / "there" / "node1").read_text() == "x"
    assert done.exit_code == 1
    done = ssh(server, "-H", "dead1", "--connect-timeout", "1", "--push", tmp_path / "node1", *place, "true")
    assert done.stderr.splitlines()[-1] == "unreachable  1  dead1"
    done = ssh(server, "-H", "node1", "--pull", f"{tmp_path}/none", "true")
    assert done.stderr.splitlines()[-1] == "not copied  1  node1"


def test_output_without_a_final_newline_gets_one(server: Server) -> None:
    """The next block begins on a new line; the error output is unchanged."""
    done = ssh(server, "-H", "node1", "printf a; printf b >&2")
    assert (done.stdout.splitlines()[1:], done.stderr) == (["a"], "b\nexit code 0  1  node1\n")


def test_jobs_option_limits_the_nodes_at_once(server: Server, tmp_path: Path) -> None:
    """With `-j 1`, the nodes run the command one after the other."""
    counted = f"mkdir {tmp_path}/one && sleep 0.05 && rmdir {tmp_path}/one"
    assert ssh(server, "-H", "node[1-4]", "-j", 1, counted).exit_code == 0


def test_options_after_the_command_belong_to_the_command(server: Server) -> None:
    """From the first word of the command on, nothing is parsed as an option of trioflow."""
    assert ssh(server, "-H", "node1", "printf", "%s", "-H").stdout.splitlines()[1] == "-H"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["-H", "node[1", "true"], "without its ']'"),
        (["-H", "", "true"], "there are no nodes"),
        (["true"], "Missing option '-H'"),
        (["-H", "node1"], "Missing argument"),
        (["-H", "-x", "true"], "'-' in front"),
        (["-H", "node1", "--include", "x", "true"], "give --script too"),
        (["-H", "node1", "--script", "none"], "there is no file 'none'"),
        (["-H", "node1", "--push", "none"], "there is no file 'none'"),
    ],
)
def test_invalid_command_line_of_ssh_is_rejected(server: Server, words: list[str], what: str) -> None:
    """The error has the reason, and the exit code is 255."""
    done = ssh(server, *words)
    assert what in done.stderr
    assert done.exit_code == 255


def test_ctrl_c_ends_the_commands_on_all_nodes(server: Server, tmp_path: Path, watched: Watched) -> None:
    """One Ctrl-C ends all of them, and the table shows where the command was running, and where it had not started."""
    line = f"export TRIOFLOW_TEST={watched.mark}; touch {tmp_path}/{{node}}; sleep 1000"
    words = ["ssh", "-F", str(server.site.config), "-H", "node[1-3]", "-j", "2", line]
    process = subprocess.Popen(
        [*COMMAND, *words], env={**ENVIRONMENT, "TRIOFLOW_TEST": watched.mark}, stderr=subprocess.PIPE
    )
    until_there(tmp_path / "node1", tmp_path / "node2")
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert told.decode().splitlines()[-2:] == ["interrupted  2  node[1-2]", "not run      1  node3"]
    assert watched.gone_in_time(), watched.alive()


def test_broken_pipe_ends_ssh_with_exit_code_141(server: Server) -> None:
    """Shells report 141 for a program that SIGPIPE has ended."""
    words = ["ssh", "-F", str(server.site.config), "-H", "node1", "head -c 1000000 /dev/zero"]
    process = Python([*WORDS, *words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(20) == 141


def test_names_of_nodes_are_shown_as_ranges() -> None:
    """Consecutive numbers are joined, with their leading zeros; ports tell equal names apart."""
    names = ["b", "a3", "a1", "a2", "a10", "x01", "x02", "b", "10.0.0.7", "10.0.0.8"]
    assert _format_hostlist([SshNode(name) for name in names]) == "b,a[1-3],a10,x[01-02],10.0.0.[7-8]"
    assert _format_hostlist([SshNode("n1", port=3), SshNode("n1", port=4)]) == "n1:3,n1:4"


# ---- trioflow batch -S


def test_a_batch_runs_on_nodes(server: Server, tmp_path: Path) -> None:
    """Arguments arrive unchanged, and the job log has the host of each command."""
    done = batch(
        server,
        "-S",
        "node[1-2]",
        "-j",
        2,
        "-k",
        "--joblog",
        tmp_path / "log",
        "echo {} $PARALLEL_SEQ",
        ":::",
        "a b",
        "$x",
        "c",
    )
    assert (done.stdout, done.stderr, done.exit_code) == ("a b 1\n$x 2\nc 3\n", "", 0)
    hosts = {line.split("\t")[1] for line in (tmp_path / "log").read_text().splitlines()[1:]}
    assert hosts <= {"node1", "node2"}


def test_local_machine_may_be_a_node_of_a_batch(server: Server, tmp_path: Path) -> None:
    """As with GNU parallel, its name is a colon; it may be the only node."""
    log = tmp_path / "log"
    done = batch(server, "-S", "node1,:", "-j", 1, "--joblog", log, "echo {}; sleep 0.3", ":::", 1, 2)
    assert sorted(done.stdout.split()) == ["1", "2"]
    assert sorted(line.split("\t")[1] for line in log.read_text().splitlines()[1:]) == ["localhost", "node1"]
    assert batch(server, "-S", ":", "echo {}", ":::", 1).stdout == "1\n"


def test_batch_uses_all_nodes(server: Server) -> None:
    """With one slot each, three nodes share six commands."""
    done = batch(server, "-S", "node[1-3]", "-j", 1, "echo $PARALLEL_SSHHOST {}; sleep 0.3", ":::", *range(6))
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"node1", "node2", "node3"}
    assert sorted(line.split()[1] for line in done.stdout.splitlines()) == [str(number) for number in range(6)]


def test_node_runs_as_many_commands_at_once_as_it_has_cpus(server: Server, tmp_path: Path) -> None:
    """The default of `-j` is the node's number of CPUs, which is read on the node."""
    cpus = os.cpu_count() or 1
    meet = f"touch {tmp_path}/{{}}; while test $(ls {tmp_path} | wc -l) -lt {cpus}; do sleep 0.05; done"
    done = batch(server, "-S", "node1", "--timeout", 20, meet, ":::", *range(2 * cpus))
    assert (done.output, done.exit_code) == ("", 0)


def test_commands_of_an_unreachable_node_run_on_another(server: Server) -> None:
    """Every command runs once, and an error names the unreachable node."""
    done = batch(server, "-S", "dead1,node1,dead2", "-j", 1, "-k", "echo {}", ":::", *range(6))
    assert done.stdout == "".join(f"{number}\n" for number in range(6))
    assert done.exit_code == 0
    assert "dead1: it cannot be reached" in done.stderr


def test_last_command_of_an_unreachable_node_runs_on_another(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The node is found to be unreachable only after all other commands have ended."""
    monkeypatch.setattr(_connections, "MIN_PAUSE", 0.4)
    done = batch(server, "-S", "dead1,node1", "-j", 1, "-k", "echo {}", ":::", 1, 2)
    assert (done.stdout, done.exit_code) == ("1\n2\n", 0)


def test_a_batch_without_a_reachable_node_names_each_node_once(server: Server) -> None:
    """All commands count as failed; their number does not change the number of errors."""
    done = batch(server, "-S", "dead[1-2]", "-j", 1, "echo {}", ":::", 1, 2, 3)
    assert done.exit_code == 3
    assert done.stdout == ""
    said = done.stderr.splitlines()
    told, (closing, *failed) = said[:2], said[2:]
    assert sorted(line.split(":")[1] for line in told) == [" dead1", " dead2"]
    assert "no node is left" in told[-1]
    assert closing.startswith("batch  ✗ 3 of 3 commands failed, ")
    assert sorted(line.split(":")[0] for line in failed) == ["  echo 1", "  echo 2", "  echo 3"]


def test_failures_and_timeouts_on_nodes_are_counted(server: Server, tmp_path: Path) -> None:
    """The exit code counts both, and the job log tells them apart."""
    line = "test {} = slow && sleep 1000; exit {}"
    words = ["-S", "node1", "-j", 2, "--timeout", 3, "--joblog", tmp_path / "log", line, ":::"]
    done = batch(server, *words, 0, 3, "slow")
    assert done.exit_code == 2
    columns = [line.split("\t") for line in (tmp_path / "log").read_text().splitlines()[1:]]
    assert sorted(line[6] for line in columns) == ["-1", "0", "3"]


def test_invalid_range_of_nodes_of_a_batch_is_rejected(server: Server) -> None:
    """The error names the missing bracket, and the exit code is 255."""
    done = batch(server, "-S", "node[1", "echo", ":::", 1)
    assert "without its ']'" in done.stderr
    assert done.exit_code == 255


def test_docs_list_each_option_of_ssh() -> None:
    """docs/kinds/ssh.md has each option of `trioflow ssh`, and no other."""
    from trioflow.cli._ssh import command

    page = (DOCS / "kinds" / "ssh.md").read_text(encoding="utf-8").partition("## From a shell")[2]
    told = set(re.findall(r"^\| .*?(?= \| )", page, re.MULTILINE))
    known = {name for parameter in command.params for name in parameter.opts} - {"words"}
    words = {word.strip("`,") for line in told for word in line.split() if word.strip("`,").startswith("-")}
    assert words - {"---"} <= known
    assert known - words <= {"--login", "--identity", "--ssh-config", "--gateway"}
