"""The scheduler: a set of jobs that can be run."""
