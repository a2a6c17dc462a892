"""Random edits of modules, each of which is taken while the module lives, and then compared with a module loaded anew.

    python -m tests.view.look.edits --count 1000 --seed 7

A module has units: functions of all kinds, with a function that calls each of them, and that other units may call. The
law: a reload takes all of an edit, or nothing. If it takes it, each call returns what it returns in a module that has
the new text, and each function has the same line; otherwise each call returns what it returned before. An edit that
only changes bodies, lines, literal defaults and new names is taken."""

import argparse
import copy
import functools
import importlib
import os
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any
from trioflow import _loaded_files
from trioflow.view.look._reload import reload

UNITS = 12
EDITS_OF_A_MODULE = 4

# The units: `value`, `inner` and `more` stand in bodies, `made` in what runs as the module is loaded, or as a function
# makes another one, and `free` is an expression of the variables of that function.
TEMPLATES = {
    "plain": """
def f_{n}(p={default}):
    {more}
    return ({value}, p){callee}
def call_{n}(): return f_{n}()
""",
    "keywords": """
def f_{n}(*, p={default}, q=[]) -> list[int]:
    {more}
    return ({value}, p, len(q)){callee}
def call_{n}(): return f_{n}()
""",
    "methods": """
class C_{n}:
    attribute = {made}
    def method(self, p={default}):
        {more}
        return ({value}, p, self.attribute){callee}
    @property
    def read(self): return {inner}
    @staticmethod
    def static(): return {value}
    @classmethod
    def of_class(cls): return cls.attribute, {value}
bound_{n} = C_{n}().method
def call_{n}(): return bound_{n}() + (C_{n}().read, C_{n}.static(), C_{n}.of_class())
""",
    "super": """
class B_{n}:
    def method(self): return ({inner},)
class C_{n}(B_{n}):
    def method(self):
        self.seen_{value} = 1
        return super().method() + ({value},)
object_{n} = C_{n}()
def call_{n}(): return object_{n}.method()
""",
    "decorated": """
@decorator_{which}
def f_{n}(p={default}):
    {more}
    return ({value}, p){callee}
table_{n} = {{"f": f_{n}}}
def call_{n}(): return table_{n}["f"]()
""",
    "closure": """
def make_{n}(a, b):
    z = a + {made}
    def inner():
        def deep(): return {inner}
        return ({value}, {free}, z, deep())
    return inner
closure_{n} = make_{n}(1, 2)
def call_{n}(): return closure_{n}()
""",
    "local": """
def f_{n}():
    y = {made}
    def inner(v={default}): return ({value}, y, v)
    class Local:
        w = {inner}
        def method(self):
            self.x_{value} = 1
            return {value}
    return inner() + (Local.w, Local().method())
def call_{n}(): return f_{n}()
""",
    "local class that lives": """
def make_{n}():
    class Local:
        w = {made}
        def method(self):
            self.x_{value} = 1
            return {value}
    return Local()
local_{n} = make_{n}()
def call_{n}(): return local_{n}.method(), local_{n}.w
""",
    "lambdas": """
one_{n} = lambda p={made}: ({value}, p)
two_{n} = lambda: {inner}
many_{n} = [lambda: {value} for _ in range(2)]
def call_{n}(): return one_{n}() + (two_{n}(), many_{n}[1]())
""",
    "lambdas on one line": """
one_{n}, two_{n} = (lambda: {value}), (lambda: {inner})
def call_{n}(): return one_{n}(), two_{n}()
""",
    "generators": """
def g_{n}():
    yield {value}
    yield {inner}
def call_{n}(): return tuple(g_{n}()) + tuple(i + {value} for i in range(2)) + tuple([i + {inner} for i in range(2)])
""",
    "constant": """
CONSTANT_{n}: int = {made}
def f_{n}(): return (CONSTANT_{n}, {value})
def call_{n}(): return f_{n}()
""",
    "coroutine": """
{prefix}def f_{n}(): return {value}
def call_{n}():
    found = f_{n}()
    if hasattr(found, "send"):
        try:
            found.send(None)
        except StopIteration as error:
            return "async", error.value
    return found
""",
    "bound twice": """
def f_{n}(): return {value}
kept_{n} = f_{n}
def f_{n}(): return {inner}
def call_{n}(): return kept_{n}(), f_{n}()
""",
    "dispatched": """
@functools.singledispatch
def of_{n}(x): return {value}
@of_{n}.register
def _(x: int): return {inner}
@of_{n}.register
def _(x: str): return "s", {value}
def call_{n}(): return of_{n}(None), of_{n}(1), of_{n}("")
""",
}
SINCE = {
    "type parameters": (
        (3, 12),
        """
class G_{n}[T]:
    def method[U: int](self, x: U = {default}) -> U: return (x, {value})
type Alias_{n} = list[int]
def f_{n}[T](x: T): return (x, {inner})
def call_{n}(): return G_{n}().method(), f_{n}({value})
""",
    ),
    "template strings": (
        (3, 14),
        """
def f_{n}(x: C_{n}, y: int = {default}):
    found = t"a {{x + {value}}} b"
    return [part if isinstance(part, str) else part.value for part in found], y
class C_{n}: ...
def call_{n}(): return f_{n}({inner})
""",
    ),
}
TEMPLATES |= {
    name: text for name, (version, text) in SINCE.items() if sys.version_info >= version
}
DECORATOR = """
def decorator_{n}(function):
    z = {made}
    @functools.wraps(function)
    def wrapper(*args):
        return ({value}, z) + function(*args)
    return wrapper
"""
HELPER = """
def helper_{n}(x=None): return {value}
LIST_{n}: list[int] = [helper_{n}()]
first_{n} = lambda: {value}
class Helper_{n}:
    attribute = {value}
"""
EASY = (
    ["value"] * 6
    + ["inner"] * 3
    + ["default"] * 3
    + ["more"] * 3
    + ["lines"] * 3
    + ["helper"] * 2
)
HARD = [
    "callee",
    "made",
    "free",
    "prefix",
    "which",
    "wrapper",
    "import",
    "syntax",
    "order",
]


