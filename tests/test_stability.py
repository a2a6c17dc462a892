"""Stability for users: public names stay, or their removal is announced."""

import re

import pytest
import trioflow
import trioflow.abc
from trioflow._hints import ATTRIBUTE_HINTS, MODULE_HINTS
from . import public_names
from .places import ROOT


def test_public_names_are_those_of_the_recorded_list() -> None:
    """A change of a name, a member or a parameter is deliberate: run `python -m tests.public_names`, and add a
    fragment."""
    written = public_names.FILE.read_text(encoding="utf-8").splitlines()
    assert list(public_names.lines()) == written, "run: python -m tests.public_names"


def test_the_citation_names_this_version() -> None:
    assert f"\nversion: {trioflow.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", MODULE_HINTS)
def test_importing_a_name_of_another_library_raises_with_a_hint(name: str) -> None:
    with pytest.raises(ImportError, match=re.escape(f"trioflow has no {name}: {MODULE_HINTS[name]}")):
        exec(f"from trioflow import {name}")


@pytest.mark.parametrize(("kind", "most"), [(trioflow.Job, 52), (trioflow.Scheduler, 86)])
def test_a_class_of_jobs_has_few_members(kind: type, most: int) -> None:
    """A job and a scheduler have few public members: a new one takes the place of another. What only views, journals or
    kinds of jobs ask is a function of `trioflow.abc` or `trioflow.graph`."""
    assert sum(not name.startswith("_") for name in {*dir(kind)} - ATTRIBUTE_HINTS.keys()) <= most
