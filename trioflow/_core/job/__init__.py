"""Jobs: the base class and its kinds, their options, arguments, requirements and outcomes."""
