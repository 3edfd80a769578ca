"""The server of the page: static files for anybody on the machine, data as event streams for those who have the token.

What keeps others out: it binds to the loopback device; a Host that is a name other than localhost is refused, so that no web
site can have its name resolved to this machine and read answers (DNS rebinding); data is given to requests with the token alone,
which is sent in a header, never in a cookie or an address; and only GET is answered.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import os
import platform
import socket
import traceback
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import aclosing
from importlib.resources import files
from typing import Any, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bpf2py.errors import BpfError
from bpf2py.export.web.attached import attach_points
from bpf2py.export.web.opened_map import OpenedMap
from bpf2py.export.web.snapshot import Machine

__all__ = ["PageServer"]

Result = TypeVar("Result")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Any]
Send = Callable[[MutableMapping[str, Any]], Any]

MOST_STREAMS = 24
SLOWEST_SHARE = 4  # a look that took t is followed by a rest of 4 t at least
ATTACHED_SECONDS = 3.0
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/logo.svg": ("logo.svg", "image/svg+xml"),
    "/uplot.css": ("uplot-1.6.32.min.css", "text/css; charset=utf-8"),
    "/uplot.js": ("uplot-1.6.32.min.js", "text/javascript; charset=utf-8"),
    "/uplot-LICENSE": ("uplot-LICENSE", "text/plain; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class PageServer:
    """Serves the page until it is stopped.

    Args:
        host, port: where to listen; port 0 is any free one.
        token: what requests for data must have.
        interval: seconds between two readings.

    Attributes:
        port: the one it listens on.

    Raises BpfError when the address cannot be used.
    """

    def __init__(self, host: str, port: int, token: str, interval: float = 1.0) -> None:
        self._host, self._token, self._interval = host, token.encode(), interval
        self._streams = 0
        self._stopping = asyncio.Event()
        self._machine = Machine()
        self._reading = asyncio.Lock()
        self._latest: tuple[float, str] = (0.0, "")
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._socket = socket.create_server((host, port), family=family)
        except (OSError, OverflowError) as error:
            raise BpfError(f"cannot serve on {host}:{port}: {error}") from None
        self.port: int = self._socket.getsockname()[1]
        routes = [Route(path, self._file, methods=["GET"]) for path in FILES]
        routes += [
            Route("/data/machine", self._machine_stream, methods=["GET"]),
            Route("/data/attached", self._attached_stream, methods=["GET"]),
            Route("/data/map/{ident:int}", self._map_stream, methods=["GET"]),
        ]
        config = uvicorn.Config(
            self._guarded(Starlette(routes=routes)),
            log_level="critical",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
            limit_concurrency=100,
            ws="none",
        )
        self._server = _Server(config, self._stopping)

    @property
    def address(self) -> str:
        """Where a browser finds the page; the token is behind the #, which browsers keep for themselves."""
        host = "127.0.0.1" if self._host == "0.0.0.0" else "[::1]" if self._host == "::" else self._host
        host = f"[{host}]" if ":" in host and not host.startswith("[") else host
        return f"http://{host}:{self.port}/#token={self._token.decode()}"

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM, or `stop()`; the signal is raised again at the end."""
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """End `run()`; may be called by any thread."""
        self._server.should_exit = True

    # -- who may --------------------------------------------------------------------------------------------------

    def _guarded(self, app: Callable[..., Any]) -> Callable[..., Any]:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            request = Request(scope)
            refusal = self._refusal(request)
            if refusal is not None:
                await refusal(scope, receive, send)
                return

            async def with_headers(message: MutableMapping[str, Any]) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", ()), *_raw(HEADERS)]
                await send(message)

            await app(scope, receive, with_headers)

        return answer

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if request.method != "GET":
            return PlainTextResponse("only GET\n", 405, {"Allow": "GET"})
        if not self._is_ours(host):
            return PlainTextResponse("this server has another name\n", 421)
        origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
        if (origin is not None and origin != f"http://{host}") or (
            request.url.path.startswith("/data/") and site not in ("none", "same-origin")
        ):
            return PlainTextResponse("not from another site\n", 403)
        if request.url.path.startswith("/data/"):
            given = request.headers.get("authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, b"Bearer " + self._token):
                return PlainTextResponse("the token is needed\n", 401, {"WWW-Authenticate": "Bearer"})
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header is an address, or a name nobody can have point here."""
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "80")
        if not name:
            name, port = host, "80"
        if port != str(self.port):
            return False
        if name.lower() in ("localhost", self._host.lower()):
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True

    # -- what is answered -----------------------------------------------------------------------------------------

    async def _file(self, request: Request) -> Response:
        name, kind = FILES[request.url.path]
        data = files("bpf2py.export.web").joinpath(name).read_bytes()
        return Response(data, headers={"Content-Type": kind})

    async def _machine_stream(self, request: Request) -> Response:
        return self._stream(self._machine_texts())

    async def _attached_stream(self, request: Request) -> Response:
        async def texts() -> AsyncIterator[str]:
            while True:
                yield await asyncio.to_thread(lambda: json.dumps(attach_points()))
                await asyncio.sleep(max(ATTACHED_SECONDS, self._interval))

        return self._stream(texts())

    async def _map_stream(self, request: Request) -> Response:
        ident, kind = request.path_params["ident"], request.query_params.get("type")
        if ident >= 1 << 32:
            return PlainTextResponse("there is no such map\n", 404)
        return self._stream(self._map_texts(ident, kind))

    async def _machine_texts(self) -> AsyncIterator[str]:
        """The newest reading; all who look get the same one."""
        first = True
        shown = 0.0
        while True:
            async with self._reading:
                loop = asyncio.get_running_loop()
                if loop.time() - self._latest[0] >= self._interval * 0.9:
                    text = await asyncio.to_thread(lambda: _sample_text(self._machine))
                    self._latest = (loop.time(), text)
            if self._latest[0] != shown:
                shown = self._latest[0]
                about = f'{{"about": {json.dumps(about_machine(self._interval))}, ' if first else "{"
                first = False
                yield about + self._latest[1][1:]
            await asyncio.sleep(self._interval)

    async def _map_texts(self, ident: int, kind: str | None) -> AsyncIterator[str]:
        loop = asyncio.get_running_loop()
        opened = None
        try:
            while True:
                try:
                    if opened is None:  # happens once: a program may be compiled
                        opened = await _in_thread(OpenedMap, ident, kind)
                    start = loop.time()
                    found = await _in_thread(opened.read)
                except (BpfError, OSError) as error:
                    yield json.dumps({"id": ident, "error": str(error)})
                    return
                yield json.dumps(found)
                await asyncio.sleep(max(self._interval, (loop.time() - start) * SLOWEST_SHARE))
        finally:
            if opened is not None:
                opened.close()

    def _stream(self, texts: AsyncIterator[str]) -> Response:
        if self._streams >= MOST_STREAMS:
            return PlainTextResponse("too many pages look already\n", 503)
        return _EventStream(self, texts)


