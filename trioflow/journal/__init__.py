"""Results of successful jobs, stored on disk. A later run with the same journal continues from there."""
