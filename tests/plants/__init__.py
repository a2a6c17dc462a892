"""Faults planted into the package, and who notices each: the model, the tests of its room, or nobody."""
