"""A trace as a picture of bars."""
