"""What tests of `trioflow look` share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from trioflow.view.look import _answers


@pytest.fixture
def answers() -> Iterator[None]:
    """Let this process answer, as `trioflow run` does."""
    with _answers.answering():
        yield
