"""Functions that processes and workers of a cluster find by name."""

from __future__ import annotations

import os


def variable() -> str | None:
    """Return the environment variable with the span of its job."""
    return os.environ.get("TRACEPARENT")
