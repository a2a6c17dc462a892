"""The event loops of trio and asyncio, using only the public APIs of trio, asyncio and anyio."""
