"""The reference has every public name once; its tables are complete."""

import importlib
import inspect
import re
import runpy
import types
from typing import Any, get_args

import pytest
import trioflow
import trioflow.abc
from trioflow import CommandJob, Journal, Scheduler, SshNode
from trioflow._core.job._job_options import SaveName
from trioflow.abc import AbstractJob, BackendName, OnTimeout, PolicyName, RunIf
from trioflow.jobs.command._spawn_options import LeftoversOption, PinOption
from trioflow.jobs.ssh._nodes import OnUnreachable
from trioflow.journal._journal import Durability
from .. import public_names as all_public_names
from ..places import ROOT

PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
DIRECTIVES = re.findall(r"^\.\. (?:auto|py:)(\w+):: ([\w.]+)$", TEXT, re.MULTILINE)
WHOLE = [name for kind, name in DIRECTIVES if kind == "module"]
"""Modules that a page shows with all that is in their `__all__`."""


ELSEWHERE = {
    "trioflow.dask.Cluster", "trioflow.look.enable", "trioflow.look.reload", "trioflow.otel.Tracing",
    "trioflow.otel.remote_context",
}  # fmt: skip
"""Names in modules of extras, which are not imported for them here, and in modules that have other modules."""


def public_names(module: types.ModuleType) -> set[str]:
    names = getattr(module, "__all__", None) or [name for name in dir(module) if not name.startswith("_")]
    found = {name for name in names if not isinstance(getattr(module, name, None), types.ModuleType)}
    return {f"{module.__name__}.{name}" for name in found}


def test_each_public_name_is_on_one_page_of_the_reference() -> None:
    shown = [name for kind, name in DIRECTIVES if kind != "module"]
    expected = public_names(trioflow) | (public_names(trioflow.abc) - {"trioflow.abc.AbstractJob"})
    expected |= public_names(trioflow.graph) | public_names(trioflow.view)
    assert sorted(shown) == sorted(expected | {"trioflow.abc.Amount"} | ELSEWHERE)


WRITTEN = [ROOT / "README.md", *(page for page in (ROOT / "docs").rglob("*.md") if "decisions" not in page.parts)]
"""The pages for readers. What is generated there, from docstrings, is in blocks of `eval-rst`."""


def test_each_public_name_is_on_a_page_that_is_written_by_hand() -> None:
    texts = (
        re.sub(r"^```{eval-rst}$.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.M) for page in WRITTEN
    )
    words = {word for text in texts for word in re.findall(r"\w+", text)}
    names: set[str] = set()
    for module in map(importlib.import_module, all_public_names.MODULES):
        names.update(all_public_names.public(module))
    names.update(name for kind in (Scheduler, trioflow.Job) for name in dir(kind) if hasattr(kind, name))
    assert sorted(name for name in names - words if not name.startswith("_")) == []


CHOICES = [
    (BackendName, Scheduler.run), (PolicyName, Scheduler), (OnTimeout, AbstractJob), (RunIf, AbstractJob),
    (SaveName, AbstractJob), (SaveName, Journal), (Durability, Journal), (PinOption, CommandJob),
    (LeftoversOption, CommandJob), (OnUnreachable, SshNode),
]  # fmt: skip
"""The names that an option may have, and what describes the option."""


@pytest.mark.parametrize(("choice", "described"), CHOICES)
def test_each_value_of_an_option_is_described_in_its_docstring(choice: Any, described: Any) -> None:
    text = inspect.getdoc(described) or ""
    assert [name for name in get_args(choice) if f'"{name}"' not in text] == []


def test_the_page_on_order_has_each_policy() -> None:
    page = (ROOT / "docs" / "explained" / "order.md").read_text(encoding="utf-8")
    assert [name for name in get_args(PolicyName) if f'| `"{name}"`' not in page] == []


@pytest.mark.parametrize("older", ["asynciojobs", "asynciojobs_classic", "pyexpool"])
def test_modules_shown_whole_in_the_reference_define_all(older: str) -> None:
    assert f"trioflow.compat.{older}" in WHOLE
    assert importlib.import_module(f"trioflow.compat.{older}").__all__


def test_the_table_of_errors_has_each_error() -> None:
    page = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", page, re.MULTILINE)
    described = re.findall(r"^\.\. autoexception:: trioflow\.(\w+)$", page, re.MULTILINE)
    errors = {
        name
        for name in trioflow.__all__
        if isinstance(thing := getattr(trioflow, name), type) and issubclass(thing, trioflow.TrioflowError)
    }
    assert described == ["TrioflowError", *table]
    assert set(described) == errors


def test_the_tables_of_options_are_generated_from_their_declarations() -> None:
    """The tables of options are what `python docs/_site/option_table.py` makes of the declarations."""
    tables = runpy.run_path(str(ROOT / "docs" / "_site" / "option_table.py"))
    page = (ROOT / "docs" / "reference" / "jobs.md").read_text(encoding="utf-8")
    lines = page.partition("## All options")[2].partition("\n## ")[0].splitlines()
    assert [line for line in lines if line.startswith("|")] == [*tables["declared"](), *tables["of_kinds"]()]
    groups = lines[: lines.index("A kind may have options of its own:")]
    shown = re.findall(r"`(\w+)=", "".join(line.split("|")[2] for line in groups if line.startswith("|")))
    assert sorted(shown) == sorted(AbstractJob._declared_options | trioflow.Scheduler._declared_options)


NOT_MADE = {"CommandResult", "JobState", "StopReason"}
"""Classes whose objects users only get."""


def test_each_class_says_when_to_use_it() -> None:
    """The docstring of each class whose objects users make has a second paragraph that begins with "Use it"."""
    classes = {name: getattr(trioflow, name) for name in {*trioflow.__all__} - NOT_MADE}
    texts = {
        name: inspect.getdoc(thing) or ""
        for name, thing in classes.items()
        if isinstance(thing, type) and not issubclass(thing, BaseException)
    }
    assert [name for name, text in texts.items() if not re.match(r"[^\n]+(\n[^\n]+)*\n\nUse it ", text)] == []
