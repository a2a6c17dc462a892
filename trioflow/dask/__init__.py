"""Jobs whose functions are called on a Dask cluster, and whose results stay there.

This package needs the extra `dask`: `pip install "trioflow[dask]"`. Dask is imported when it is first used.
"""

from ._cluster import Cluster as Cluster
from ._cluster import DaskJob as DaskJob

__all__ = ["Cluster", "DaskJob"]

Cluster.__module__ = __name__
