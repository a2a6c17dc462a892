"""The subcommand `trioflow batch`: its options, its progress bar and its run."""
