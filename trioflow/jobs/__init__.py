"""Ways to do work other than by awaiting it, each a kind of job."""
