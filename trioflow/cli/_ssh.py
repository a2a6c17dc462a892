"""The subcommand `trioflow ssh` and its options."""

from __future__ import annotations

import functools
import os
from typing import Any, Final

import click

from ..batch import _quantities
from .batch._batch_command import BatchCommand, option_type

HELP_EPILOG: Final = """\b
Examples:
  trioflow ssh -H node[01-37] 'uname -r'
  trioflow ssh -H nodes.txt --script setup.sh --include lib.sh eth0
  trioflow ssh -H node[1-5],: --push bench --to work/ \\
      --pull 'work/*.log' --into logs/{node}/ 'cd work; sh bench'

\b
Exit codes:
  0    success on all nodes
  1    the number of nodes that failed or could not be reached,
  ...  up to 100
  100
  101  more than 100 nodes
  130  interrupted: Ctrl-C, SIGTERM, SIGHUP
  141  the reader of the output has exited
  255  the command line is wrong
"""


file_option: Final = functools.partial(click.option, type=click.Path(), multiple=True, metavar="PATH")


@click.command(
    name="ssh",
    cls=BatchCommand,
    epilog=HELP_EPILOG,
    context_settings={"allow_interspersed_args": False},  # after the first word, options belong to the command
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND...]")
@click.option(
    "-H", "--hosts", "nodes", multiple=True, required=True, metavar="NODES", help="The nodes; may be repeated."
)
@click.option("--script", type=click.Path(), metavar="FILE", help="Run this script; COMMAND is its arguments.")
@file_option("--include", help="Copy this along with the script; may be repeated.")
@file_option("--push", help="Copy this to the node first; may be repeated.")
@click.option(
    "--to", default="~", metavar="PLACE", help="Directory on the node for --push; by default the home directory."
)
@file_option("--pull", help="Copy this from the node afterwards; may be repeated.")
@click.option(
    "--into", default="{node}/", metavar="PLACE", help="Directory on this machine for --pull; by default {node}/."
)
@click.option(
    "-j", "--jobs", type=click.IntRange(min=0), default=0, metavar="N", help="Maximum number of nodes at once."
)
@click.option("-l", "--login", "username", metavar="NAME", help="The user name on the node.")
@click.option("-i", "--identity", type=click.Path(), metavar="FILE", help="Private key file.")
@click.option("-F", "--ssh-config", "config", type=click.Path(), metavar="FILE", help="Configuration file of ssh.")
@click.option("-J", "--gateway", metavar="NODE", help="Reach the nodes through this jump host.")
@click.option("--accept-new", is_flag=True, help="Accept the keys of unknown hosts.")
@click.option(
    "--connect-timeout",
    type=option_type(_quantities.parse_seconds),
    default="30",
    metavar="TIME",
    help="Time limit for reaching each node.",
)
@click.option(
    "--timeout",
    type=option_type(_quantities.parse_time_limit),
    metavar="TIME",
    help="End a command that takes longer.",
)
@click.option("--tag", is_flag=True, help="Print each line immediately, after the node's name.")
@click.option("--tagstring", metavar="TEXT", help="Like --tag, with this prefix, for example '{time} {node}: '.")
def command(
    words: tuple[str, ...],
    script: str | None,
    include: tuple[str, ...],
    push: tuple[str, ...],
    to: str,
    pull: tuple[str, ...],
    into: str,
    nodes: tuple[str, ...],
    jobs: int,
    timeout: float | None,
    tag: bool,
    tagstring: str | None,
    **connection: Any,
) -> int:
    r"""Run COMMAND or a script on many nodes by ssh.

    Files can be copied to the nodes before, and back afterwards. NODES is a file with one node per line, or names and
    ranges like node[01-37]; ":" is this machine. In COMMAND, FILE, PATH and PLACE, {node} stands for the name of the
    node. Each node's output is printed when the node is done. At the end, a table lists the outcomes.
    """
    if include and script is None:
        raise click.UsageError("--include needs --script")
    if not (words or script or push or pull):
        raise click.UsageError("Missing argument 'COMMAND...', or --script, --push or --pull")
    from . import _node_runner  # imported here, because --help does not need it
    from .batch._batch_run import make_nodes

    ssh_nodes = make_nodes(nodes, **connection)
    if not ssh_nodes:
        raise click.UsageError("-H gives no nodes: give names, ranges, or a file with nodes")
    task = _node_runner.NodeTask(
        words, script, include, push_files=push, push_target=to, pull_files=pull, pull_target=into
    )
    missing = [file for file in task.shared_local_files() if not os.path.exists(file)]
    if missing:
        raise click.UsageError(f"there is no file {missing[0]!r}")
    return _node_runner.NodeRun(task, ssh_nodes, timeout=timeout, tag=tagstring or tag).run(jobs or None)
