"""What a run does, to look at while it does it."""
