"""The options of `trioflow ssh`."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Final

import click

from .._command_options import option, parse_seconds, parse_time_limit

if TYPE_CHECKING:
    from .. import LocalNode, SshNode

NODE_PLACEHOLDER: Final = "{node}"
"""Stands for the name of the node in the command, and in names of files and directories."""
paths_option: Final = functools.partial(option, type=click.Path(), multiple=True, metavar="PATH")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SshOptions:
    """The words and the options of the command line: each field declares its option, as for `batch`."""

    words: tuple[str, ...]
    nodes: tuple[str, ...] = option(
        "-H", "--hosts", multiple=True, required=True, metavar="NODES", help="The nodes; may be repeated."
    )
    script: str | None = option(metavar="FILE", help="Run this script; COMMAND is its arguments.")
    include: tuple[str, ...] = paths_option(help="Copy this along with the script; may be repeated.")
    push: tuple[str, ...] = paths_option(help="Copy this to the node first; may be repeated.")
    to: str = option(
        default="~", metavar="PLACE", help="Directory on the node for --push; by default the home directory."
    )
    pull: tuple[str, ...] = paths_option(help="Copy this from the node afterwards; may be repeated.")
    into: str = option(
        default="{node}/", metavar="PLACE", help="Directory on this machine for --pull; by default {node}/."
    )
    jobs: int = option(
        "-j", "--jobs", type=click.IntRange(min=0), default=0, metavar="N", help="Maximum number of nodes at once."
    )
    username: str | None = option("-l", "--login", metavar="NAME", help="The user name on the node.")
    identity: str | None = option("-i", "--identity", metavar="FILE", help="Private key file.")
    config: str | None = option("-F", "--ssh-config", metavar="FILE", help="Configuration file of ssh.")
    gateway: str | None = option("-J", "--gateway", metavar="NODE", help="Reach the nodes through this jump host.")
    accept_new: bool = option(help="Accept the keys of unknown hosts.")
    connect_timeout: float = option(
        parse=parse_seconds, default="30", metavar="TIME", help="Time limit for reaching each node."
    )
    timeout: float | None = option(parse=parse_time_limit, metavar="TIME", help="End a command that takes longer.")
    tag: bool = option(help="Print each line immediately, after the node's name.")

    def make_nodes(self) -> list[SshNode | LocalNode]:
        from .batch._batch_run import make_nodes  # imported here, because --help does not need it

        names = ("username", "identity", "config", "gateway", "accept_new", "connect_timeout")
        return make_nodes(self.nodes, **{name: getattr(self, name) for name in names})

    def shared_local_files(self) -> list[str]:
        """Return the local files that every node gets. Files with `{node}` in their names differ between nodes."""
        script = [] if self.script is None else [self.script]
        return [file for file in [*script, *self.include, *self.push] if NODE_PLACEHOLDER not in file]
