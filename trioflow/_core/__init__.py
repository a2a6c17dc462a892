"""The engine: no terminal, no drawing, no processes, no environment, no print.

Outside of it, only its door (`_core.door`) may be imported.
"""
