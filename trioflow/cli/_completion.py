"""Shell completion: files, `FILE[:NAME]`, what stands in a file, policies. A file is parsed, never executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import click

from ..abc import POLICY_NAMES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

USUAL: Final = "scenario"
"""The function that is meant if a file's name stands alone."""


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
    return [CompletionItem(f"{path}:{name}") for name in _names(_parsed(path)) if name.startswith(beginning)]


def settings(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the parameters of the function that makes the scenario, each with the `=` that follows."""
    path, name = _file(ctx)
    functions = [one for one in _parsed(path).body if isinstance(one, ast.FunctionDef) and one.name == (name or USUAL)]
    arguments = [one.args for one in functions[-1:]]
    return _beginning(
        incomplete, (f"{one.arg}=" for own in arguments for one in (*own.posonlyargs, *own.args, *own.kwonlyargs))
    )


def paths(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the labels that stand in the file, as patterns: `*` for what is put in, `?` for what a shell would split.

    Which jobs are nested can only be known by executing the file, so jobs inside of others are found by `*/label`.
    """
    path, _ = _file(ctx)
    labels = (word.value for word in ast.walk(_parsed(path)) if isinstance(word, ast.keyword) and word.arg == "label")
    return _beginning(incomplete, dict.fromkeys(filter(None, map(_pattern, labels))))


def policy_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return what the last of several names, separated by commas, may become."""
    before, comma, _ = incomplete.rpartition(",")
    return _beginning(incomplete, (f"{before}{comma}{name}" for name in POLICY_NAMES))


def _file(ctx: click.Context) -> tuple[object, str | None]:
    """Return the file and the name that stand before; click has not parsed them if the last word is an option."""
    found: tuple[object, str | None] | None = ctx.params.get("file")
    if found is not None:
        return found
    words = [word for word in ctx.args if not word.startswith("-")]
    path, colon, name = words[0].rpartition(":") if words else ("", "", "")
    return (path, name) if colon else (name, None)


def _beginning(incomplete: str, words: Iterable[str]) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _pattern(label: ast.expr) -> str:
    match label:
        case ast.Constant(value=str(text)):
            found = text
        case ast.JoinedStr(values=parts):
            found = "".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts)
        case _:
            return ""
    return re.sub(r"[^\w*./:,+=@%-]", "?", found)


def _parsed(path: object) -> ast.Module:
    """Return what is in a file; nothing if it cannot be read or parsed."""
    try:
        with open(str(path), "rb") as file_to_read:
            return ast.parse(file_to_read.read())
    except (OSError, SyntaxError, ValueError):
        return ast.Module([], [])


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
