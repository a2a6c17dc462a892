"""Shell completion of `FILE[:NAME]`; all else is click's own. The file is parsed, never executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from click.shell_completion import CompletionItem


def complete(incomplete: str) -> list[CompletionItem]:
    """Return what may stand in place of `incomplete`: files, or behind a colon names of the file."""
    file, colon, beginning = incomplete.rpartition(":")
    if not colon:
        return [CompletionItem(incomplete, type="file")]
    try:
        tree = ast.parse(Path(file).read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    return [CompletionItem(f"{file}:{name}") for name in _names(tree) if name.startswith(beginning)]


def _names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of global schedulers, as far as one sees, and of functions."""
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=called)) if _makes_scheduler(called):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.Call(func=called)) if _makes_scheduler(called):
                yield name
            case ast.FunctionDef(name=name) if not name.startswith("_"):
                yield name
            case _:
                pass


def _makes_scheduler(called: ast.expr) -> bool:
    return ast.unparse(called).rpartition(".")[2] in ("Scheduler", "SchedulerJob")
