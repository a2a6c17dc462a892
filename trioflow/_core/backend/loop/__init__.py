"""Adapters for the event loops of trio and asyncio. They use only the public APIs of trio, asyncio and anyio."""
