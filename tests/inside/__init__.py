"""The test suites of trio and anyio, with each async test as the body of a job, to prove that jobs are
as good as tasks."""
