"""Stability for users: public names stay, or their removal is announced."""

import re
from pathlib import Path
import pytest
import trioflow
import trioflow.abc
from trioflow._hints import ATTRIBUTE_HINTS, MODULE_HINTS
from . import public_names
from .places import ROOT
from .pythons import python


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


# --- A name that will go works as before. Its warning is at the user's line, and Python shows it wherever that is
LIBRARY = """
import sys
from trioflow import TrioflowDeprecationWarning
if sys.version_info >= (3, 13):
    from warnings import deprecated
else:
    from typing_extensions import deprecated

@deprecated("old() goes in 0.4: call new()", category=TrioflowDeprecationWarning)
def old(value):
    return value

@deprecated("Old goes in 0.4: use New", category=TrioflowDeprecationWarning)
class Old:
    @deprecated("Old.member() goes in 0.4: call Old.other()", category=TrioflowDeprecationWarning)
    def member(self):
        return 3
"""
USER = """
import library

def use():
    return library.old(1), library.Old().member()
"""
LINE = 5
CALLS = ["old() goes in 0.4: call new()", "Old goes in 0.4: use New", "Old.member() goes in 0.4: call Old.other()"]


@pytest.mark.parametrize("is_hidden", [False, True])
def test_what_will_go_works_and_warns_at_the_line_of_its_user(tmp_path: Path, is_hidden: bool) -> None:
    """Python hides a `DeprecationWarning` outside of `__main__`; this is shown, until a filter names its class."""
    (tmp_path / "library.py").write_text(LIBRARY)
    (tmp_path / "user.py").write_text(USER)
    hide = "warnings.simplefilter('ignore', trioflow.TrioflowDeprecationWarning)" if is_hidden else ""
    (tmp_path / "main.py").write_text(f"import sys, trioflow, user, warnings\n{hide}\nprint(user.use())\n")
    done = python(tmp_path / "main.py", cwd=tmp_path, text=True)
    assert done.stdout == "(1, 3)\n"
    shown = re.findall(rf"user\.py:{LINE}: TrioflowDeprecationWarning: (.+)$", done.stderr, re.MULTILINE)
    assert shown == ([] if is_hidden else CALLS)
