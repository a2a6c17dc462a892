"""Reasons why some of apssh's tests fail over asynciojobs as well as over trioflow."""

from typing import Final

EXPLAINED: Final[dict[str, str]] = {
    "::test_x11": "they forward the windows of X11, and this machine has no screen",
    "test_services::": "they start services by systemd, which does not run here",
    "test_deferred::test_deferred_service": "it starts a service by systemd, which does not run here",
    "test_keys::test_import": "it asks for the words that protect a key, and nobody is there to answer",
}
"""The reasons, each under a part of the names of its tests."""
