"""Shell completion of files and of `FILE[:NAME]`; click does the rest. A file is parsed, never executed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


def file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Leave the completion to the shell, which knows its files."""
    from click.shell_completion import CompletionItem  # only a shell that completes needs it

    return [CompletionItem(incomplete, type="file")]


def file_and_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return what `incomplete` may become: files, or after a colon the names in the file."""
    from click.shell_completion import CompletionItem

    path, colon, beginning = incomplete.rpartition(":")
    if not colon:
        return file(ctx, param, incomplete)
    try:
        with open(path, "rb") as file_to_read:
            tree = ast.parse(file_to_read.read())
    except (OSError, SyntaxError, ValueError):
        return []
    return [CompletionItem(f"{path}:{name}") for name in _names(tree) if name.startswith(beginning)]


def _names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of functions, and of global schedulers as far as the text shows them."""
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
