"""Helps autodoc to see public names as users do: at home where they import them from, options as attributes."""

import inspect
import re
import sys
import types
from typing import Any

from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.pycode import ModuleAnalyzer

import trioflow
import trioflow.abc
import trioflow.compat.asynciojobs
import trioflow.compat.asynciojobs_classic
import trioflow.compat.pyexpool
import trioflow.dask
from trioflow._core.job._option_descriptors import Option

MODULES = (
    trioflow,
    trioflow.abc,
    trioflow.dask,
    trioflow.compat.asynciojobs,
    trioflow.compat.asynciojobs_classic,
    trioflow.compat.pyexpool,
)
"""The modules whose names are defined elsewhere."""


HOMES = tuple(module.__name__ for module in MODULES)

DESCRIBED_IN = (
    "AbstractJob",
    "JobKind",
    "FunctionJob",
    "Instrument",
    "Scheduler",
    "BaseScheduler",
    "Service",
)
IMPLEMENTED = {
    *(name for name in vars(trioflow.abc.Instrument) if name[0] != "_"),
    *(
        "co_run",
        "co_shutdown",
        "command_line",
        "default_label",
        "failure_group",
        "for_journal",
        "forget_run",
    ),
    *("last_result", "open_for", "redacted_label", "status_text"),
}
"""Methods that users define in kinds and views of their own, and do not call."""

STYLE = Config(napoleon_use_rtype=False, napoleon_use_keyword=False)


def public_base(kind: type) -> type:
    """Return the nearest class that has a public name: itself, or what it derives from."""
    is_private = kind.__module__.startswith("trioflow.") and "._" in kind.__module__
    return public_base(kind.__bases__[0]) if is_private else kind


def read_where_defined(module: types.ModuleType) -> None:
    """Let autodoc find the order of members, and the docstrings of attributes, where the names of a module are defined.

    It looks for them in the module that `__module__` names, which is the one that users import from.
    """
    seen = ModuleAnalyzer.for_module(module.__name__)
    seen.analyze()
    for name in dir(module):
        thing = getattr(module, name)
        for kind in (
            reversed(thing.__mro__) if isinstance(thing, type) else ()
        ):  # what is inherited comes first
            if kind.__module__.startswith("trioflow") and (
                kind is thing or public_base(kind) is not kind
            ):
                read_class(seen, name, kind)


def read_class(seen: ModuleAnalyzer, name: str, kind: type) -> None:
    """Let an analysis know what the source says of a class, under its public name."""
    home = next((name for name, one in sys.modules.items() if defines(one, kind)), None)
    if home is None:
        return
    source = ModuleAnalyzer.for_module(home)
    source.analyze()
    start = len(seen.tagorder)
    own = f"{kind.__name__}."
    for tag, order in source.tagorder.items():
        if tag.startswith(own):
            seen.tagorder.setdefault(f"{name}.{tag.removeprefix(own)}", start + order)
    for (owner, attribute), text in source.attr_docs.items():
        if owner == kind.__name__:
            seen.attr_docs.setdefault((name, attribute), text)
    for (owner, attribute), text in source.annotations.items():
        if owner == kind.__name__:
            seen.annotations.setdefault((name, attribute), text)


def defines(module: types.ModuleType, kind: type) -> bool:
    """Return whether a module of the package is the one that has the definition of a class."""
    name = kind.__name__
    if (
        not module.__name__.startswith("trioflow.")
        or vars(module).get(name) is not kind
    ):
        return False
    return (
        re.search(rf"^class {name}\b", inspect.getsource(module), re.MULTILINE)
        is not None
    )


# ---------------------------------------------------------------- events of autodoc


def on_bases(
    app: Sphinx, name: str, kind: type, options: Any, bases: list[Any]
) -> None:
    """Show public bases."""
    found = [public_base(base) if isinstance(base, type) else base for base in bases]
    bases[:] = [base for base in dict.fromkeys(found) if base is not object] or [object]


