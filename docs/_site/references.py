"""What names refer to: those in `single backticks` of docstrings, and the types in signatures.

Docstrings say names as Markdown does, in single backticks. A word that looks like a name of somebody's
(`Scheduler.run`, `JobTimeout`, `anyio.run`) is a link, and it is an error if there is no such name. A small word
(`co_run`, `timeout`, `close()`) is a link if the class that the docstring belongs to has it. All else is code.
"""

import functools
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform

import trioflow

HOMES = ("trioflow", "trioflow.abc", "trioflow.testing", "trioflow.dask")
"""Where a name is looked for that is not in the module of its docstring."""
ELSEWHERE = {
    "AnyJob": "trioflow.AbstractJob",
    "asyncio.events.TimerHandle": "asyncio.TimerHandle",
    "BaseScheduler": "trioflow.Scheduler",
    "BrokenExecutor": "concurrent.futures.BrokenExecutor",
    "CapacityLimiter": "anyio.CapacityLimiter",
    "concurrent.futures._base.Executor": "concurrent.futures.Executor",
    "concurrent.futures._base.Future": "concurrent.futures.Future",
    "EllipsisType": "types.EllipsisType",
    "Path": "os.PathLike",
    "ProcessPoolExecutor": "concurrent.futures.ProcessPoolExecutor",
    "PureScheduler": "trioflow.compat.asynciojobs.PureScheduler",
    "Required": "trioflow.AbstractJob",
    "ThreadPoolExecutor": "concurrent.futures.ThreadPoolExecutor",
    "_UnixSelectorEventLoop": "asyncio.SelectorEventLoop",
}
"""Names that docstrings and signatures say shorter, or longer, than their own documentation."""

NAME = re.compile(
    r"(?:[A-Z]\w*[a-z]\w*|trioflow|trio|anyio|asyncio|concurrent)(?:\.\w+)*(?:\(\))?"
)
"""What has to be somebody's name: a class, or something in a module or class that is named too."""
ALIAS = re.compile(
    r"^ *(?:class )?([A-Z]\w*)(?:: TypeAlias)?(?: = |[(:])", re.MULTILINE
)
SMALL = re.compile(r"[a-z]\w*(?:\.\w+)?(?:\(\))?")


def name(
    role: str,
    raw: str,
    text: str,
    line: int,
    inliner: Any,
    options: Any = None,
    content: Any = (),
) -> Any:
    """Return what text in single backticks is."""
    literal = nodes.literal(raw, text, classes=["code"])
    is_name, is_small = NAME.fullmatch(text), SMALL.fullmatch(text)
    if not is_name and not is_small:
        return [literal], []
    env = inliner.document.settings.env
    wanted = addnodes.pending_xref(
        raw,
        literal,
        refdomain="py",
        reftype="obj",
        reftarget=text.removesuffix("()"),
        refdoc=env.docname,
    )
    wanted["small"], wanted["refwarn"] = not is_name, bool(is_name)
    wanted["member"] = not is_name and not text.endswith(
        "()"
    )  # a function of this name is seldom meant
    wanted["py:module"], wanted["py:class"] = (
        env.ref_context.get("py:module"),
        env.ref_context.get("py:class"),
    )
    wanted.source, wanted.line = inliner.reporter.get_source_and_line(line)
    return [wanted], []


class FullNames(SphinxPostTransform):
    """Gives each reference the full name of what it means, if that is ours."""

    default_priority = 5  # before they are resolved

    def run(self, **_: Any) -> None:
        """Do so."""
        known = self.env.domains.python_domain.objects
        for wanted in self.document.findall(addnodes.pending_xref):
            if wanted.get("refdomain") == "py":
                target = ELSEWHERE.get(wanted["reftarget"], wanted["reftarget"])
                if is_private(target):
                    target = ELSEWHERE.get(target.rpartition(".")[2], target)
                found = full_name(
                    target,
                    wanted.get("py:module"),
                    wanted.get("py:class"),
                    known,
                    wanted.get("member"),
                )
                wanted["reftarget"] = found or ("" if wanted.get("member") else target)
                show_public_name(wanted)
                if (
                    wanted["reftype"] == "class"
                ):  # an annotation; what it names may be a function or a value
                    wanted["reftype"] = "obj"
                if "small" not in wanted:  # an annotation, or a base class
                    wanted["small"] = not found and is_word_of_the_source(target)
                if found or wanted["reftype"] == "obj":
                    wanted.attributes.pop("refspecific", None)


def is_private(name: str) -> bool:
    """Return whether a name says where something is defined, not where users find it; or is a word of its file."""
    return "." not in name or "._" in name


@functools.cache
def words_of_the_source() -> set[str]:
    """Return the names that the package gives to types for its own use: aliases, type variables and private classes."""
    sources = Path(trioflow.__file__).parent.rglob("*.py")
    return {
        word
        for path in sources
        for word in ALIAS.findall(path.read_text(encoding="utf-8"))
    }


def is_word_of_the_source(target: str) -> bool:
    """Return whether an annotation names something private, which Args or Returns say in words: it is no link."""
    return (target.startswith("trioflow.") and "._" in target) or target.rpartition(
        "."
    )[2] in words_of_the_source()


def show_public_name(wanted: addnodes.pending_xref) -> None:
    """Show the public name of what an annotation calls by another name."""
    for text in list(wanted.findall(nodes.Text)):
        if text == "BaseScheduler" or text.endswith(".BaseScheduler"):
            text.parent.replace(text, nodes.Text("Scheduler"))


def full_name(
    target: str, module: str | None, kind: str | None, known: Any, member: bool = False
) -> str | None:
    """Return the full name of what a docstring or signature means, or None if it is not ours."""
    is_private = "._" in target or ".jobs." in target
    if target.startswith("_") or (target.startswith("trioflow.") and is_private):
        target = target.rpartition(".")[2]  # where it is defined
    homes = (
        [module] if module in HOMES else [module, *HOMES]
    )  # older names come first on their own page
    candidates = [] if member else [target]
    for home in dict.fromkeys([*homes, *HOMES]):
        candidates += [f"{home}.{kind}.{target}"] if kind else []
        candidates += [] if member else [f"{home}.{target}"]
    return next(
        (one for name in candidates for one in (name, inherited(name)) if one in known),
        None,
    )


def inherited(name: str) -> str | None:
    """Return the name in the class that a member comes from, if it is inherited."""
    owner, _, member = name.rpartition(".")
    module, _, kind = owner.rpartition(".")
    try:
        bases = getattr(import_module(module), kind).__mro__
    except (ImportError, AttributeError, ValueError):
        return None
    return next(
        (
            f"{base.__module__}.{base.__qualname__}.{member}"
            for base in bases
            if member in vars(base)
        ),
        None,
    )


def resolve(
    app: Sphinx,
    env: BuildEnvironment,
    node: addnodes.pending_xref,
    text: nodes.TextElement,
) -> Any:
    """Leave small words that are no names of their class as code."""
    return text if node.get("small") else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register it."""
    app.add_role("name", name)
    app.config.default_role = "name"
    app.add_post_transform(FullNames)
    app.connect("missing-reference", resolve, priority=900)
    return {"parallel_read_safe": True}