class _Server(uvicorn.Server):
    """Ends the streams before it waits for their connections."""

    def __init__(self, config: uvicorn.Config, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        await super().shutdown(sockets)


class _EventStream(Response):
    """Texts as server-sent events, until the browser goes or the server stops; a slow browser gets fewer."""

    def __init__(self, server: PageServer, texts: AsyncIterator[str]) -> None:
        super().__init__(headers={"Content-Type": "text/event-stream"})
        self._owner, self._texts = server, texts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._owner._streams += 1
        waiting = {asyncio.create_task(_gone(receive)), asyncio.create_task(self._owner._stopping.wait())}
        pump = asyncio.create_task(self._pump(send))
        try:
            await asyncio.wait({pump, *waiting}, return_when=asyncio.FIRST_COMPLETED)
            stopped = self._owner._stopping.is_set()
            pump.cancel()
            (error,) = await asyncio.gather(pump, return_exceptions=True)
            if isinstance(error, Exception) and not isinstance(error, OSError):
                traceback.print_exception(error)  # the page only sees an end, and asks again
            if stopped:
                await send({"type": "http.response.body", "body": b"event: end\ndata: {}\n\n"})
        finally:
            self._owner._streams -= 1
            for task in (pump, *waiting):
                task.cancel()
            await asyncio.gather(pump, *waiting, return_exceptions=True)

    async def _pump(self, send: Send) -> None:
        async with aclosing(self._texts) as texts:  # type: ignore[type-var]
            kept = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
            await send({"type": "http.response.start", "status": 200, "headers": kept})
            async for text in texts:
                await send({"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b""})


async def _in_thread(function: Callable[..., Result], *arguments: object) -> Result:
    """What a function gives that a thread runs. Cancelled, it waits for the thread, and closes what that opened."""
    task = asyncio.ensure_future(asyncio.to_thread(function, *arguments))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if task.exception() is None and isinstance(made := task.result(), OpenedMap):
            made.close()
        raise


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def about_machine(interval: float) -> dict[str, Any]:
    """What the page says of the machine."""
    return {"host": socket.gethostname(), "kernel": platform.release(), "cpus": os.cpu_count(), "interval": interval}


def _sample_text(machine: Machine) -> str:
    sample = machine.read()
    rows = {"programs": [row._asdict() for row in sample.programs], "maps": [row._asdict() for row in sample.maps]}
    return json.dumps(sample._asdict() | rows)


def _raw(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
