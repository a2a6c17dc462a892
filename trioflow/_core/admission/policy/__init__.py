"""Policies, which choose the order in which ready jobs start: built in, or defined by users."""
