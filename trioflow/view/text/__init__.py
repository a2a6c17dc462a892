"""A scheduler as text, and what all views share that write text."""
