"""Jobs whose work and results stay on a Dask cluster.

It needs the extra `dask`: `pip install "trioflow[dask]"`. Dask is imported when it is first used.
"""

from ._cluster import Cluster as Cluster
from ._cluster import DaskJob as DaskJob

__all__ = ["Cluster", "DaskJob"]

Cluster.__module__ = __name__
