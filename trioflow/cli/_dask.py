"""`trioflow run --dask ADDRESS`: the calls of the scenario's ProcessJobs are made on a Dask cluster."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Generator
from typing import Any, Final

from .. import Scheduler
from ..abc import printable
from . import _scenario

CONNECTING: Final = "10s"
"""How long Dask's scheduler may take to answer."""


@contextlib.contextmanager
def on_cluster(scheduler: Scheduler, address: str | None) -> Generator[None]:
    """Make a cluster the place of the ProcessJobs of a scheduler, if there is an address, as long as the block lasts.

    What the user's file defines is sent as it is, because workers do not have the file.

    Raises:
        Refusal: Dask is not installed, or no scheduler of it answers.

    """
    if address is None:
        yield
        return
    try:
        cloudpickle: Any = importlib.import_module("cloudpickle")
        distributed: Any = importlib.import_module("distributed")
    except ImportError as error:
        raise _scenario.Refusal(f"--dask needs {error.name}: pip install 'trioflow[dask]'") from None
    from ..dask import Cluster

    try:
        client = distributed.Client(address, timeout=CONNECTING)
    except (OSError, ValueError, TypeError) as error:
        found = f"no Dask scheduler answers there: {error}; `dask scheduler` prints its address"
        raise _scenario.Refusal(printable(f"--dask {address}: {found}")) from None
    for module in _scenario.loaded:
        cloudpickle.register_pickle_by_value(module)
    try:
        with client:
            scheduler.processes = Cluster(client)
            yield
    finally:
        for module in _scenario.loaded:
            cloudpickle.unregister_pickle_by_value(module)
