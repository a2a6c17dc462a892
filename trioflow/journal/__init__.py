"""What has settled, kept on disk, so that a later run with the same journal goes on from there."""
