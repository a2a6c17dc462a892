"""The interface of PyExPool 1, and much of version 3, implemented on trioflow: `Job`, `Task`, `ExecPool`.

A pool is a `trioflow.Scheduler` that runs in a thread and accepts jobs from other threads. A job is a `CommandJob` with
callbacks before and after it. `docs/coming-from/pyexpool.md` lists the differences, and shows programs written for
trioflow.
"""

from ._jobs import Job as Job
from ._jobs import JobInfo as JobInfo
from ._jobs import Process as Process
from ._jobs import Task as Task
from ._pool import ExecPool as ExecPool

__all__ = ["ExecPool", "Job", "JobInfo", "Process", "Task"]

for _public in (ExecPool, Job, JobInfo, Process, Task):
    _public.__module__ = __name__
