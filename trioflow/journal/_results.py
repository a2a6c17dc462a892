"""`ResultStore`: the results of jobs as they are stored, and back.

| a result | the column `result` | the column `large` |
|---|---|---|
| is short | its text, or its pickle | NULL |
| is long, or has outputs of commands in files | its size | the hash of its text, and that of each such output |

What `large` names is stored in pieces, once for all jobs with equal results. See `JournalStore.write_large`.
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from ..jobs.command._output_sinks import OutputSpool
from ._serialization import NotSerializable, Spools, comparison_form, dumps, loads
from ._store import MAX_INLINE_RESULT, JournalStore, StoredJob

if TYPE_CHECKING:
    from .._core.job._job_options import Save

NOTHING_READ: Final[tuple[str, str | bytes, list[OutputSpool]]] = ("", b"", [])


class StoredResult(NamedTuple):
    """Where a result is stored: the columns `result` and `large` of its job.

    `form` is the text that represents it in the fingerprints of jobs that take it as input.
    """

    result: str | bytes | int
    large: str | None
    form: str


class Unusable(Exception):
    """A stored result cannot be used. The message is the reason why its job runs again."""


class ResultStore:
    """Stores the results of a run's jobs, and loads them.

    Args:
        store: the open file of the journal.

    """

    def __init__(self, store: JournalStore) -> None:
        self._store: Final = store
        # The result that `prefetch` has read: `StoredJob.large`, the result, and the outputs that are stored apart.
        self._prefetched = NOTHING_READ

    def write(
        self, save: Save, value: object, *, in_thread: bool = False
    ) -> StoredResult:
        """Serialize a result, and write its large parts.

        Raises:
            NotSerializable: the result cannot be stored.

        """
        spools: Spools = {}
        encoded = _serialize(save, value, spools)
        if not spools and len(encoded) <= MAX_INLINE_RESULT:
            return StoredResult(encoded, None, comparison_form(encoded))
        text = encoded
        if isinstance(text, str):
            text = text.encode()
        parts: list[bytes | OutputSpool] = [text, *spools]
        large = " ".join(
            self._store.write_large(part, in_thread=in_thread) for part in parts
        )
        return StoredResult(sum(map(len, parts)), large, f"~{large}")

    def load(self, record: StoredJob, save: Save, redact: bool) -> tuple[Any, str]:
        """Return the result in a record, and the text that represents it in the fingerprints of other jobs.

        Args:
            record: the record, which has a result that was stored with `save`.
            save: how the job stores its result. The job decides whether to unpickle, not the record, because a journal
                may be forged.
            redact: whether messages must not quote the result.

        Raises:
            Unusable: it cannot be read or loaded, or is a pickle that another user could have written.

        """
        if save == "pickle" and self._store.other_writers is not None:
            # They could have it run any code.
            raise Unusable(
                f"its stored result is a pickle, which is not loaded because {self._store.other_writers}"
            )
        spools: list[OutputSpool] = []
        try:
            if record.large is None or save == "pickle":
                data = self._store.read_result(record)
            else:
                data, spools = self._take_large(record)
        except (TypeError, ValueError, MemoryError) as error:
            raise Unusable(f"its stored result cannot be used: {error}") from None
        try:
            value = _deserialize(save, data, spools)
        except NotSerializable as error:
            raise Unusable(
                f"its stored result cannot be restored: {error.shown(redact)}"
            ) from None
        except Exception as error:
            # Raised by user code.
            shown = type(error).__name__
            if not redact:
                shown = repr(error)
            raise Unusable(f"its stored result cannot be restored: {shown}") from None
        if record.large is not None:
            return value, f"~{record.large}"
        return value, comparison_form(data)

    def _take_large(self, record: StoredJob) -> tuple[str | bytes, list[OutputSpool]]:
        """Return a large result, which `prefetch` may have read."""
        found = self._prefetched
        self._prefetched = NOTHING_READ
        if found[0] != record.large:
            found = self._read_large(record)
        _, data, spools = found
        return data, spools

    def form(self, record: StoredJob) -> str:
        """Return the text that represents the result in a record in the fingerprints of other jobs.

        Raises:
            TypeError: another program has changed it.

        """
        if record.large is not None:
            return f"~{record.large}"
        return comparison_form(self._store.read_result(record))

    def prefetch(self, record: StoredJob | None) -> Callable[[], None] | None:
        """Return a function that reads a large result for the next `load`, or None. It may be called in a thread."""
        if record is None or record.large is None or record.saved == "pickle":
            return None

        def read() -> None:
            with contextlib.suppress(ValueError):
                # `load` reports it.
                self._prefetched = self._read_large(record)

        return read

    def _read_large(
        self, record: StoredJob
    ) -> tuple[str, str | bytes, list[OutputSpool]]:
        large = record.large or ""
        spools: list[OutputSpool] = []
        for name in large.split(" ")[1:]:
            spool = OutputSpool()
            spools.append(spool)
            for piece in self._store.read_large(name):
                spool.write(piece)
        return large, self._store.read_result(record), spools


def save_format(save: Save) -> str:
    """Return the column `saved` of a job that stores its result so."""
    if isinstance(save, tuple):
        return "own"
    return str(save)


def _serialize(save: Save, value: object, spools: Spools) -> str | bytes:
    try:
        if save == "pickle":
            return pickle.dumps(value)
        if isinstance(save, tuple):
            value = save[0](value)
        return dumps(value, spools=spools)
    except NotSerializable:
        raise
    except Exception as error:
        raise NotSerializable(
            f"which {save_format(save)} cannot store:", error
        ) from None


def _deserialize(save: Save, data: str | bytes, spools: list[OutputSpool]) -> Any:
    if save == "pickle":
        return pickle.loads(cast(bytes, data))
    value = loads(data, spools)
    if isinstance(save, tuple):
        return save[1](value)
    return value
