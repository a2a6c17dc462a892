import asyncio

from sdax import AsyncDagTaskProcessor, AsyncTask, task_func
from work import AT_ONCE, GROUPS, RETRIES, fetch, join, members

slots = asyncio.Semaphore(AT_ONCE)


def fetching(number):
    async def run(results):
        async with slots:
            results[number] = await fetch(number)

    return AsyncTask(
        f"fetch-{number}", pre_execute=task_func(run, retries=RETRIES, initial_delay=0)
    )


def joining(group):
    async def run(results):
        async with slots:
            await join(*[results[number] for number in members(group)])

    return AsyncTask(f"join-{group}", pre_execute=task_func(run))


builder = AsyncDagTaskProcessor.builder()
for group in range(GROUPS):
    for number in members(group):
        builder = builder.add_task(fetching(number), depends_on=())
    builder = builder.add_task(
        joining(group), depends_on=tuple(f"fetch-{number}" for number in members(group))
    )
asyncio.run(builder.build().process_tasks({}))
