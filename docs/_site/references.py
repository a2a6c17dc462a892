"""What `single backticks` and types refer to in docstrings and signatures.

Docstrings say names as Markdown does, in single backticks. A word that looks like a name of somebody's
(`Scheduler.run`, `JobTimeout`, `anyio.run`) is a link, and it is an error if there is no such name. A small word
(`co_run`, `timeout`, `close()`) is a link if the class that the docstring belongs to has it. All else is code.
"""

import re
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

NAME = re.compile(r"(?:[A-Z]\w*[a-z]\w*|trioflow|trio|anyio|asyncio|subprocess|concurrent)(?:\.\w+)*(?:\(\))?")
"""What has to be somebody's name: a class, or something in a module or class that is named too."""
SMALL = re.compile(r"[a-z]\w*(?:\.\w+)?(?:\(\))?")


def name(role: str, raw: str, text: str, line: int, inliner: Any, options: Any = None, content: Any = ()) -> Any:
    """Return what text in single backticks is."""
    literal = nodes.literal(raw, text, classes=["code", "python"])
    is_name, is_small = NAME.fullmatch(text), SMALL.fullmatch(text)
    if not is_name and not is_small:
        return [literal], []
    env = inliner.document.settings.env
    literal["classes"] = ["xref", "py", "py-obj"]
    wanted = addnodes.pending_xref(
        raw,
        literal,
        refdomain="py",
        reftype="obj",
        reftarget=text.removesuffix("()"),
        refdoc=env.docname,
        refwarn=bool(is_name),
        small=not is_name,
    )
    wanted["py:module"], wanted["py:class"] = env.ref_context.get("py:module"), env.ref_context.get("py:class")
    wanted.source, wanted.line = inliner.reporter.get_source_and_line(line)
    return [wanted], []


def resolve(app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.TextElement) -> Any:
    """Find what Sphinx has not found: a name that is public elsewhere than where the docstring stands."""
    if node.get("refdomain") != "py":
        return None
    python = env.domains.python_domain
    last = node["reftarget"]
    for module in ("trioflow", "trioflow.abc", "trioflow.testing"):
        if f"{module}.{last}" in python.objects:
            node["reftarget"] = f"{module}.{last}"
            return python.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], node["reftarget"], node, text)
    if node.get("small"):
        text["classes"] = ["code", "python"]
        return text
    return None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register it."""
    app.add_role("name", name)
    app.config.default_role = "name"
    app.connect("missing-reference", resolve, priority=900)
    return {"parallel_read_safe": True}
