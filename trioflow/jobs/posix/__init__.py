"""Processes and process groups, and the guard that ends processes that have outlived their run."""
