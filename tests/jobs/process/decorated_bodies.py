"""Functions for worker processes, decorated with `@job`."""

import os
from trioflow import ProcessJob, job


@job(kind=ProcessJob, label="decorated")
def decorated(number: int) -> tuple[int, int]:
    return os.getpid(), number


class Holder:
    @job(kind=ProcessJob)
    def method(self) -> None: ...
