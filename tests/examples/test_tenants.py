"""The example whose policy shares slots among tenants."""

from __future__ import annotations

from .scripts import run_example


def test_the_slots_are_shared_by_the_weights() -> None:
    assert run_example("tenants").stdout == "{'A': 10, 'B': 10, 'C': 20}\n"
