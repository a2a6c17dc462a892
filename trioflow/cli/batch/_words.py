"""The options as people have written them for GNU parallel: other names, beginnings of names, and what is not here."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from typing import Final, NamedTuple

import click

from ._instead import INSTEAD

OTHER_NAMES: Final = {
    "--dryrun": "--dry-run",
    "--eta": "--bar",
    "--halt-on-error": "--halt",
    "--jl": "--joblog",
    "--keeporder": "--keep-order",
    "--lb": "--line-buffer",
    "--linebuffer": "--line-buffer",
    "--max-args": "-N",
    "--max-procs": "--jobs",
    "--max-replace-args": "-N",
    "--progress": "--bar",
    "--res": "--results",
    "--slf": "--sshlogin",
    "--sshloginfile": "--sshlogin",
    "--tag-string": "--tagstring",
    "--xapply": "--link",
    "-n": "-N",
}
"""Other names of options."""
HARMLESS: Final = frozenset(
    [
        "--compress",
        "--controlmaster",
        "--gnu",
        "--group",
        "--no-notice",
        "--plain",
        "--use-cores-instead-of-threads",
        "-M",
        "--will-cite",
        "--use-cpus-instead-of-cores",
        "--use-sockets-instead-of-threads",
    ]
)
"""Flags that ask for what happens anyway, or for nothing that would change results."""


class Known(NamedTuple):
    """The options of the command."""

    takes_value: Mapping[str, bool]  # by each name

    def long_name(self, name: str) -> str:
        """Return the name that is known for one that was written, which may be its beginning."""
        if name in self.takes_value or name in INSTEAD or name in HARMLESS:
            return name
        if name in OTHER_NAMES:
            return OTHER_NAMES[name]
        everything: Collection[str] = {*self.takes_value, *OTHER_NAMES, *HARMLESS, *INSTEAD}
        meant = {OTHER_NAMES.get(one, one) for one in everything if one.startswith(name)}
        return meant.pop() if len(meant) == 1 and len(name) > len("--x") else name


def translated(words: list[str], known: Known) -> list[str]:
    """Return a command line in which the options before the command have the names that are known here.

    Raises:
        click.UsageError: one of them is GNU parallel's own; the message says what to do instead.

    """
    rest = iter(words)
    return [*_options(rest, known), *rest]


def _options(words: Iterator[str], known: Known) -> Iterator[str]:
    for word in words:
        if word.startswith("--") and word != "--":
            written, equals, value = word.partition("=")
            name = known.long_name(written)
            refuse(name, written, value, words)
            if name not in HARMLESS:
                yield f"{name}{equals * name.startswith('--')}{value}"
            waits = known.takes_value.get(name, False) and not equals
        elif word.startswith("-") and word not in ("-", "--"):
            letters, waits = _letters(word, known, words)
            if letters != "-":
                yield letters
        else:
            yield word
            return
        if waits:
            yield from itertools.islice(words, 1)


def _letters(word: str, known: Known, words: Iterator[str]) -> tuple[str, bool]:
    """Return flags of one letter, and the last with its value, as they are known here; and whether a value follows."""
    found = "-"
    for position, letter in enumerate(word[1:], 1):
        name = OTHER_NAMES.get(f"-{letter}", f"-{letter}")
        refuse(name, f"-{letter}", word[position + 1 :], words)
        if name not in HARMLESS:
            found += name[1:]
        if known.takes_value.get(name, False):
            return found + word[position + 1 :], position + 1 == len(word)
    return found, False


def refuse(name: str, written: str, value: str, words: Iterator[str]) -> None:
    """Refuse what only GNU parallel has.

    Args:
        name: the option.
        written: how it was written.
        value: what follows it in the same word.
        words: the words behind it; one is taken for its value if there is no other.

    Raises:
        click.UsageError: it is such an option.

    """
    if name in INSTEAD:
        number = value or next(words, "")
        remedy = INSTEAD[name].replace("NUMBER", number) if number.isdecimal() else INSTEAD[name]
        raise click.UsageError(f"{written} is not supported: {remedy}")
