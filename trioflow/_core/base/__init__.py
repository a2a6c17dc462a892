"""Helpers without knowledge of jobs: graph algorithms, states, amounts, text forms, and the logger."""
