"""Programs in processes of their own, as jobs."""