class Unit:
    """A part of a module, whose text is made from a template and values."""

    def __init__(self, draw: random.Random, number: int) -> None:
        self.kind = draw.choice([*TEMPLATES])
        self.blank_lines = 0
        self.fields: dict[str, Any] = {
            name: draw.randrange(9) for name in ("value", "inner", "default", "made")
        }
        self.fields |= {
            "n": number, "free": "a", "prefix": "", "which": draw.randrange(2), "callee": "", "more": "pass",
        }  # fmt: skip

    @property
    def text(self) -> str:
        return (
            "\n" * self.blank_lines
            + "# a note\n" * (self.blank_lines > 0)
            + TEMPLATES[self.kind].format(**self.fields)
        )


class Module:
    """A text of units that is edited at random."""

    def __init__(self, draw: random.Random) -> None:
        self.units = [Unit(draw, number) for number in range(UNITS)]
        self.decorators = [
            {"n": number, "value": number, "made": number} for number in range(2)
        ]
        self.head = ["from __future__ import annotations"] * (draw.random() < 0.3) + [
            "import functools"
        ]
        self.helpers: list[str] = []

    @property
    def text(self) -> str:
        decorators = [DECORATOR.format(**fields) for fields in self.decorators]
        return "\n".join(
            [
                *self.head,
                *decorators,
                *self.helpers,
                *(unit.text for unit in self.units),
                "",
            ]
        )

    def edit(self, draw: random.Random) -> str:
        unit, what = draw.choice(self.units), draw.choice(EASY + HARD)
        fields = unit.fields
        if what in ("value", "inner", "default", "made"):
            fields[what] = draw.randrange(9)
        elif what == "lines":
            unit.blank_lines = draw.randrange(3)
        elif what == "more":
            fields["more"] = draw.choice(["pass", "x = 3", "if p: p = (p, 'x')"])
        elif what == "free":
            fields["free"] = draw.choice(["a", "b", "(b, a)", "5"])
        elif what == "prefix":
            fields["prefix"] = draw.choice(["", "async "])
        elif what == "which":
            fields["which"] = draw.randrange(2)
        elif what == "callee":
            fields["callee"] = (
                f" + (call_{draw.randrange(fields['n'])}(),)" if fields["n"] else ""
            )
        elif what == "wrapper":
            draw.choice(self.decorators)[draw.choice(["value", "value", "made"])] = (
                draw.randrange(9)
            )
        elif what == "helper":
            number = len(self.helpers)
            self.helpers.insert(
                draw.randrange(number + 1),
                HELPER.format(n=number, value=draw.randrange(9)),
            )
            fields["more"] = (
                f"p = (helper_{number}(), LIST_{number}, Helper_{number}.attribute, first_{number}())"
            )
        elif what == "import":
            self.head.append(
                draw.choice(
                    [
                        "import json",
                        "from math import floor",
                        "import os.path as osp",
                        "import os",
                    ]
                )
            )
        elif what == "syntax":
            fields["value"] = "("
        else:
            draw.shuffle(self.units)
        return what


