"""The subcommand `trioflow ssh`."""

from __future__ import annotations

import os
from typing import Final

import click

from ._declared_options import takes_options
from ._ssh_options import SshOptions
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


@click.command(
    name="ssh",
    cls=BatchCommand,
    epilog=HELP_EPILOG,
    context_settings={"allow_interspersed_args": False},  # after the first word, options belong to the command
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[COMMAND...]")
@takes_options(SshOptions)
def command(options: SshOptions) -> int:
    r"""Run COMMAND or a script on many nodes by ssh.

    Files can be copied to the nodes before, and back afterwards. NODES is a file with one node per line, or names and
    ranges like node[01-37]; ":" is this machine. In COMMAND, FILE, PATH and PLACE, {node} stands for the name of the
    node. Each node's output is printed when the node is done. At the end, a table lists the outcomes.
    """
    if options.include and options.script is None:
        raise click.UsageError("--include needs --script")
    if not (options.words or options.script or options.push or options.pull):
        raise click.UsageError("Missing argument 'COMMAND...', or --script, --push or --pull")
    from . import _node_runner  # imported here, because --help does not need it

    nodes = options.make_nodes()
    missing = [file for file in options.shared_local_files() if not os.path.exists(file)]
    if missing:
        raise click.UsageError(f"there is no file {missing[0]!r}")
    return _node_runner.NodeRun(options, nodes).run()
