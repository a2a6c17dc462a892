"""The run of a scheduler: workers, starts and outcomes of jobs, and the end."""
