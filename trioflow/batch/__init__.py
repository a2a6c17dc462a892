"""Many commands made of one line and its arguments, and run: what is behind `trioflow batch`."""
