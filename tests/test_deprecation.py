"""A name that will go works as before. Its warning is at the user's line, and Python shows it wherever that is."""

import re
from pathlib import Path

import pytest
from .pythons import python

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
