"""What users may build on: public names stay, and what goes says so first."""

from __future__ import annotations

import warnings

import pytest

import trioflow
from trioflow._deprecated import RENAMED, Renamed, deprecated

from . import public_names
from .places import ROOT


def test_public_names_are_those_that_are_written_down() -> None:
    """A name, a member or a parameter comes or goes on purpose: with `python -m tests.public_names`, and a fragment."""
    written = public_names.FILE.read_text(encoding="utf-8").splitlines()
    assert list(public_names.lines()) == written, "run: python -m tests.public_names"


def test_a_citation_names_this_version() -> None:
    """Who cites trioflow says which; the release goes by `trioflow.__version__`, and so does the file."""
    assert f"\nversion: {trioflow.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_a_renamed_name_still_works_and_says_its_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its users are warned where they use it, and get what it is called now."""
    monkeypatch.setitem(RENAMED, "Chain", Renamed("Sequence", "0.2", "0.4"))
    expected = r"trioflow\.Chain is deprecated since trioflow 0\.2, and gone in 0\.4: write trioflow\.Sequence$"
    with pytest.warns(DeprecationWarning, match=expected) as caught:
        found = trioflow.Chain  # type: ignore[attr-defined]
    assert found is trioflow.Sequence
    assert caught[0].filename == __file__


def test_a_late_name_may_be_renamed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is imported when it is asked for is found by its old name as well."""
    monkeypatch.setitem(RENAMED, "Recorder", Renamed("Trace", "0.2", "0.4"))
    with pytest.warns(DeprecationWarning, match="write trioflow.Trace"):
        assert trioflow.Recorder is trioflow.Trace  # type: ignore[attr-defined]


def test_a_warning_points_to_the_program_and_not_into_the_package() -> None:
    """However deep in trioflow somebody says `deprecated`, the warning is about the line of the user that led there."""
    inside = {"__name__": "trioflow._core.job._job", "deprecated": deprecated}
    exec("def call():\n    deprecated('old=', 'new=', since='0.2', gone='0.3')\ndef option():\n    call()", inside)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        inside["option"]()
    assert [one.filename for one in caught] == [__file__]
