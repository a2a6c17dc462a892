from contextlib import suppress

from asynciojobs import Job, Scheduler
from work import AT_ONCE, GROUPS, RETRIES, fetch, join, members


async def fetch_patiently(number):
    for _ in range(RETRIES):
        with suppress(ConnectionError):
            return await fetch(number)
    return await fetch(number)


async def join_jobs(jobs):
    return await join(*[job.result() for job in jobs])


scheduler = Scheduler(jobs_window=AT_ONCE)
for group in range(GROUPS):
    fetched = [
        Job(
            fetch_patiently(number),
            label=f"fetch-{number}",
            critical=False,
            scheduler=scheduler,
        )
        for number in members(group)
    ]
    Job(
        join_jobs(fetched),
        label=f"join-{group}",
        required=fetched,
        critical=False,
        scheduler=scheduler,
    )
scheduler.run()
scheduler.debrief()
