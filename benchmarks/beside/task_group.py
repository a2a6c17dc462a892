import asyncio
import sys

from work import AT_ONCE, GROUPS, RETRIES, fetch, join, members

failures = {}


async def main():
    slots = asyncio.Semaphore(AT_ONCE)

    async def fetch_patiently(number):
        for attempt in range(RETRIES + 1):
            async with slots:
                try:
                    return await fetch(number)
                except ConnectionError as error:
                    if attempt == RETRIES:
                        failures[f"fetch-{number}"] = error
        return None

    async def group_of(group):
        async with asyncio.TaskGroup() as tasks:
            fetches = [
                tasks.create_task(fetch_patiently(number)) for number in members(group)
            ]
        numbers = [task.result() for task in fetches]
        if None not in numbers:
            async with slots:
                await join(*numbers)

    async with asyncio.TaskGroup() as tasks:
        for group in range(GROUPS):
            tasks.create_task(group_of(group))


asyncio.run(main())
for name, error in failures.items():
    print(f"{name}: {error!r}", file=sys.stderr)
