"""The options of `trioflow batch`, and the checks for conflicts between them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .._command_options import option, parse_count, parse_slots, parse_time_limit
from .._core.base._text_forms import plural
from ..abc import printable
from ..jobs.posix._cpus import count_usable_cpus, usable_cpus
from . import _resources, _sources

if TYPE_CHECKING:
    from ..abc import Amount

TABLE_SUFFIXES: Final = (".csv", ".jsonl")
# In lower case, of names that mean no directory.
OTHER_SUFFIXES: Final = (
    ".csv",
    ".db",
    ".gz",
    ".json",
    ".jsonl",
    ".parquet",
    ".tsv",
    ".xls",
    ".xlsx",
)
HALT_RULE_PATTERN: Final = re.compile(
    r"(now|soon),(fail|success|done)=([1-9]\d*)(%?)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class HaltRule:
    """A rule of `--halt`: stop the batch when enough commands have failed, succeeded, or ended.

    Attributes:
        is_immediate: whether to kill the running commands instead of waiting for them.
        outcome: the outcome that counts: `fail`, `success`, or `done` for both.
        threshold: the number or percentage of commands that must have this outcome.
        is_percentage: whether `threshold` is a percentage of all commands.

    Example:
        >>> HaltRule.parse("now,fail=10%")
        HaltRule(is_immediate=True, outcome='fail', threshold=10, is_percentage=True)
        >>> HaltRule.parse("never") is None
        True

    """

    is_immediate: bool
    outcome: str
    threshold: int
    is_percentage: bool

    @classmethod
    def parse(cls, text: str) -> HaltRule | None:
        if text == "never":
            return None
        match = HALT_RULE_PATTERN.fullmatch(text)
        if match is None:
            raise ValueError(
                f"{text!r} is not a rule: write never, or WHEN,WHY=N or WHEN,WHY=N%, "
                f"where WHEN is now or soon, and WHY is fail, success or done"
            )
        return cls(match[1] == "now", match[2], int(match[3]), bool(match[4]))


def parse_keep(text: str) -> str:
    if text not in ("succeeded", "all"):
        raise ValueError(
            f"{text!r} is not what a journal can keep: give succeeded or all"
        )
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The words and the options of the command line: each field declares its option, in the order of the help."""

    words: tuple[str, ...]
    # ---- the run
    jobs: int | None = option(
        "-j", "-P", "--jobs", parse=parse_slots, metavar="N",
        help="Maximum number of commands at once: a number, 0 for as many as the system allows, or N%, +N, -N of the "
        "CPUs that may be used.  [default: 100%]",
    )  # fmt: skip
    nodes: tuple[str, ...] = option(
        "-S",
        "--sshlogin",
        multiple=True,
        metavar="NODES",
        help="Run the commands on these nodes, up to -j on each.",
    )
    ssh_config: str | None = option(
        "-F",
        "--ssh-config",
        metavar="FILE",
        help="Configuration file of ssh, for -S (provisional).",
    )
    timeout: float | None = option(
        parse=parse_time_limit, metavar="TIME", help="End a command that takes longer."
    )
    retries: int = option(
        parse=parse_count,
        default="1",
        metavar="N",
        help="Run a command up to N times; 0 for no limit.",
    )
    idle_timeout: float | None = option(
        parse=parse_time_limit,
        metavar="TIME",
        help="End a command that writes nothing for this long (provisional).",
    )
    memfree: _resources.StartCondition | None = option(
        parse=_resources.parse_memfree,
        metavar="SIZE",
        help="Start no command while less memory is free.",
    )
    memory_limit: int | None = option(
        parse=_resources.parse_memory_limit, metavar="SIZE",
        help="Limit the address space of each process of a command (provisional).",
    )  # fmt: skip
    pin: bool = option(help="Pin the commands of each slot to a CPU (provisional).")
    needs: Mapping[str, Amount] = option(
        parse=_resources.parse_needs, multiple=True, metavar="NAME=AMOUNT,...",
        help="Resources that each command needs, as in gpu=1,mem=4G; it starts when they are free (provisional).",
    )  # fmt: skip
    # The arguments of `Pool`.
    pool: Mapping[str, Any] = option(
        parse=_resources.parse_pool, multiple=True, metavar="NAME=...,...",
        help="Total resources for --needs, as in gpu=0,1,mem=24G; gpu=0, with a comma is one unit named 0 "
        "(provisional).  [default: cpu, mem and gpu of this machine]",
    )  # fmt: skip
    halt: HaltRule | None = option(
        parse=HaltRule.parse, metavar="RULE",
        help="When to stop: never, or WHEN,WHY=N or WHEN,WHY=N%, as in now,fail=1. WHEN is now or soon; WHY is fail, "
        "success or done.",
    )  # fmt: skip
    # ---- saved results
    joblog: str | None = option(
        metavar="FILE", help="Write a line for each command; +FILE appends."
    )
    journal: str | None = option(
        metavar="FILE",
        help="Keep commands that succeed, with their output, and do not run them again.",
    )
    keep: str = option(
        parse=parse_keep, default="succeeded", metavar="WHAT",
        help="What --journal keeps: succeeded, or all, with failures and timeouts.  [default: succeeded]",
    )  # fmt: skip
    # ---- output
    results: str | None = option(
        metavar="DIR",
        help="Save outputs in this directory, or all in the table FILE.csv or FILE.jsonl, instead of printing them.",
    )
    keep_order: bool = option(
        "-k", "--keep-order", help="Print outputs in the order of the arguments."
    )
    line_buffer: bool = option(
        help="Print each line as it is written, not each output as a whole."
    )
    tag: bool = option(help="Print the arguments before each line.")
    bar: bool = option(
        help="Show a progress bar on a terminal; all arguments are read first."
    )
    dry_run: bool = option(help="Print the commands without running them.")
    # ---- arguments
    files: tuple[str, ...] = option(
        "-a",
        "--arg-file",
        multiple=True,
        metavar="FILE",
        help="Read arguments from a file; - is stdin.",
    )
    null: bool = option("-0", "--null", help="Lines of files and stdin end with NUL.")
    colsep: re.Pattern[str] | None = option(
        "-C",
        "--colsep",
        parse=_sources.parse_column_separator,
        metavar="REGEXP",
        help="Split lines into {1}, {2}, ...",
    )
    items_per_command: int | None = option(
        "-N", parse=parse_count, metavar="N", help="Give each command N arguments."
    )
    fills_lines: bool = option(
        "-X",
        "-m",
        "--xargs",
        help="Give each command as many arguments as a line holds.",
    )

    def check_conflicts(self) -> None:
        """Reject conflicting options.

        Raises:
            ValueError: two options exclude each other, or an option needs another that is missing.

        """
        if self.fills_lines and self.items_per_command is not None:
            raise ValueError(
                "-X gives a command as many arguments as a line holds, and -N gives it N: leave one out"
            )
        self._check_output()
        self._check_journal()
        self._check_resources()

    def _check_output(self) -> None:
        for name, value in (("--results", self.results), ("--journal", self.journal)):
            if self.line_buffer and value is not None:
                raise ValueError(
                    f"{name} keeps outputs, but --line-buffer only forwards them: leave one out"
                )
        name = self.results or ""
        if name.lower().endswith(OTHER_SUFFIXES) and not name.endswith(TABLE_SUFFIXES):
            raise ValueError(
                f"--results {printable(name)}: give FILE.csv or FILE.jsonl for a table, or a directory"
            )

    def _check_journal(self) -> None:
        if self.keep == "all" and self.journal is None:
            raise ValueError(
                "--keep all needs --journal FILE, in which the failures are kept"
            )
        if self.journal is not None and self.dry_run:
            raise ValueError(
                f"--dry-run does not read a journal: to see its contents, run `trioflow journal "
                f"{printable(self.journal)}`"
            )

    def _check_resources(self) -> None:
        if self.pool and not self.needs:
            raise ValueError(
                "--pool needs --needs, which gives the amounts for each command"
            )
        local_options = (
            ("--memfree", self.memfree),
            ("--memory-limit", self.memory_limit),
            ("--pin", self.pin),
            ("--needs", self.needs),
        )
        if self.pin and hasattr(os, "sched_getaffinity"):
            cpus = len(usable_cpus())
            slots = self.jobs or count_usable_cpus()
            if slots > cpus:
                raise ValueError(
                    f"--pin gives each slot a CPU of its own, and {plural(slots, 'slot')} are more than the "
                    f"{plural(cpus, 'CPU')} that may be used: give -j{cpus}, or leave --pin out"
                )
        names = [name for name, value in local_options if value]
        if self.nodes and names:
            verb = "applies" if len(names) == 1 else "apply"
            raise ValueError(
                f"{' and '.join(names)} {verb} to this machine, but the commands run on nodes"
            )
