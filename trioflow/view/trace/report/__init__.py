"""A trace as an HTML report."""
