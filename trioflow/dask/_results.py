"""Results on a cluster: those that have stayed there, and the futures of those that are here too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..abc import kept_of
from ..jobs.process._place import Elsewhere

if TYPE_CHECKING:
    from .. import AbstractJob
    from ..abc import RunHandle

    AnyJob = AbstractJob[Any]


class OnCluster(Elsewhere):
    """A result that has stayed on a cluster."""

    __slots__ = ("_address", "client", "future")

    def __init__(self, client: Any, future: Any, address: str) -> None:
        self.client: Final = client
        self.future: Final = future
        self._address: Final = address

    def fetch(self, label: str) -> Any:
        """Return the value."""
        try:
            return self.client.gather(self.future)
        except Exception as error:
            raise RuntimeError(
                f"{label!r}: its value has stayed on the Dask cluster at {self._address}, which does not have it any "
                f"more, or cannot be reached: ask for it while the client is open"
            ) from error

    def __repr__(self) -> str:
        """Show what it is and where."""
        kind = getattr(self.future.type, "__name__", "a value")
        return f"<{kind} on the Dask cluster at {self._address}>"


class Futures:
    """The futures of results that have come here, for the jobs on the same cluster that use them too."""

    def __init__(self, _: RunHandle) -> None:
        self._of: Final[dict[AnyJob, tuple[Any, Any]]] = {}

    def keep(self, job: AnyJob, client: Any, future: Any) -> None:
        """Keep a future until the run ends; not for a result that is dropped before."""
        if job.keep_result:
            self._of[job] = client, future

    def given(self, client: Any, job: AnyJob) -> Any:
        """Return what a job on the cluster of `client` gets for the result of another one."""
        kept = kept_of(job)
        if isinstance(kept, OnCluster) and kept.client is client:
            return kept.future
        other, future = self._of.get(job, (None, None))
        return future if other is client and future.status == "finished" else job.result()

    async def close(self) -> None:
        """Let the cluster forget the values."""
        self._of.clear()
