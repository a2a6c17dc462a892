"""Resources of commands: sizes of memory, the needs of each command (`--needs`), and the pool of all (`--pool`).

A batch polls the free memory of this machine, because the system does not report changes.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from .. import Pool
from .._core.base._amounts import amount_of, amount_text, is_size
from .._core.base._text_forms import size_text
from ..jobs.posix._cpus import count_usable_cpus

if TYPE_CHECKING:
    from ..abc import Amount

MEMINFO_PATH: Final = "/proc/meminfo"
RESOURCE_NAME_PATTERN: Final = re.compile(r"[^\W\d]\w*", re.ASCII)
DECIMAL_SIZE_PATTERN: Final = re.compile(r"([\d.]+)([kmgtp])")


# ---- memory

StartCondition = Callable[[], str | None]
"""Describes the condition that does not hold, with the current value. Returns None if a command may start."""


def parse_size(text: str) -> int:
    """Parse a size, and return it in bytes.

    Args:
        text: a size as for `Pool`, such as `2G`. As in GNU parallel, units in lower case are powers of 1000, as in
            `2g`.

    Raises:
        ValueError: the text is not a size.

    Example:
        >>> parse_size("2G"), parse_size("2g"), parse_size("500 MB")
        (2147483648, 2000000000, 500000000)

    """
    normalized = text
    decimal = DECIMAL_SIZE_PATTERN.fullmatch(text)
    if decimal is not None:
        normalized = f"{decimal[1]}{decimal[2].upper()}B".replace("KB", "kB")
    return int(amount_of(normalized, repr(text)))


def parse_memory_limit(text: str) -> int:
    size = parse_size(text)
    if not 0 < size < 2**63:
        raise ValueError(f"{text!r}: give a positive size, such as 2G")
    return size


def parse_memfree(text: str) -> StartCondition:
    """Parse the value of `--memfree`, a size as for `parse_size`.

    Raises:
        ValueError: the text is not a size.
        ValueError: the size exceeds this machine's memory.
        ValueError: the system does not report its free memory.

    """
    minimum = parse_size(text)
    total = _read_meminfo("MemTotal")
    if total is None or _read_meminfo("MemAvailable") is None:
        raise ValueError(
            f"this system does not report its free memory: there is no MemAvailable in {MEMINFO_PATH}"
        )
    if minimum > total:
        raise ValueError(
            f"{text} will never be free: this machine has {size_text(total)}"
        )

    def describe_wait() -> str | None:
        free = _read_meminfo("MemAvailable")
        if free is None or free >= minimum:
            return None
        return f"{size_text(minimum)} of memory are free (--memfree); {size_text(free)} is free now"

    return describe_wait


def _read_meminfo(name: str) -> int | None:
    """Return a value of /proc/meminfo in bytes, or None if the file or the line is missing."""
    try:
        with open(MEMINFO_PATH, encoding="ascii") as file:
            match = re.search(rf"^{name}: *(\d+) kB$", file.read(), re.MULTILINE)
    except OSError:
        return None
    if match is None:
        return None
    return 1024 * int(match[1])


# ---- needs and pool


def parse_needs(text: str) -> dict[str, Amount]:
    """Parse the value of `--needs`: names of resources and the amounts that each command needs.

    Raises:
        ValueError: the text does not have the form `gpu=1,mem=4G`.

    Example:
        >>> parse_needs("gpu=1,mem=4G")
        {'gpu': 1, 'mem': 4294967296}

    """
    amounts: dict[str, Amount] = {}
    for part in text.split(","):
        name, equals, amount = part.partition("=")
        if not (RESOURCE_NAME_PATTERN.fullmatch(name) and equals) or name in amounts:
            raise ValueError(
                f"{text!r}: write each name once, with an amount, as in gpu=1,mem=4G"
            )
        amounts[name] = amount_of(amount, f"{name}={amount}")
        if not amounts[name]:
            raise ValueError(f"{part}: give more than 0, or leave it out")
    return amounts


def parse_pool(text: str) -> dict[str, Any]:
    """Parse the value of `--pool`, and return the arguments of `Pool`.

    Args:
        text: the name of each resource with an amount or with a list of names. A list with a single name ends with a
            comma.

    Raises:
        ValueError: the text does not have the form `gpu=0,1,mem=24G`.

    Example:
        >>> parse_pool("gpu=0,1,mem=24G,port=8080,")
        {'gpu': ['0', '1'], 'mem': '24G', 'port': ['8080']}

    """
    resources: dict[str, list[str]] = {}
    name = ""
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if equals:
            name = key
            if not RESOURCE_NAME_PATTERN.fullmatch(name) or name in resources:
                raise ValueError(
                    f"{text!r}: write each name once, with its total, as in gpu=0,1,mem=24G"
                )
        elif not name:
            raise ValueError(
                f"{text!r}: write NAME=AMOUNT, or NAME=UNIT,UNIT, as in gpu=0,1,mem=24G"
            )
        resources.setdefault(name, []).append(value if equals else part)
    arguments: dict[str, Any] = {}
    for name, values in resources.items():
        arguments[name] = values[0]
        if len(values) > 1:
            arguments[name] = [value for value in values if value]
    # Raises for invalid amounts.
    Pool(**arguments)
    return arguments


def detect_resource(name: str) -> Any:
    """Return the total amount of a resource on this machine, or None if it is unknown.

    For `gpu`, return the list in the variable `CUDA_VISIBLE_DEVICES`. If this variable is not set, return the numbers
    of the NVIDIA devices.
    """
    if name == "cpu":
        return count_usable_cpus()
    if name == "mem":
        return _read_meminfo("MemTotal")
    if name != "gpu":
        return None
    if (visible_devices := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        # Like CUDA, ignore an invalid entry and all entries after it.
        cards = itertools.takewhile(
            lambda card: not card.startswith("-"), visible_devices.split(",")
        )
        return [card for card in cards if card]
    # Imported late: few batches need it.
    import glob

    devices = glob.glob("/dev/nvidia[0-9]*")
    numbers = [device.removeprefix("/dev/nvidia") for device in devices]
    return sorted(numbers, key=int) or None


def make_pool(
    needs: Mapping[str, Amount], user_totals: Mapping[str, Any]
) -> tuple[Pool | None, int | None]:
    """Create the pool of the needed resources, and compute the number of commands it can serve at the same time.

    Args:
        needs: the resources that each command needs, with their amounts.
        user_totals: the total amounts that the user gave. The totals of other resources are detected on this machine.

    Returns:
        The pool and the number of commands, or None for both if commands need no resources.

    Raises:
        ValueError: a single command needs more than the total amount of a resource.
        ValueError: the total amount of a resource is unknown.

    """
    if not needs:
        return None, None
    resources: dict[str, Any] = {}
    command_counts: list[int] = []
    for name, amount in needs.items():
        available: Any = user_totals.get(name)
        if name not in user_totals:
            available = detect_resource(name)
        format_amount = amount_text
        if name == "mem" or is_size(available):
            format_amount = size_text
        option = f"--needs {name}={format_amount(amount)}"
        if available is None:
            raise ValueError(
                f"{option}: the total amount is unknown; give it with --pool {name}=..."
            )
        resources[name] = available
        if isinstance(available, list):
            if not isinstance(amount, int):
                raise ValueError(
                    f"{option}: the units of {name} have names; give a whole number"
                )
            total: Amount = len(available)  # pyright: ignore[reportUnknownArgumentType]
        else:
            total = amount_of(available, name)
        command_counts.append(math.floor(total / amount))
        if not total and isinstance(available, str) and format_amount is amount_text:
            unit = f"{name}={available}"
            raise ValueError(
                f"{option}: {unit} is an amount of 0; for one unit named {available}, write {unit},"
            )
        if not command_counts[-1]:
            raise ValueError(
                f"{option}: the total is {format_amount(total)}; give less, or give the total with --pool {name}=..."
            )
    return Pool(**resources), min(command_counts)
