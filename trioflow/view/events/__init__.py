"""What happens in a run, line by line, for other programs; and such lines, followed."""
