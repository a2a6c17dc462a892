"""A trace as an HTML page."""
