"""How a run went, for systems of continuous integration."""
