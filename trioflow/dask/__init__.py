"""A Dask cluster that makes the calls of ProcessJobs, and keeps their results.

This package needs the extra `dask`: `pip install "trioflow[dask]"`. Dask is imported when it is first used.
"""

from ._cluster import Cluster as Cluster

__all__ = ["Cluster"]

Cluster.__module__ = __name__
