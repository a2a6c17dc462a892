from work import AT_ONCE, GROUPS, RETRIES, fetch, join, members

from trioflow import Job, Scheduler

scheduler = Scheduler(jobs_window=AT_ONCE)
for group in range(GROUPS):
    fetched = [
        Job(fetch, number, retry=RETRIES, label=f"fetch-{number}")
        for number in members(group)
    ]
    scheduler.add(Job(join, *fetched, label=f"join-{group}"))
scheduler.run(journal="journal.db", backend="asyncio")
