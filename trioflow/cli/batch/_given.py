"""What was given on the command line of `trioflow batch`: all of its options, each of them once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import re

    from ...abc import Amount
    from ...batch._halt import Halt
    from ...batch._machine import FreeMemory, Load


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The words and options, as the command line has them, read and checked one by one; named as its page does."""

    words: tuple[str, ...]
    # ---- arguments
    files: tuple[str, ...]
    null: bool
    delimiter: bytes | None
    end_of_items: str | None
    no_run_if_empty: bool
    colsep: re.Pattern[str] | None
    trim: str | None
    header: str | None
    link: bool
    shuf: bool
    at_once: int | None
    arg_sep: str
    arg_file_sep: str
    # ---- the command line
    quote: bool
    spelled: Mapping[str, str]  # replacement strings, by the usual ones
    slot_variable: str | None
    # ---- how they run
    jobs: int | None
    nodes: tuple[str, ...]
    ssh_config: str | None
    timeout: float | None
    retries: int
    delay: float
    idle_timeout: float | None
    memfree: FreeMemory | None
    load: Load | None
    nice: int | None
    needs: Mapping[str, Amount]
    pool: Mapping[str, Any]  # as `Pool` takes it
    halt: Halt | None
    # ---- what is kept
    joblog: str | None
    joblog_usage: bool
    resume: bool
    resume_failed: bool
    retry_failed: bool
    journal: str | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    # ---- what is printed
    results: str | None
    keep_order: bool
    ungroup: bool
    line_buffer: bool
    tag: bool
    tagstring: str | None
    verbose: bool
    trace: bool
    bar: bool
    dry_run: bool
