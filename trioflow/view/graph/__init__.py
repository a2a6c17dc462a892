"""A scheduler as a picture of its graph."""
