"""Policies, which order the ready jobs: those with names, and those of users."""
