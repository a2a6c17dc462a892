"""Isolation of jobs: fast, with private attributes of trio and anyio, and direct, with public names only."""
