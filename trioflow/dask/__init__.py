"""Dask in both directions: jobs whose work and results stay on a Dask cluster, and Dask's graphs run by trioflow.

It needs the extra `dask`: `pip install "trioflow[dask]"`. Dask is imported when it is first used.
"""

from ._cluster import Cluster as Cluster
from ._graphs import get as get
from ._job import DaskJob as DaskJob

__all__ = ["Cluster", "DaskJob", "get"]

for _public in (Cluster, get):
    _public.__module__ = __name__
