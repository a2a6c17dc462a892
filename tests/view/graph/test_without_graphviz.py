"""Graphs where the package graphviz, which an extra installs, is missing."""

import sys
from pathlib import Path

import pytest
from trioflow import Job, Scheduler
from trioflow.compat.asynciojobs import Scheduler as OlderScheduler
from trioflow.view import save
from ...bodies import give_now


@pytest.fixture(autouse=True)
def without_graphviz(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `import graphviz` fail, as in an environment without it."""
    monkeypatch.setitem(sys.modules, "graphviz", None)


def test_the_error_names_the_extra_that_installs_graphviz(tmp_path: Path) -> None:
    scheduler = Scheduler(Job(give_now, 1))
    message = r"needs the package graphviz, .*: pip install 'trioflow\[graph\]'"
    for draw in (
        scheduler.graph,
        lambda: save(scheduler, tmp_path / "a.dot"),
        lambda: save(scheduler, tmp_path / "a.svg"),
        OlderScheduler().graph,
        lambda: OlderScheduler().export_as_svgfile(tmp_path / "b"),
    ):
        with pytest.raises(ModuleNotFoundError, match=message):
            draw()
    assert not list(tmp_path.iterdir())


def test_a_notebook_shows_the_graph_as_mermaid() -> None:
    bundle = Scheduler(Job(give_now, 1, label="one"))._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/vnd.mermaid"}
    assert "one" in bundle["text/vnd.mermaid"]
