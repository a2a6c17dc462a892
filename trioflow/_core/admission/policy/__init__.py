"""Policies, which order the ready jobs: by name, or defined by users."""
