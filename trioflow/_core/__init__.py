"""The engine: no terminal, no drawing, no processes, no environment, no print.

Outside of it, only `_core.api` may be imported.
"""
