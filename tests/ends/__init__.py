"""The law of ends: each reader is told each end of a job once, in order, as it was, however often it is tried again.

`story` records the ends and the reopenings of each job where the run makes them. `worlds` draws random runs. `doors`
tries again what fails in them. Each of `readers` compares what it was told with the story. `law` runs one seed.

| reader | the law asks |
|---|---|
| instruments, also those of groups | each end and each reopening, with state, attempts, times and outcome |
| `Events` | each end and each reopening; times never go back |
| `on_job_settled` of schedulers | the ends of its members, in the run's order, with all facts |
| `on_settled` and `on_succeeded` of a job | the ends, and the successes, of that job after an attempt, with all facts |
| `as_settled()`, `as_settled(jobs)` | settled jobs alone; an end at most once; the last end of each job |
| `await`, `wait_settled()` | the job is settled; `await` has the result or the failure of its last end |
| log | as many failures as have happened |
| journal | the next run restores what has succeeded last, and runs the rest |
| counts, monitor | the states of all jobs; a line for each end |
| page, `look` and its `Watch`, `explain()` | the states of all jobs, whenever asked; the age of the attempt |
| trace | the last end of each job, its attempts, and how each has ended |
| report, JUnit | the counts of the trace; each failed attempt |
| OpenTelemetry | a span for each end, with its state; the duration metric is the seconds of the attempts, by state |
| `failures()`, `list()`, `debrief()`, learned durations, `job.took` | the last end; the seconds in which the body ran |

The table of a batch, whose commands are processes, is asked by `tests/batch/test_steering.py`."""
