"""The work of the scenario: each job records its start and its end in a file, and some fail."""

import asyncio
import os
import sys
import time
from pathlib import Path

GROUPS, SIZE, AT_ONCE, RETRIES = 40, 4, 16, 2
NAP = float(os.environ.get("NAP", "0.05"))
HOPELESS = {
    int(number) for number in os.environ.get("HOPELESS", "").split()
}  # these fetches always fail
FLAKY = {
    int(number) for number in os.environ.get("FLAKY", "").split()
}  # these fail once
_log = os.open("log", os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)


def note(event: str, job: str) -> None:
    os.write(_log, f"{event} {job} {time.time()}\n".encode())


def ask(number: int) -> int:
    if number in HOPELESS:
        raise ConnectionError(f"the server of {number} is down")
    if number in FLAKY and not os.path.exists(f"asked-{number}"):
        os.close(os.open(f"asked-{number}", os.O_CREAT))
        raise ConnectionError(f"the server of {number} is busy")
    note("end", f"fetch-{number}")
    return number


async def fetch(number: int) -> int:
    note("start", f"fetch-{number}")
    await asyncio.sleep(NAP)
    return ask(number)


def blocking_fetch(number: int) -> int:
    note("start", f"fetch-{number}")
    time.sleep(NAP)
    return ask(number)


async def join(*numbers: int) -> int:
    return blocking_join(*numbers)


def blocking_join(*numbers: int) -> int:
    note("start", f"join-{min(numbers)}")
    note("end", f"join-{min(numbers)}")
    return sum(numbers)


def members(group: int) -> range:
    return range(SIZE * group, SIZE * group + SIZE)


if __name__ == "__main__":  # as a command, for Snakemake: fetch NUMBER, or join FILES
    name, *words = sys.argv[1:]
    numbers = [
        int(Path(word).read_text() if name == "join" else word) for word in words
    ]
    print((blocking_join if name == "join" else blocking_fetch)(*numbers))
