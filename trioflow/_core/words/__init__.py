"""What is said about runs: explanations, reports and log lines. It only reads, and no run needs it to go on."""
