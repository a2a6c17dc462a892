"""Each public parameter is given all that is bad; the page about it has what comes of it."""

from __future__ import annotations

import dataclasses
import enum
import runpy
from functools import cache
from typing import Any

import trioflow

from ..places import ROOT


@cache
def tried() -> tuple[dict[str, Any], list[tuple[str, str, list[Any]]]]:
    """Return the names in the file that makes the page, and what it finds."""
    maker = runpy.run_path(str(ROOT / "docs" / "_site" / "bad_input.py"))
    return maker, maker["walk"]()


def test_the_page_has_what_bad_input_gets() -> None:
    """If this fails: `python docs/_site/bad_input.py`, and read what has changed."""
    maker, found = tried()
    assert maker["PAGE"].read_text(encoding="utf-8") == maker["page"](found)


def test_what_is_refused_is_refused_by_a_check_that_names_it() -> None:
    """No error comes from deep inside, nor from the hostile object: each is of a type that says what is wrong."""
    found = tried()[1]
    unclear = [one for _, _, refused in found for one in refused if not one.is_clear]
    assert [f"{one.call}({one.parameter}={one.value}): {one.text}" for one in unclear] == []


def is_to_be_tried(thing: object) -> bool:
    """Return whether users call this with values that they have chosen: not an error, an enumeration or a record."""
    is_made_by_trioflow = isinstance(thing, type) and (
        issubclass(thing, (BaseException, enum.Enum, tuple)) or dataclasses.is_dataclass(thing)
    )
    return callable(thing) and not is_made_by_trioflow


def test_all_that_is_public_is_tried() -> None:
    """What users can call is on the page, or is named with a reason."""
    maker, found = tried()
    public = {name for name in trioflow.__all__ if is_to_be_tried(getattr(trioflow, name))}
    assert public - {call for call, _, _ in found} == maker["ELSEWHERE"].keys()
