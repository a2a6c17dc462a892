"""Helpers that do not depend on jobs: graph algorithms, states, amounts, text forms, and the logger."""
