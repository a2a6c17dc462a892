"""The sharing of tasks by jobs: fast isolation, with private parts of trio and anyio, and plain isolation, without."""
