"""What trioflow costs, compared with what its users would have written by hand.

    python -m benchmarks --quick      the most important figures, in a few minutes
    python -m benchmarks --check      sixteen ratios with their limits, in a minute: what CI does
    python -m benchmarks              everything: tables and JSON in benchmarks/results/
    python -m benchmarks --write      in ten minutes: the tables of the README and of docs/benchmarks.md
    python -m benchmarks --help       choose cases, shapes, bodies, sizes, windows, rivals, backends

How it is put together:

    command line ──► plans ──► cases ──► measuring ──► figures ──► report
                                 │           └─ contests: rounds in which every contestant has its turn
                                 ├─ graphs    which job requires which
                                 ├─ bodies    what each job does, the same for all contestants
                                 └─ rivals    how a graph is run: a small function each, verified before it is timed

Why the comparison is fair:

- Rivals and trioflow take turns in one process, so a busy machine is busy for all of them. The best of several rounds
  counts, because a disturbance can only make a measurement longer. CPU time is compared unless stated otherwise; wall
  time is recorded too.
- The garbage collector is on, and it has just collected when a measurement begins.
- Rivals compute what they need from the graph while they are being built, so "run only" shows them at their best. They
  keep no results, states or times; trioflow does.
"""
