"""All that trace, report, page, look, events, spans and simulation say of a run, to the last word."""

import itertools
import pytest
from ..conftest import BACKENDS, Virtual
from .whole import FOLDER, RUNS, Told, text_of


def by_view(text: str) -> dict[str, list[str]]:
    """Return the lines of each view, by its name, which stands in a line after a "#"."""
    parts: dict[str, list[str]] = {}
    for part in f"\n{text}".split("\n# ")[1:]:
        view, *said = part.split("\n")
        parts[view] = said
    return parts


@pytest.mark.parametrize(
    ("name", "backend"), [*zip(RUNS, itertools.cycle(BACKENDS))], indirect=["backend"]
)
def test_each_view_says_of_a_run_what_its_file_has(name: str, backend: str) -> None:
    """If it is to say something else, `python -m tests.view.whole` writes the files anew."""
    said = by_view(text_of(Told(RUNS[name], Virtual(backend))))
    expected = by_view((FOLDER / f"{name}.txt").read_text(encoding="utf-8"))
    assert [*said] == [*expected]
    for view, lines in expected.items():
        assert said[view] == lines, view
