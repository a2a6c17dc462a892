"""A trace as an SVG picture: the timeline of a run."""
