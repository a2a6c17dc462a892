"""What is said about runs: explanations, reports, log lines, and what views ask. It only reads; no run needs it."""
