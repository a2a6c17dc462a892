"""Policies: which of several ready jobs starts first; those that have names, and those of users."""
