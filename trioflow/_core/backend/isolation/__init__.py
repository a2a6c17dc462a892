"""Isolation of jobs: fast, with private attributes of trio and anyio, and plain, with public names only."""
