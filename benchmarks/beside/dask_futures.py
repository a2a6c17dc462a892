from dask.distributed import Client, wait
from work import AT_ONCE, GROUPS, RETRIES, blocking_fetch, blocking_join, members

if __name__ == "__main__":
    with Client(
        n_workers=2, threads_per_worker=AT_ONCE // 2, dashboard_address=":0"
    ) as client:
        joined = []
        for group in range(GROUPS):
            fetched = [
                client.submit(blocking_fetch, number, retries=RETRIES)
                for number in members(group)
            ]
            joined.append(client.submit(blocking_join, *fetched))
        wait(joined)
        for future in joined:
            if future.status == "error":
                print(future.key, repr(future.exception()))
