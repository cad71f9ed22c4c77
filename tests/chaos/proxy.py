"""A door before a server: its address stays while the server comes and goes, and its connections can be cut."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Forwards a loopback port. Made by `Doors.open`."""

    def __init__(self, connect: Callable[[], Awaitable[Ends]]) -> None:
        self._connect = connect
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def close(self) -> None:
        """Let nobody in any more."""
        if self._server is not None:
            self._server.close()

    async def cut(self) -> int:
        """Cut every connection, in the middle of whatever it carries; how many there were."""
        writers = list(self._writers)
        for writer in writers:
            writer.transport.abort()
        return len(writers)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with suppress(OSError):
                theirs, to_them = await self._connect()
                self._writers.add(to_them)
                try:
                    await asyncio.gather(_carry(reader, to_them), _carry(theirs, writer))
                finally:
                    self._writers.discard(to_them)
                    to_them.transport.abort()
        finally:
            self._writers.discard(writer)
            writer.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    # Whoever is left has nobody to talk to.
    writer.transport.abort()


class Doors:
    """Proxies in a thread of their own, so that they carry while the run looks elsewhere."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._proxies: list[Proxy] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def open(self, connect: Callable[[], Awaitable[Ends]]) -> Proxy:
        """A new door to whatever `connect` reaches."""
        proxy = Proxy(connect)
        self._do(proxy.listen())
        self._proxies.append(proxy)
        return proxy

    def to_port(self, port: int) -> Proxy:
        return self.open(lambda: asyncio.open_connection("127.0.0.1", port))

    def to_socket(self, path: str) -> Proxy:
        return self.open(lambda: asyncio.open_unix_connection(path))

    def cut(self, proxy: Proxy) -> int:
        """As `Proxy.cut`, from any thread."""
        return int(str(self._do(proxy.cut())))

    def close(self) -> None:
        async def end() -> None:
            for proxy in self._proxies:
                proxy.close()
            others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        self._do(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Awaitable[object]) -> object:
        async def done() -> object:
            return await work

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(30)


@contextmanager
def doors() -> Generator[Doors]:
    """Doors, open to the end of the block."""
    opened = Doors()
    try:
        yield opened
    finally:
        opened.close()
