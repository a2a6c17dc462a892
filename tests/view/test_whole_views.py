"""All that trace, report, page, look, events, spans and simulation say of a run, to the last word."""

from functools import cache
import pytest
from ..conftest import Virtual
from .whole import FOLDER, RUNS, Told, text_of


@cache
def told(name: str, backend: str) -> dict[str, str]:
    return by_view(text_of(Told(RUNS[name], Virtual(backend))))


@cache
def expected(name: str) -> dict[str, str]:
    return by_view((FOLDER / f"{name}.txt").read_text(encoding="utf-8"))


def by_view(text: str) -> dict[str, str]:
    """Return the text of each view, by its name, which stands in a line after a "#"."""
    parts: dict[str, str] = {}
    for part in f"\n{text}".split("\n# ")[1:]:
        view, _, said = part.partition("\n")
        parts[view] = said
    return parts


ROWS = [(name, view) for name in RUNS for view in expected(name)]


@pytest.mark.parametrize(("name", "view"), ROWS)
def test_a_view_says_of_a_run_what_its_file_has(
    name: str, view: str, backend: str
) -> None:
    """If it is to say something else, `python -m tests.view.whole` writes the files anew."""
    said = told(name, backend)
    assert [*said] == [*expected(name)]
    assert said[view].split("\n") == expected(name)[view].split("\n")
