"""Stability for users: public names stay, or their removal is announced."""

import re
from pathlib import Path
import pytest
import trioflow
import trioflow.abc
from trioflow._hints import MISSING_ATTRIBUTES, MODULE_HINTS
from trioflow.cli.batch._batch_command import command as batch
from . import public_names
from .places import ROOT
from .pythons import python


def test_public_names_are_those_of_the_recorded_list() -> None:
    """A change of a name, a member or a parameter is deliberate: run `python -m tests.public_names`, and add a
    fragment."""
    written = public_names.FILE.read_text(encoding="utf-8").splitlines()
    assert list(public_names.lines()) == written, "run: python -m tests.public_names"


def short_name(line: str, command: str) -> str:
    """Return how stability.md names what a line of the list is about, an option by its command."""
    if line.startswith("command "):
        return command
    if line.startswith(" "):
        flags = line.strip().partition(" = ")[0].split(", ")
        return f"{command} {flags[-1]}"
    if line.startswith(("trace ", "columns of a trace")):
        return "Trace"
    if line.startswith("trioflow look --json"):
        return "trioflow look --json"
    name = line.removeprefix("class ").removeprefix("trioflow.")
    return re.split(r"[ (]", name)[0]


def provisional_names() -> set[str]:
    found: set[str] = set()
    command = ""
    for line in public_names.FILE.read_text(encoding="utf-8").splitlines():
        text, mark, parameters = line.partition(public_names.PROVISIONAL)
        if not line.startswith(" "):
            command = text.removeprefix("command ")
        if mark and text.startswith("class trioflow.") and parameters:
            # An option, which many classes have, has one name. It is an attribute, too.
            found.update(f"{option}=" for option in parameters.strip(": ").split(", "))
        elif mark and f"{text.strip()}=" not in found:
            name = short_name(text, command)
            if text.startswith(" ") and command.startswith("class "):
                name = f"{short_name(command, command)}.{re.split(r'[ (]', text.strip())[0]}"
            found.update(
                f"{name} {parameter}"
                for parameter in parameters.strip(": ").split(", ")
            )
    return {name.strip() for name in found}


def test_provisional_names_are_those_of_the_page() -> None:
    """A docstring or a help marks a name, the recorded list and the page about what stays have the same names."""
    page = (ROOT / "docs" / "stability.md").read_text(encoding="utf-8")
    section = page.partition("\n## Provisional\n")[2].partition("\n## ")[0]
    *others, of_batch = [
        re.findall("`([^`]+)`", item) for item in section.split("\n- ")[1:]
    ]
    written = {name for names in others for name in names} | {
        f"{of_batch[0]} {option}" for option in of_batch[1:]
    }
    assert written == provisional_names()


def test_twenty_options_of_a_batch_are_promised() -> None:
    """These are the ones that users of GNU parallel know."""
    lines = [*public_names.command_lines(batch, "trioflow batch")]
    promised = [
        line
        for line in lines
        if line.startswith("    -") and public_names.PROVISIONAL not in line
    ]
    assert len(promised) == 20
    page = (ROOT / "docs" / "command" / "batch.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(
        r"^(`-F`.*) are \*provisional\*\. The other twenty", page, re.MULTILINE
    )
    flags = [
        flag
        for line in lines
        if public_names.PROVISIONAL in line
        for flag in re.findall(r"-[-\w]+", line)[:1]
    ]
    assert re.findall("`([^`]+)`", sentence) == flags


def test_a_parameter_or_an_attribute_is_marked_by_a_line_of_its_docstring() -> None:
    def call(old: int, new: int) -> None:
        """Do something.

        Args:
            old: what stays.
            new: what may change.
                *Provisional*.

        """

    class Kind:
        @property
        def new(self) -> int:
            """What may change.

            *Provisional*: a minor release may change it.
            """
            return 1

    assert [*public_names.described("a.call", call)] == [
        "a.call(old, new)  # provisional: new"
    ]
    assert [*public_names.described("a.Kind", Kind)][1] == "    new  # provisional"


def test_the_citation_names_this_version() -> None:
    assert f"\nversion: {trioflow.__version__}\n" in (ROOT / "CITATION.cff").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize("name", MODULE_HINTS)
def test_importing_a_name_of_another_library_raises_with_a_hint(name: str) -> None:
    with pytest.raises(
        ImportError, match=re.escape(f"trioflow has no {name}: {MODULE_HINTS[name]}")
    ):
        exec(f"from trioflow import {name}")


@pytest.mark.parametrize(
    ("kind", "most"), [(trioflow.Job, 53), (trioflow.Scheduler, 88)]
)
def test_a_class_of_jobs_has_few_members(kind: type, most: int) -> None:
    """A job and a scheduler have few public members: a new one takes the place of another. What only views, journals or
    kinds of jobs ask is a function of `trioflow.abc` or `trioflow.graph`."""
    assert (
        sum(not name.startswith("_") for name in {*dir(kind)} - MISSING_ATTRIBUTES)
        <= most
    )


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
CALLS = [
    "old() goes in 0.4: call new()",
    "Old goes in 0.4: use New",
    "Old.member() goes in 0.4: call Old.other()",
]


@pytest.mark.parametrize("is_hidden", [False, True])
def test_what_will_go_works_and_warns_at_the_line_of_its_user(
    tmp_path: Path, is_hidden: bool
) -> None:
    """Python hides a `DeprecationWarning` outside of `__main__`; this is shown, until a filter names its class."""
    (tmp_path / "library.py").write_text(LIBRARY)
    (tmp_path / "user.py").write_text(USER)
    hide = (
        "warnings.simplefilter('ignore', trioflow.TrioflowDeprecationWarning)"
        if is_hidden
        else ""
    )
    (tmp_path / "main.py").write_text(
        f"import sys, trioflow, user, warnings\n{hide}\nprint(user.use())\n"
    )
    done = python(tmp_path / "main.py", cwd=tmp_path, text=True)
    assert done.stdout == "(1, 3)\n"
    shown = re.findall(
        rf"user\.py:{LINE}: TrioflowDeprecationWarning: (.+)$",
        done.stderr,
        re.MULTILINE,
    )
    assert shown == ([] if is_hidden else CALLS)
