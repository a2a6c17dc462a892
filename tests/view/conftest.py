"""A fixture for tests of what is beside the pictures of graphs."""

from __future__ import annotations

import html

import pytest

from trioflow.view.graph import _render


@pytest.fixture
def no_dot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the text of a graph stand for what `dot` would draw of it, whose start takes longer than all else."""
    monkeypatch.setattr(_render, "render", lambda source, *_: f"<svg>{html.escape(source)}</svg>".encode())
