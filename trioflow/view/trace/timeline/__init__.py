"""A trace as a timeline."""
