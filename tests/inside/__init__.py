"""The test suites of trio and anyio, with each async test as the body of a job: a job is as good as a task."""
