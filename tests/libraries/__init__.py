"""Libraries that people use, in jobs and by hand: what asyncio's own timeouts and groups leave whole, jobs do too."""
