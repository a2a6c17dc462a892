"""The contract, executable: one model of all mechanisms, and random scenarios in which pairs of them meet.

`scenario` is the data, `generator` draws it, `model` predicts (`clock`, `jobs`, `limits`, `schedulers`, `looks`),
`real` runs it, `compare` finds differences, `shrink` makes a scenario small, `pairs` counts which mechanisms took
effect in one run.
``python -m tests.model --count 1000 --seed 7 --table`` is a soak; with `TRIOFLOW_ISOLATION=direct` on the direct
isolation.

Where two causes meet in one instant, the model has doubts, and the outcome is not compared."""
