"""The subcommand `trioflow ssh`, and its options."""

from __future__ import annotations

import dataclasses
import functools
import os
from typing import Final

import click

from .._command_options import option, parse_seconds, parse_time_limit
from ._declared_options import takes_options
from .batch._batch_command import BatchCommand

HELP_EPILOG: Final = """\b
Examples:
  trioflow ssh -H node[01-37] 'uname -r'
  trioflow ssh -H nodes.txt --script setup.sh --include lib.sh eth0
  trioflow ssh -H node[1-5],: --push bench --to work/ \\
      --pull 'work/*.log' --into logs/{node}/ 'cd work; sh bench'

\b
Exit codes:
  0      success on all nodes
  1-100  the number of nodes that failed or could not be reached
  101    more than 100 nodes
  130    interrupted by Ctrl-C; by SIGTERM 143, by SIGHUP 129
  141    the reader of the output has exited
  255    the command line is wrong
"""

paths_option: Final = functools.partial(
    option, type=click.Path(), multiple=True, metavar="PATH"
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SshOptions:
    """The words and the options of the command line: each field declares its option, as for `batch`."""

    words: tuple[str, ...]
    nodes: tuple[str, ...] = option(
        "-H",
        "--hosts",
        multiple=True,
        required=True,
        metavar="NODES",
        help="The nodes; may be repeated.",
    )
    script: str | None = option(
        metavar="FILE", help="Run this script; COMMAND is its arguments."
    )
    include: tuple[str, ...] = paths_option(
        help="Copy this along with the script; may be repeated."
    )
    push: tuple[str, ...] = paths_option(
        help="Copy this to the node first; may be repeated."
    )
    to: str = option(
        default="~",
        metavar="PLACE",
        help="Where --push goes; end a directory with /. Default: the home directory.",
    )
    pull: tuple[str, ...] = paths_option(
        help="Copy this from the node afterwards; may be repeated."
    )
    into: str = option(
        default="{node}/",
        metavar="PLACE",
        help="Where --pull goes; end a directory with /. Default: {node}/.",
    )
    jobs: int = option(
        "-j",
        "--jobs",
        type=click.IntRange(min=0),
        default=0,
        metavar="N",
        help="Most nodes that work at once.",
    )
    username: str | None = option(
        "-l", "--username", metavar="NAME", help="The user name on the node."
    )
    identity: str | None = option(
        "-i", "--identity", metavar="FILE", help="One more private key file."
    )
    config: str | None = option(
        "-F", "--ssh-config", metavar="FILE", help="Configuration file of ssh."
    )
    gateway: str | None = option(
        "-J",
        "--gateway",
        metavar="NODE",
        help="Reach the nodes through this jump host.",
    )
    accept_new: bool = option(help="Accept the keys of unknown hosts.")
    connect_timeout: float = option(
        parse=parse_seconds,
        default="30",
        metavar="TIME",
        help="Time limit for reaching each node.",
    )
    timeout: float | None = option(
        parse=parse_time_limit, metavar="TIME", help="End a command that takes longer."
    )
    tag: bool = option(help="Print each line immediately, after the node's name.")


@click.command(
    name="ssh",
    cls=BatchCommand,
    epilog=HELP_EPILOG,
    # After the first word, options belong to the command.
    context_settings={"allow_interspersed_args": False},
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND...]")
@takes_options(SshOptions)
def command(options: SshOptions) -> int:
    r"""Run COMMAND or a script on many nodes by ssh.

    Files can be copied to the nodes before, and back afterwards. NODES is a file with a node per line, or names and
    ranges like node[01-37]. ":" is this machine. In COMMAND, FILE, PATH and PLACE, {node} stands for the name of the
    node. Each node's output is printed when the node is done. At the end, a table lists the outcomes.
    """
    if options.include and options.script is None:
        raise click.UsageError("--include needs --script")
    if not any((options.words, options.script, options.push, options.pull)):
        raise click.UsageError(
            "Missing argument 'COMMAND...', or --script, --push or --pull"
        )
    # Imported here, because --help does not need it.
    from . import _node_runner
    from .batch._batch_run import make_nodes

    names = (
        "username",
        "identity",
        "config",
        "gateway",
        "accept_new",
        "connect_timeout",
    )
    nodes = make_nodes(
        options.nodes, **{name: getattr(options, name) for name in names}
    )
    script = [] if options.script is None else [options.script]
    # With {node} in its name, it is another for each node.
    for file in [*script, *options.include, *options.push]:
        if _node_runner.NODE_PLACEHOLDER not in file and not os.path.exists(file):
            raise click.UsageError(f"there is no file {file!r}")
    is_one_place = _node_runner.NODE_PLACEHOLDER not in options.into
    for file in options.pull:
        # The files that match a pattern may have other names on each node.
        has_one_name = set(os.path.basename(file.rstrip("/"))).isdisjoint("*?[{")
        if has_one_name and is_one_place and len(nodes) > 1:
            raise click.UsageError(
                f"the copies of {file!r} would replace each other: put {{node}} into --into"
            )
    return _node_runner.NodeRun(options, nodes).run()
