"""Why some of apssh's tests fail over asynciojobs as over our names."""

from __future__ import annotations

from typing import Final

LOOPS: Final = (
    "close_ssh_in_scheduler() closes connections in an event loop of its own, and they belong to that of the run, "
    "which is closed: it waits for its timeout, or for ever"
)

EXPLAINED: Final[dict[str, str]] = {
    "::test_x11": "they forward the windows of X11, and this machine has no screen",
    "test_services::": "they start services by systemd, which does not run here",
    "test_deferred::test_deferred_service": "it starts a service by systemd, which does not run here",
    "test_keys::test_import": "it asks for the words that protect a key, and nobody is there to answer",
    "test_filedescriptors::": "100 nodes take more descriptors than the ten that it allows",
    "test_connections::": LOOPS,
}
"""By a part of the test's name."""
