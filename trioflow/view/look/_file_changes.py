"""The changes between two texts of a file: new code for its functions, new statements, and reasons to refuse.

A scope is a module or a function. The *outline* of a scope is the code that runs in it: its statements without the
bodies of the functions in it, which are scopes of their own. The scope of a module has run once, when it was loaded.
The scope of a function runs in each call. Three rules follow:

1. **A function gets new code in place if the outlines of all scopes around it are as they were.** Then the function
   finds the same globals and the same variables of functions as if the new text had been loaded.
2. **A statement of a module may be new if all it does is to bind a new name.** It runs. Any other change in the outline
   of a module would have to run again, and is refused.
3. **Functions are found by their code.** Both texts are compiled, and the codes in statements with the same outline are
   paired, at any depth. Code objects are equal if their names, first lines, bytecodes and constants are, whatever their
   files are called (`code_richcompare` in
   https://github.com/python/cpython/blob/v3.14.0/Objects/codeobject.c). So a function that was made of the old text has
   an old code, however it is decorated and wherever it is kept. A function without an old code was made of another
   text.

Outlines are compared as syntax trees, because bytecode depends on more than the statements that run. A class that has
only moved differs in its first line, and a class whose methods set other attributes in their names, which are constants
of the class: https://docs.python.org/3/reference/datamodel.html#type.__static_attributes__.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, Final, cast

from ..._core.base._text_forms import clause, short_repr
from ..._loaded_files import LoadedFile, code_names

FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES: Final = (ast.Lambda, *FUNCTIONS)
IMPORTS: Final = (ast.Import, ast.ImportFrom)
GENERATOR_FLAGS: Final = inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR
# The only future import that is left: https://docs.python.org/3/library/__future__.html.
FUTURE_FLAGS: Final[int] = annotations.compiler_flag
OF_CHANGED_FUNCTION: Final = "was made by a function that has itself changed"
AMBIGUOUS: Final = "cannot be told from others on its line: put it on a line of its own, and start the program again"
OTHER_VARIABLES: Final = (
    "uses other variables of the functions around it, or super() or __class__ anew"
)
OTHER_KIND: Final = "has become a generator, or is no generator any more"


class Source:
    """A text of a file, taken apart.

    Attributes:
        statements: the outlines and the nodes of its statements, and of each name of an import. Statements whose order
            matters come first.
        scopes: the functions, by the names and first lines that their codes have. Only lambdas share both.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: the text cannot be compiled.

    """

    def __init__(self, text: bytes, file: str) -> None:
        self._file: Final = file
        self._flags: Final = (
            compile(text, file, "exec", dont_inherit=True).co_flags & FUTURE_FLAGS
        )
        tree = ast.parse(text)
        nodes = [*ast.walk(tree)]
        imports: list[ast.stmt] = [ast.Pass()]
        for node in _nodes_in(tree, IMPORTS):
            if getattr(node, "module", "") != "__future__":
                imports.append(node)
        self._imports: Final = ast.If(ast.Constant(value=False), imports, [])
        binding = (ast.alias, ast.Name, ast.ClassDef, *FUNCTIONS)
        # The variables of functions are others, whatever their names are, unless they are global.
        names = [*map(name_bound, _nodes_in(tree, binding))]
        for node in nodes:
            if isinstance(node, ast.Global):
                names += node.names
        self._bound: Final = Counter(filter(None, names))
        parts = list[Any]()
        for statement in itertools.filterfalse(_is_docstring, tree.body):
            parts += _parts(statement)
        self.statements: Final = sorted(
            ((_outline(node), node) for node in parts), key=self._order
        )
        self.scopes: Final = defaultdict[tuple[str, int], list[Any]](list)
        for node in nodes:
            if isinstance(node, SCOPES):
                line = min(each.lineno for each in (node, *_decorators(node)))
                self.scopes[getattr(node, "name", "<lambda>"), line].append(node)

    def compile(self, node: ast.stmt) -> CodeType:
        """Compile a statement alone, with the future imports of its file, and none of this module.

        The codes in it are the codes of the file, since the compiler sees the imports of the file, too, after `if
        False`: a function that calls `os.getpid()` has other bytecode if the module imports `os`. See
        is_import_originated() in https://github.com/python/cpython/blob/v3.14.0/Python/codegen.c.
        """
        module = ast.fix_missing_locations(ast.Module([node, self._imports], []))
        code: CodeType = compile(
            module, self._file, "exec", self._flags, dont_inherit=True
        )
        return code

    def _order(self, statement: tuple[str, Any]) -> str:
        """Return "" if the place of a statement matters: something else binds its name, or sees it begin."""
        outline, node = statement
        is_quiet = isinstance(node, (*IMPORTS, *FUNCTIONS)) and not _decorators(node)
        if is_quiet and self._bound[name_bound(node)] == 1:
            return outline
        return ""


class FileChange:
    """The changes in a file.

    Args:
        file: the name of the file.
        before: the file as it was loaded.
        now: the file as it is now.

    Attributes:
        name: the name of the file, without its folder.
        reasons: why the change cannot be taken.
        successors: the new attributes of functions, by their old code, or why they can have none.
        mended: the new codes that differ from the old ones in more than their lines, with these.
        additions: the new statements, with the name that each of them binds.

    """

    def __init__(self, file: str, before: LoadedFile, now: LoadedFile) -> None:
        self.name: Final = os.path.basename(file)
        self.namespaces: Final = now.namespaces
        self.reasons: Final[list[str]] = []
        self.successors: Final[dict[CodeType, dict[str, Any] | str]] = {}
        self.mended: Final[dict[CodeType, CodeType]] = {}
        self.additions: Final[list[tuple[ast.stmt, str, CodeType]]] = []
        if before.text != now.text and not before.is_certain:
            self._refuse(
                None,
                "it was saved after the program had started, so what was loaded is not known",
            )
            return
        code_name = code_names.get(file, file)
        try:
            self._old = Source(before.text, code_name)
            self._new = Source(now.text, code_name)
            self._compare_statements()
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            problem = getattr(error, "msg", error)
            self._refuse(error, f"{type(error).__name__}: {problem}")
            return
        for old, code in before.successors.items():
            successor = self.successors.get(code, OF_CHANGED_FUNCTION)
            self.successors.setdefault(old, successor)

    def _refuse(self, place: object, reason: str) -> None:
        """Note why the change cannot be taken, with the line of a node or of an error."""
        line = clause(":{}", getattr(place, "lineno", None))
        self.reasons.append(f"{self.name}{line}: {reason}")

    def _compare_statements(self) -> None:
        """Pair the statements that have run with their present forms. Add the new statements, or refuse them."""
        were = dict(self._old.statements)
        are = dict(self._new.statements)
        gone = [were[outline] for outline in were if outline not in are]
        by_name = {name_bound(node): node for node in gone}
        added = [are[outline] for outline in are if outline not in were]
        for node in sorted(added, key=lambda node: node.lineno):
            self._add(node, by_name.get(name_bound(node)))
        for node in gone:
            if not isinstance(node, IMPORTS) and not self.reasons:
                self._refuse(
                    None, f"{title_of(node)} is gone, and what has run cannot be undone"
                )
        olds = [each for each in self._old.statements if each[0] in are]
        news = [each for each in self._new.statements if each[0] in were]
        pairs: Any = itertools.zip_longest(olds, news, fillvalue=("", None))
        for (outline, old), (new_outline, new) in pairs:
            if outline != new_outline:
                node = new or old
                self._refuse(node, f"{title_of(node)} has moved, or is there twice")
                return
            self._pair(self._old.compile(old), self._new.compile(new))

    def _add(self, node: ast.stmt, before: ast.stmt | None) -> None:
        """Add a new statement to those that are to run, or refuse it.

        Args:
            node: the statement.
            before: a statement that has bound the same name, and is no more, or None if there is none.

        """
        name = name_bound(node)
        place = node
        is_known = any(name in each for each in self.namespaces.values())
        if before is None and name and not is_known:
            if isinstance(node, ast.AnnAssign):
                # Its annotation would take the place of all others of the module.
                node = ast.copy_location(
                    ast.Assign([node.target], node.value or node.target), node
                )
            self.additions.append((node, name, self._new.compile(node)))
            return
        again = "does more than bind a new name"
        if name:
            again = f"binds {name!r} again"
        problem = "has changed" if before else again
        was: Any = before
        if isinstance(node, ast.ClassDef) and isinstance(before, ast.ClassDef):
            known = {*map(_outline, before.body)}
            for member in node.body:
                if _outline(member) not in known:
                    place = member
                    names = {_member_name(each): each for each in before.body}
                    was = names.get(_member_name(member))
                    if was is None:
                        problem = "is new in its class"
                    break
        if was is not None and _dumps(_decorators(place)) != _dumps(_decorators(was)):
            problem = "has other decorators"
        self._refuse(
            place, f"{title_of(place)} {problem}, and what has run does not run again"
        )

    def _pair(self, old: CodeType, new: CodeType, reason: str = "") -> None:
        """Pair the codes in an old code with the codes in a new code, at any depth, unless there is a reason not to.

        They are constants, in the order of the text: https://docs.python.org/3/reference/datamodel.html#codeobject.co_consts.
        """
        olds = _codes_in(old)
        news = _codes_in(new)
        # Equal lambdas on a line share a constant on some versions: merge_const_one() in
        # https://github.com/python/cpython/blob/v3.12.1/Python/compile.c.
        if [code.co_name for code in olds] != [code.co_name for code in news]:
            reason = reason or AMBIGUOUS
        if reason:
            news = olds
        for code, successor in zip(olds, news, strict=True):
            # There are none for classes and comprehensions, which belong to the scope around them.
            before = self._old.scopes[code.co_name, code.co_firstlineno]
            after = self._new.scopes[successor.co_name, successor.co_firstlineno]
            is_mended = _dumps(before) != _dumps(after)
            problem = reason
            if not reason:
                if is_mended and len(before) > 1:
                    problem = AMBIGUOUS
                elif code.co_freevars != successor.co_freevars:
                    # A function keeps the cells of its free variables, in the order of their names in its code:
                    # https://docs.python.org/3/reference/datamodel.html#codeobject.co_freevars.
                    problem = OTHER_VARIABLES
                elif (code.co_flags ^ successor.co_flags) & GENERATOR_FLAGS:
                    problem = OTHER_KIND
            attributes: dict[str, Any] = {"__code__": successor}
            if is_mended:
                self.mended[successor] = code
                if not problem:
                    attributes |= self._new_defaults(before[0], after[0])
            self.successors[code] = problem or attributes
            inner_reason = reason
            if [*map(_inner_outline, before)] != [*map(_inner_outline, after)]:
                inner_reason = reason or OF_CHANGED_FUNCTION
            self._pair(code, successor, inner_reason)

    def _new_defaults(self, old: Any, new: Any) -> dict[str, Any]:
        """Return the attributes of a function for its defaults, if they have changed."""
        if _defaults(old.args, ast.dump) == _defaults(new.args, ast.dump):
            return {}
        try:
            return _defaults(new.args, ast.literal_eval)
        except ValueError:
            changed = f"the defaults of {new.name}() have changed"
            self._refuse(new, f"{changed}, and not all of them are literals")
            return {}


# ---- nodes


def _decorators(node: Any) -> list[ast.expr]:
    return getattr(node, "decorator_list", [])


def _dumps(nodes: list[Any]) -> list[str]:
    return [*map(ast.dump, nodes)]


def _codes_in(code: CodeType) -> list[CodeType]:
    return [each for each in code.co_consts if isinstance(each, CodeType)]


def _member_name(node: Any) -> str:
    """Return the name that a statement in a class binds, or declares, as a field does."""
    return name_bound(node) or ast.unparse(getattr(node, "target", node))


def _outline(node: object, is_in_function: bool = False) -> str:
    """Return the part of a node that runs in the scope around it, as text without lines.

    Decorators know the parameters of a function, except its defaults. These can be taken, unless it is in a function.

    Args:
        node: a node, or the value of a field of a node.
        is_in_function: whether the scope is a function.

    """
    if isinstance(node, list):
        nodes = itertools.filterfalse(_is_docstring, node)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
        parts = [_outline(cast(Any, each), is_in_function) for each in nodes]  # pyright: ignore[reportUnknownVariableType]
        return f"[{', '.join(parts)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = node._fields
    if isinstance(node, SCOPES):
        is_in_function |= isinstance(node, ast.Lambda)
        has_parameters = is_in_function or _decorators(node)
        fields = ("name", "type_params", "decorator_list", "args")[
            : 4 if has_parameters else 2
        ]
    elif isinstance(node, ast.arguments) and not is_in_function:
        fields = ("posonlyargs", "args", "vararg", "kwonlyargs", "kwarg")
    parts = [_outline(getattr(node, field, None), is_in_function) for field in fields]
    return f"{type(node).__name__}({', '.join(parts)})"


def _inner_outline(function: Any) -> str:
    return ast.dump(function.args) + _outline(function.body, is_in_function=True)


def _is_docstring(node: object) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _parts(node: ast.stmt) -> list[Any]:
    """Return a statement, or an import for each name of an import."""
    kind: Any = type(node)
    names = getattr(node, "names", [])
    return [kind(**{**vars(node), "names": [name]}) for name in names] or [node]


def _nodes_in(
    node: ast.AST, kinds: type[ast.AST] | tuple[type[ast.AST], ...]
) -> Iterator[Any]:
    """Yield the nodes of some types in a node, except nodes in functions."""
    if isinstance(node, kinds):
        yield node
    elif not isinstance(node, SCOPES):
        for child in ast.iter_child_nodes(node):
            yield from _nodes_in(child, kinds)


def _defaults(args: ast.arguments, read: Callable[[ast.expr], Any]) -> dict[str, Any]:
    """Return the attributes of a function for its defaults."""
    of_keywords = dict[str, Any]()
    for each, node in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        if node is not None:
            of_keywords[each.arg] = read(node)
    return {
        "__defaults__": tuple(map(read, args.defaults)),
        "__kwdefaults__": of_keywords,
    }


def name_bound(node: object) -> str:
    """Return the name that a node binds, if it does nothing else, otherwise "". Imports have a single name here."""
    match node:
        case ast.alias():
            return (node.asname or node.name.partition(".")[0]).strip("*")
        case (
            ast.Import(names=[part])
            | ast.ImportFrom(names=[part])
            | ast.Assign(targets=[part])
            | ast.AnnAssign(target=part, value=ast.expr())
        ):
            return name_bound(part)
        case ast.Name(ctx=ast.Store(), id=name) | ast.ClassDef(name=name):
            return name
        case _:
            return node.name if isinstance(node, FUNCTIONS) else ""


def title_of(node: Any) -> str:
    """Return the first line of a node, without its decorators."""
    lines = ast.unparse(node).splitlines()
    first = next(line for line in lines if line[0] != "@")
    return short_repr(first.removesuffix(":"))
