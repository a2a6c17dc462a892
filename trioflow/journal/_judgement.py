"""`judge`: whether the record of a job is the record of its work, or why the job runs. It decides, and does nothing.

The first row that holds:

| the record | the work | finding | look-up |
|---|---|---|---|
| belongs to several jobs, or its path to another job of this run | any | AMBIGUOUS | NotStored: it is never stored |
| is of this run | any | RAN_BEFORE | NotStored: it is tried again, alone or with its scheduler |
| cannot be read | any | DAMAGED | NotStored |
| is missing | is that of a record in another directory | MOVED | NotStored: names both directories |
| is missing | any | NO_RECORD | NotStored, with nothing to explain |
| has its fingerprint | no requirement has run since, and none was left out | MATCHES | Restored, if its result can be |
| has another fingerprint, or is older than a requirement, or some are left out | any | DIFFERS | see below |

`DIFFERS` is not yet a change: what changed is sought, part by part, as only a few jobs pay for that. A record without a
change is Restored as one that MATCHES. Whether its result can be used, `restore` decides.

Decided in docs/decisions: 39-journals.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ._requirement_forms import Counted
    from ._store import StoredJob


class Finding(enum.Enum):
    AMBIGUOUS = enum.auto()
    RAN_BEFORE = enum.auto()
    DAMAGED = enum.auto()
    MOVED = enum.auto()
    NO_RECORD = enum.auto()
    MATCHES = enum.auto()
    DIFFERS = enum.auto()


class Evidence(NamedTuple):
    """The facts about a job and its record. What has changed, `find_change` seeks."""

    record: StoredJob | None
    """The record of its path, or None if there is none, or it cannot be read."""
    fingerprint: str
    required: Counted
    """The share of its requirements, `NOTHING` with `key=`."""
    is_cut: bool = False
    """Whether requirements were left out of this run."""
    is_ambiguous: bool = False
    was_used: bool = False
    """Whether this run has restored or recorded a job under this path."""
    is_damaged: bool = False
    has_moved: bool = False
    """Whether the path has the record of the same work in another directory."""


def judge(evidence: Evidence) -> Finding:
    if evidence.is_ambiguous:
        return Finding.AMBIGUOUS
    if evidence.was_used:
        return Finding.RAN_BEFORE
    if evidence.is_damaged:
        return Finding.DAMAGED
    record = evidence.record
    if record is None:
        return Finding.MOVED if evidence.has_moved else Finding.NO_RECORD
    is_older = evidence.required.ran > (record.run, record.settled)
    if evidence.is_cut or is_older or record.fingerprint != evidence.fingerprint:
        return Finding.DIFFERS
    return Finding.MATCHES
