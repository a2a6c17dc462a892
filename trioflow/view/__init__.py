"""The views: a scheduler, or the events of its run, as text, pictures, pages and files."""
