"""Each pattern of the package takes time in proportion to a text, whoever has written the text."""

import ast
import importlib
import itertools
import pkgutil
import re
import time
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final
import pytest
import trioflow
from trioflow.jobs.command import _shell_places
from trioflow.view.text._selection import glob_pattern

HOSTILE: Final = (
    " ", "\n", "\t", "a", "1", "0.", "1:", "-", "+", "=", ":", ",", ".", "/", "#", "%", "@", "_", "'", '"', "\\", "`",
    "\0", "\5", "\0\5",
    "\x1b[", "\x1b]", "[", "]", "{", "{=", "(", "$((", "<", "a.", "a1", "a ", "1m0s\n", "ab: ", "é", "\udc80",
)  # fmt: skip
"""What a hostile text repeats, besides the words of a pattern itself."""
STARTS: Final = ("", "-", "1")
"""What a hostile text begins with, besides the words of a pattern: a sign lets the digits of a formula follow."""
SIZES: Final = (250, 1000)
"""Characters of a text."""
SLOW: Final = 2.5e-7
"""Seconds for a character above which two sizes are compared: a pattern that takes quadratic time takes more."""
MAX_RATIO: Final = 9.0
"""Four times the text may take nine times as long: four if the time is linear, sixteen if it is quadratic."""
WHOLE: Final = {"match", "fullmatch"}
SEARCHES: Final = {"search", "sub", "subn", "split", "findall", "finditer"}


CALL: Final = re.compile(rf"(\w+)\.({'|'.join(sorted(WHOLE | SEARCHES))})\b")
"""A call of a pattern's method, or of the function of `re`."""


def patterns() -> Iterator[tuple[str, re.Pattern[Any], set[str]]]:
    """Yield each pattern of the package with its name and what is done with it. These are the patterns in the variables
    of modules, and those that a call of `re` has as a literal."""
    modules = [
        importlib.import_module(info.name)
        for info in pkgutil.walk_packages(trioflow.__path__, "trioflow.")
        if not info.name.endswith("__main__")
    ]
    uses: defaultdict[str, set[str]] = defaultdict(set)
    for module in modules:
        text = Path(str(module.__file__)).read_text("utf-8")
        called = set(CALL.findall(text))
        for name, method in called:
            uses[name].add(method)
        for node in ast.walk(ast.parse(text)) if "re" in dict(called) else ():
            match node:
                case ast.Call(
                    ast.Attribute(ast.Name("re"), method), [ast.Constant(literal), *_]
                ) if method in WHOLE | SEARCHES:
                    yield (
                        f"{module.__name__}:{node.lineno}",
                        re.compile(literal, re.MULTILINE),
                        {method},
                    )
    for names, _, refused, _ in _shell_places._REFUSED:
        yield f"what {names} refuses", re.compile(refused, re.DOTALL), {"search"}
    seen: set[re.Pattern[Any]] = set()
    for module in modules:
        for name, value in vars(module).items():
            for pattern in value.values() if isinstance(value, dict) else (value,):
                if isinstance(pattern, re.Pattern) and pattern not in seen:
                    seen.add(pattern)
                    searches = uses[name] & (WHOLE | SEARCHES)
                    yield (
                        f"{module.__name__}.{name}",
                        pattern,
                        searches or {"fullmatch"},
                    )  # of a dict, or one that is combined


def is_linear(pattern: re.Pattern[Any], methods: Collection[str]) -> bool:
    source = (
        pattern.pattern
        if isinstance(pattern.pattern, str)
        else pattern.pattern.decode("latin-1")
    )
    words = [word for word in re.findall(r"[^\W_][\w -]+", source) if len(word) < 40]
    texts = itertools.product((*STARTS, *words), (*HOSTILE, *words), ("", "\0!"))
    return not any(grows_faster(pattern, methods, *text) for text in texts)


def grows_faster(
    pattern: re.Pattern[Any], methods: Collection[str], start: str, piece: str, end: str
) -> bool:
    def seconds(size: int, times: int = 1) -> float:
        text: Any = start + piece * (size // len(piece)) + end
        if isinstance(pattern.pattern, bytes):
            text = text.encode(errors="surrogateescape")
        measured: list[float] = []
        for _ in range(times):
            began = time.thread_time()
            pattern.fullmatch(text) if methods <= WHOLE else pattern.sub(
                lambda match: match[0], text
            )
            measured.append(time.thread_time() - began)
        return min(measured)

    for size in SIZES:
        is_slow = seconds(size) > size * SLOW
        if is_slow and all(
            seconds(4 * size, times) > MAX_RATIO * seconds(size, times)
            for times in (1, 3, 9)
        ):
            return True  # otherwise the first time was one of a busy machine, or the text is too short to show it
    return False


@pytest.mark.ci
def test_each_pattern_takes_linear_time() -> None:
    """A label of 8 KB once took 1.4 s in a table, and 160,000 newlines took 44 s on their way to a log."""
    found = [
        (name, pattern.pattern)
        for name, pattern, methods in patterns()
        if not is_linear(pattern, methods)
    ]
    assert found == []


def test_a_glob_takes_linear_time() -> None:
    """The pattern `*a*b*c` once took cubic time in a path."""
    for glob in ("*a*b*c", "a*a*a*b", "*?*?*", "**a**", "*" * 30 + "c"):
        assert is_linear(glob_pattern(glob), WHOLE), glob


QUICKLY_FOUND: Final = (
    (re.compile(r"^\s*::|##\[", re.MULTILINE), SEARCHES),
    (re.compile(".*a.*b.*c", re.DOTALL), WHOLE),
)
FOUND_LATE: Final = (
    (re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?"), WHOLE),
    (re.compile(r"\A(?=[=+-])(?![+-]?(?:\d+\.?\d*|\.\d+)\s*\Z)"), SEARCHES),
)


@pytest.mark.parametrize(
    "quadratic",
    [QUICKLY_FOUND, pytest.param(FOUND_LATE, marks=pytest.mark.ci)],
    ids=["quickly", "late"],
)
def test_a_pattern_that_takes_quadratic_time_is_found(
    quadratic: tuple[tuple[re.Pattern[str], set[str]], ...],
) -> None:
    """The measurement finds the patterns that were once in the package."""
    assert [
        pattern.pattern for pattern, methods in quadratic if is_linear(pattern, methods)
    ] == []
