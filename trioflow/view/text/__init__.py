"""Schedulers as text: the listing, the debrief, and the helpers that all text views share."""
