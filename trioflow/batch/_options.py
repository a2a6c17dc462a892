"""The options of `trioflow batch`, and the checks for conflicts between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..abc import printable

if TYPE_CHECKING:
    import re

    from ..abc import Amount
    from ._halt_rule import HaltRule
    from ._start_conditions import FreeMemoryCondition, LoadCondition


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The parsed words and options of the command line. The attributes are named for the parameters of the command."""

    words: tuple[str, ...]
    # ---- arguments
    files: tuple[str, ...]
    null: bool
    delimiter: bytes | None
    colsep: re.Pattern[str] | None
    header: str | None  # ":" if the first items name the columns
    link: bool
    items_per_command: int | None
    # ---- the command line
    quote: bool
    argument: str  # the replacement string for the arguments, by default "{}"
    # ---- the run
    jobs: int | None
    nodes: tuple[str, ...]
    ssh_config: str | None
    timeout: float | None
    retries: int  # the maximum number of attempts for each command; 0 for no limit
    delay: float
    idle_timeout: float | None
    memfree: FreeMemoryCondition | None
    load: LoadCondition | None
    nice: int | None
    memory_limit: int | None
    pin: bool
    needs: Mapping[str, Amount]
    pool: Mapping[str, Any]  # the arguments of `Pool`
    halt: HaltRule | None
    # ---- saved results
    joblog: str | None
    journal: str | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    # ---- output
    results: str | None
    keep_order: bool
    line_buffer: bool
    tag: bool
    tagstring: str | None
    verbose: bool
    bar: bool
    dry_run: bool

    def check_conflicts(self) -> None:
        """Reject conflicting options.

        Raises:
            ValueError: two options exclude each other, or an option needs another one that is missing.

        """
        self._check_output()
        self._check_journal()
        self._check_resources()

    def _check_output(self) -> None:
        storage_options = (("--results", self.results), ("--journal", self.journal))
        for name in [name for name, value in storage_options if self.line_buffer and value is not None]:
            raise ValueError(f"{name} keeps outputs, but --line-buffer only forwards them: leave one out")
        if self.results is not None and self.results.endswith((".csv", ".tsv", ".json")):
            raise ValueError(
                f"--results {printable(self.results)}: tables are not supported; give FILE.jsonl, for a line of "
                f"JSON per command, or a directory, for a file per output"
            )

    def _check_journal(self) -> None:
        declares_files = self.reads or self.writes
        if declares_files and self.journal is None:
            raise ValueError("--reads and --writes need --journal, which records the state of the files")
        if declares_files and self.nodes:
            raise ValueError("--reads and --writes name files on this machine, but the commands run on nodes")
        if self.journal is not None and self.dry_run:
            raise ValueError(
                f"--dry-run does not read a journal: to see its contents, run `trioflow journal "
                f"{printable(self.journal)}`"
            )

    def _check_resources(self) -> None:
        if self.pool and not self.needs:
            raise ValueError("--pool needs --needs, which gives the amounts for each command")
        local_options = (
            ("--memfree", self.memfree),
            ("--load", self.load),
            ("--memory-limit", self.memory_limit),
            ("--pin", self.pin),
            ("--needs", self.needs),
        )
        names = [name for name, value in local_options if value]
        if self.nodes and names:
            verb = "applies" if len(names) == 1 else "apply"
            raise ValueError(f"{' and '.join(names)} {verb} to this machine, but the commands run on nodes")
