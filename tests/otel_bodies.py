"""Functions that processes and workers of a cluster find by name."""

import os


def variable() -> str | None:
    return os.environ.get("TRACEPARENT")
