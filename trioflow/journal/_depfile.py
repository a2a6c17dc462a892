r"""What a compiler has read, by the file in which it says so: the rules that `gcc -MMD` writes for make.

```
main.o: main.c \
  a\ name\ with\ spaces.h table.h
table.h:
```

What stands before a colon is made, and what stands behind it is read. Before a space, a backslash belongs to the name
that goes on there; two are one backslash, at the end of a name. `\#`, `\:` and `$$` are `#`, `:` and `$`. A line that
begins with `#` says nothing (rustc writes some).
"""

from __future__ import annotations

import re
from typing import Final

from ._values import Unstorable

WORD: Final = re.compile(r"(?:[^\s\\]|\\+(?![\\ \t])|(?<!\\)(?:\\\\)*\\[ \t]|(?<!\\)(?:\\\\)+(?=[ \t]))+")
ESCAPED: Final = re.compile(r"(\\+)([ \t]|$)|\\([#:])|\$(\$)")
COLON: Final = re.compile(r":(?=[ \t]|$)")


def names(text: str) -> list[str]:
    """Return the names of the files that are read, each once, in their order.

    Raises:
        Unstorable: there is no rule in the text, or something that is not one.

    """
    found: dict[str, None] = {}
    rules = [line for line in re.sub(r"\\\r?\n", " ", text).splitlines() if line.strip() and line[0] != "#"]
    for rule in rules:
        colon = _first_colon(rule)
        if colon is None:
            raise Unstorable(f"which has no rule of make: {rule[:60]!r}")
        found.update((_plain(word), None) for word in WORD.findall(rule, colon + 1))
    if not rules:
        raise Unstorable("which is empty")
    return list(found)


def _first_colon(rule: str) -> int | None:
    """Return where the names end of what a rule makes."""
    return next(
        (found.start() for found in COLON.finditer(rule) if rule[found.start() - 1 : found.start()] != "\\"), None
    )


def _plain(word: str) -> str:
    """Return a name without what make needs to read it."""
    return ESCAPED.sub(lambda one: _half(one[1]) + one[2] if one[1] else one[3] or one[4], word)


def _half(backslashes: str) -> str:
    return backslashes[: len(backslashes) // 2]
