"""What trioflow costs, beside what its users would have written by hand.

    python -m benchmarks --quick      the figures to reach, in under two minutes
    python -m benchmarks              everything: tables, JSON and plots in benchmarks/results/
    python -m benchmarks --help       choose cases, shapes, bodies, sizes, windows, rivals, backends

How it is put together:

    options ──► plans ──► cases ──► measuring ──► figures ──► report, plots
                            │           └─ contests: rounds in which every contestant has its turn
                            ├─ graphs    what depends on what
                            ├─ bodies    what each job does, the same for all
                            └─ rivals    how it is run: one small function each, verified before it is timed

What is fair:

- Rivals and trioflow take turns in one process, so that a busy machine is busy for all of them; the best of several
  rounds counts, because whatever disturbs a measurement makes it longer. What is compared is CPU time where it is not
  said otherwise; wall time is kept beside it.
- The garbage collector is on, and has just collected when a measurement begins.
- Rivals compute what they need of the graph while they are being built, so "run only" is at its best for them. They
  keep no results, states or times, which trioflow does.
"""
