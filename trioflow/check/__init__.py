"""Checks of a scenario for errors and suspicious settings."""