def on_signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, args: str, returns: str
) -> Any:
    """Leave the options out of a signature, which would be a page long."""
    if what != "class" or "_declared_options" not in vars(thing):
        return None
    given = inspect.signature(thing).parameters.values()
    shown = [
        str(one.replace(annotation=one.empty))
        for one in given
        if one.name not in thing._declared_options
    ]
    return f"({', '.join([*shown, '**options'])})", ""


def on_skip(
    app: Sphinx, what: str, name: str, thing: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out what a kind or a view implements for its base, which says what that does."""
    owner = getattr(thing, "__qualname__", "").partition(".")[0]
    return True if name in IMPLEMENTED and owner not in DESCRIBED_IN else None


def on_docstring(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Say options once, as attributes, and turn the sections of Google's style into fields.

    Napoleon's own handler takes the first words of an attribute for its type, if a colon follows.
    """
    if what == "class" and "_declared_options" in vars(thing):
        lines[:] = without_options(lines, thing)
    if isinstance(thing, Option) and lines:
        lines[0] = lines[0][0].upper() + lines[0][1:]
        setter = getattr(thing, "method", None)
        when = (
            f"only by {setter}"
            if setter
            else "at any time"
            if thing.settable_in_run
            else "while no run is in progress"
        )
        lines += ["", f"Default: ``{thing.default!r}``. It may be set {when}."]
    kind = "method" if what in ("attribute", "property", "data") else what
    lines[:] = GoogleDocstring(
        list(lines), STYLE, app, kind, name, thing, options
    ).lines()


def own_options(kind: Any) -> list[str]:
    """Return the options that a class declares, or a private base of it; others are shown where they are declared."""
    base = next((one for one in kind.__mro__[1:] if one.__module__ in HOMES), None)
    return [
        option
        for option in kind._declared_options
        if option not in getattr(base, "_declared_options", {})
    ]


def without_options(lines: list[str], kind: Any) -> list[str]:
    """Return a docstring without the options under its Args."""
    text = "\n".join(lines)
    for option in own_options(kind):
        text = re.sub(
            rf"^ {{4}}{option}: .+\n(?: {{8}}.+\n)*", "", text, flags=re.MULTILINE
        )
    text = re.sub(
        r"^ +\*\*\w+\.\*\* Usually you set .+\n\n?", "", text, flags=re.MULTILINE
    )  # the table has these
    pointer = "\nThe options are among the attributes below; :doc:`/reference/jobs` has a table of all options.\n"
    text = re.sub(r"^Args:\n(?=\n|\Z)", pointer, text, flags=re.MULTILINE)
    if pointer not in text:
        text = re.sub(r"^(?=Args:\n)", pointer + "\n", text, flags=re.MULTILINE)
    return text.splitlines()


def on_description(
    app: Sphinx, domain: str, kind: str, content: addnodes.desc_content
) -> None:
    """Show of an option its name alone, and say for types where they stand."""
    for signature in (
        content.parent.findall(addnodes.desc_signature) if domain == "py" else ()
    ):
        name = f"{signature.get('module')}.{signature.get('fullname')}"
        if signature.parent is not content.parent:
            continue
        for part in list(signature.findall(addnodes.desc_annotation)):
            if re.match(
                r": (Option|Fixed)+\[", part.astext()
            ):  # the short name, and the full one
                part.parent.remove(part)
        if len(content) and content[0].astext() == "Bases: object":
            del content[0]
        for reference in signature.findall(addnodes.pending_xref):
            file = getattr(sys.modules.get(signature.get("module", "")), "__file__", "")
            reference.source, reference.line = f"{file}:signature of {name}", None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register it."""
    for module in MODULES:
        read_where_defined(module)
    app.connect("autodoc-process-bases", on_bases)
    app.connect("autodoc-process-signature", on_signature)
    app.connect("autodoc-skip-member", on_skip)
    app.connect("autodoc-process-docstring", on_docstring)
    app.connect("object-description-transform", on_description)
    return {"parallel_read_safe": True}
