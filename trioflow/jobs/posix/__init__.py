"""Processes and process groups, and the guard that ends those that have outlived their run."""
