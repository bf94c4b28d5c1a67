"""An aiohttp application on a free port of this machine."""

import contextlib

from aiohttp import web


@contextlib.asynccontextmanager
async def listening(app):
    """Its base URL."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)  # does not wait for those that hang
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
