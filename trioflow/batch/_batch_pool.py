"""Resources for commands: their needs (`--needs`), and the pool (`--pool`, or what this machine has)."""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from .. import Pool
from ..abc import amount_of, is_size, shown_amount, size_text
from ..jobs.process._call_places import usable_cpus
from ._start_conditions import total_memory

if TYPE_CHECKING:
    from ..abc import Amount

NAME: Final = re.compile(r"[^\W\d]\w*", re.ASCII)


def parse_needs(text: str) -> dict[str, Amount]:
    """Parse the needs of each command.

    Args:
        text: names and amounts, as in `gpu=1,mem=4G`.

    Raises:
        ValueError: the text has another form.

    Example:
        >>> parse_needs("gpu=1,mem=4G")
        {'gpu': 1, 'mem': 4294967296}

    """
    amounts: dict[str, Amount] = {}
    for part in text.split(","):
        name, equals, amount = part.partition("=")
        if not (NAME.fullmatch(name) and equals) or name in amounts:
            raise ValueError(f"{text!r}: write each name once, with an amount, as in gpu=1,mem=4G")
        amounts[name] = amount_of(amount, f"{name}={amount}")
        if not amounts[name]:
            raise ValueError(f"{part}: give more than 0, or leave it out")
    return amounts


def parse_pool(text: str) -> dict[str, Any]:
    """Parse the resources in total, in the form that `Pool` takes.

    Args:
        text: names with an amount or a list of things, as in `gpu=0,1,mem=24G`. A list of one thing ends with a comma.

    Raises:
        ValueError: the text has another form.

    Example:
        >>> parse_pool("gpu=0,1,mem=24G,port=8080,")
        {'gpu': ['0', '1'], 'mem': '24G', 'port': ['8080']}

    """
    resources: dict[str, list[str]] = {}
    name = ""
    for part in text.split(","):
        before, equals, value = part.partition("=")
        if equals:
            name = before
            if not NAME.fullmatch(name) or name in resources:
                raise ValueError(f"{text!r}: write each name once, with what there is of it, as in gpu=0,1,mem=24G")
        elif not name:
            raise ValueError(f"{text!r}: write NAME=AMOUNT, or NAME=THING,THING, as in gpu=0,1,mem=24G")
        resources.setdefault(name, []).append(value if equals else part)
    there_is: dict[str, Any] = {
        name: values[0] if len(values) == 1 else [value for value in values if value]
        for name, values in resources.items()
    }
    Pool(**there_is)  # checks amounts and things
    return there_is


def machine_amount(name: str) -> Any:
    """Return this machine's amount of a resource that the user has not set; None if unknown.

    For `gpu` it is the list in `CUDA_VISIBLE_DEVICES`, or the numbers of NVIDIA's devices.
    """
    match name:
        case "cpu":
            return usable_cpus()
        case "mem":
            return total_memory()
        case "gpu":
            named = os.environ.get("CUDA_VISIBLE_DEVICES")
            if named is not None:
                cards = itertools.takewhile(
                    lambda card: not card.startswith("-"), named.split(",")
                )  # CUDA, too, ignores what follows an invalid entry
                return [card for card in cards if card]
            import glob  # imported late: few batches need it

            numbers = (path.removeprefix("/dev/nvidia") for path in glob.glob("/dev/nvidia[0-9]*"))
            return sorted(numbers, key=int) or None
        case _:
            return None


def make_pool(needs: Mapping[str, Amount], explicit: Mapping[str, Any]) -> tuple[Pool | None, int | None]:
    """Return a pool of all needed resources, and how many commands it serves at a time; None if they need nothing.

    Args:
        needs: the needs of each command.
        explicit: the user's amounts.

    Raises:
        ValueError: there is not enough for a single command, or an amount is unknown.

    """
    if not needs:
        return None, None
    resources: dict[str, Any] = {}
    commands: list[int] = []
    for name, amount in needs.items():
        there_is = explicit[name] if name in explicit else machine_amount(name)
        shown = size_text if name == "mem" or is_size(there_is) else shown_amount
        option = f"--needs {name}={shown(amount)}"
        if there_is is None:
            raise ValueError(f"{option}: the total amount is unknown; give it with --pool {name}=...")
        if isinstance(there_is, list) and not isinstance(amount, int):
            raise ValueError(f"{option}: these are things; give a whole number")
        resources[name] = there_is
        total = len(there_is) if isinstance(there_is, list) else amount_of(there_is, name)  # pyright: ignore[reportUnknownArgumentType]
        commands.append(math.floor(total / amount))
        if not commands[-1]:
            raise ValueError(
                f"{option}: the total is {shown(total)}; give less, or give the total with --pool {name}=..."
            )
    return Pool(**resources), min(commands)
