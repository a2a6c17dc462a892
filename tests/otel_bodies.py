"""Functions that processes and workers of a cluster find by name."""

from __future__ import annotations

import os


def variable() -> str | None:
    return os.environ.get("TRACEPARENT")
