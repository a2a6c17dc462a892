"""A scheduler as text, and the parts that all text views share."""
