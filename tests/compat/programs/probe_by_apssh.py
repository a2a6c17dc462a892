"""An experiment as users of apssh write it; docs/coming-from/apssh.md has the same with trioflow."""

from argparse import ArgumentParser
from apssh import (
    LocalNode,
    Pull,
    Push,
    Run,
    RunScript,
    SshJob,
    SshNode,
    TimeHostFormatter,
    import_private_key,
)
from asynciojobs import Scheduler, Sequence


def main():
    parser = ArgumentParser()
    parser.add_argument("names", nargs="+")
    parser.add_argument("--user", default="root")
    parser.add_argument("--port", type=int, default=22)
    parser.add_argument("--key")
    options = parser.parse_args()
    keys = [import_private_key(options.key)] if options.key else None
    nodes = [
        SshNode(
            name,
            username=options.user,
            port=options.port,
            keys=keys,
            formatter=TimeHostFormatter(verbose=False),
        )
        for name in options.names
    ]
    scheduler = Scheduler()
    ready = [
        SshJob(
            node,
            commands=[
                Run(f"rm -rf probe-{node.hostname}; mkdir probe-{node.hostname}"),
                Push(localpaths=["traffic.txt"], remotepath=f"probe-{node.hostname}"),
                RunScript("prepare.sh", node.hostname, includes=["functions.sh"]),
            ],
            label=f"prepare {node.hostname}",
            scheduler=scheduler,
        )
        for node in nodes
    ]
    first = nodes[0]
    pid = f"probe-{first.hostname}/receiver.pid"
    receiver = SshJob(
        first,
        command=Run(f"echo $$ > {pid}; exec sleep 60", allowed_exits=["TERM"]),
        label="receiver",
        required=ready,
        scheduler=scheduler,
    )
    measured = [
        SshJob(
            node,
            commands=[
                Run(
                    f"cd probe-{node.hostname}; grep -c lost traffic.txt > losses.txt",
                    allowed_exits=[1],
                ),
                Pull(
                    remotepaths=f"probe-{node.hostname}/losses.txt",
                    localpath=f"results/{node.hostname}.txt",
                ),
            ],
            label=f"measure {node.hostname}",
            required=ready,
            scheduler=scheduler,
        )
        for node in nodes
    ]
    stop = SshJob(
        first,
        command=f"until test -s {pid}; do sleep 0.1; done; kill -TERM $(cat {pid})",
        label="stop the receiver",
        required=measured,
        scheduler=scheduler,
    )
    Sequence(
        SshJob(
            LocalNode(),
            command=Run("cat results/*.txt | sort > summary.txt"),
            label="summary",
        ),
        *[
            SshJob(
                node,
                command=f"rm -r probe-{node.hostname}",
                label=f"clean {node.hostname}",
            )
            for node in nodes
        ],
        required=(stop, receiver),
        scheduler=scheduler,
    )
    print("complete:", scheduler.run())


if __name__ == "__main__":
    main()