def results(module: ModuleType) -> list[Any]:
    found: list[Any] = []
    for number in range(UNITS):
        try:
            found.append(vars(module)[f"call_{number}"]())
        except Exception as error:
            found.append(repr(error))
    return found


def lines(module: ModuleType) -> dict[str, int]:
    functions = {
        name: found
        for name, found in vars(module).items()
        if type(found) is FunctionType and name[0] != "_"
    }
    return {
        name: found.__code__.co_firstlineno
        for name, found in functions.items()
        if found.__module__ == module.__name__
    }


def check_edits(seed: int, directory: Path) -> Counter[str]:
    """Edit a module in a directory that is on `sys.path`, and check the law; return how many edits were taken."""
    draw, counts, name = random.Random(seed), Counter[str](), f"edited_{seed}"
    source, path = Module(draw), directory / f"edited_{seed}.py"

    def write(text: str, at: int) -> None:
        path.write_text(text)
        os.utime(path, (at, at))  # as it was before this program has started

    write(source.text, 1)
    module = importlib.import_module(name)
    _loaded_files.loaded.clear()
    _loaded_files.remember()
    for number in range(EDITS_OF_A_MODULE):
        before, old, old_lines = copy.deepcopy(source), results(module), lines(module)
        edits = [source.edit(draw) for _ in range(draw.choice([1, 1, 2, 3]))]
        write(source.text, number + 2)
        story = f"seed {seed}, edit {number + 1} ({', '.join(edits)})"
        problem = ""
        try:
            story += f", {reload()}"
        except RuntimeError as error:
            problem = str(error)
        if problem:
            assert (results(module), lines(module)) == (old, old_lines), (
                f"{story}: changed, though {problem}"
            )
            is_same = before.text == source.text
            assert is_same or {*edits} & {*HARD} or "on its line" in problem, (
                f"{story}: refused, {problem}"
            )
            counts["same" if is_same else "refused"] += 1
            source = before
            write(source.text, number + 2)
            _loaded_files.loaded[str(path)] = _loaded_files.loaded[str(path)]._replace(
                saved_at=0
            )
            continue
        counts["taken"] += 1
        anew = ModuleType(name)
        exec(compile(source.text, "anew", "exec", dont_inherit=True), vars(anew))
        assert results(module) == results(anew), story
        expected, found = lines(anew), lines(module)
        assert {each: found[each] for each in expected} == expected, story
    del sys.modules[name]
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=1000, help="how many edits")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    sys.dont_write_bytecode = True
    with tempfile.TemporaryDirectory() as directory:
        sys.path.insert(0, directory)
        modules = range(
            arguments.seed, arguments.seed + arguments.count // EDITS_OF_A_MODULE
        )
        counts = [check_edits(seed, Path(directory)) for seed in modules]
    print(
        f"Python {sys.version.split()[0]}:",
        dict(functools.reduce(Counter.__add__, counts)),
    )


if __name__ == "__main__":
    main()
