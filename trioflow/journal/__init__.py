"""Results of settled jobs, stored on disk, so that a later run with the same journal continues from there."""
