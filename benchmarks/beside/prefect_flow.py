from prefect import flow, task
from prefect.cache_policies import INPUTS
from prefect.futures import wait
from prefect.task_runners import ThreadPoolTaskRunner
from work import AT_ONCE, GROUPS, RETRIES, blocking_fetch, blocking_join, members


@task(
    retries=RETRIES,
    cache_policy=INPUTS,
    persist_result=True,
    task_run_name="fetch-{number}",
)
def fetch(number):
    return blocking_fetch(number)


@task(cache_policy=INPUTS, persist_result=True)
def join(numbers):
    return blocking_join(*numbers)


@flow(task_runner=ThreadPoolTaskRunner(max_workers=AT_ONCE))
def groups():
    joined = []
    for group in range(GROUPS):
        fetched = [fetch.submit(number) for number in members(group)]
        joined.append(join.submit(fetched))
    wait(joined)


if __name__ == "__main__":
    groups()
