"""The exporter's web server: ``/metrics``, ``/healthz``; a bearer token and TLS where they are wanted."""

from __future__ import annotations

import gzip
import hmac
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIServer

from bpf2py._lazy import module
from bpf2py.errors import BpfError
from bpf2py.export.client import require_protobuf

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from bpf2py.export import protobuf
else:
    protobuf = module("bpf2py.export.protobuf")

__all__ = ["serve"]

Start = Callable[..., Any]


def serve(
    registry: CollectorRegistry,
    host: str,
    port: int,
    *,
    token: str | None = None,
    certificate: str | None = None,
    key: str | None = None,
    problems: Callable[[], Sequence[str]] = tuple,
) -> tuple[WSGIServer, Any]:
    """Serve a registry from a thread: (the server, its thread). `shutdown()` ends it; port 0 is any free one.

    Args:
        token: who asks for metrics must send it: ``Authorization: Bearer TOKEN``.
        certificate, key: files for TLS.
        problems: what is wrong with the exporter, for ``/healthz``: nothing where it is well.

    Raises BpfError when the address or the files cannot be used, NotSupported without the extra ``prometheus``.
    """
    require_protobuf()
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, registry, certificate, key)
    except (OSError, ValueError) as error:
        raise BpfError(f"cannot serve on {host}:{port}: {error}") from None
    server.set_app(guarded(_metrics(registry), token, problems))
    return server, thread


def _metrics(registry: CollectorRegistry) -> Callable[..., Iterable[bytes]]:
    """The metrics in the format that is asked for: protobuf where that is preferred, Prometheus' client does the others."""
    from prometheus_client import make_wsgi_app

    text: Callable[..., Iterable[bytes]] = make_wsgi_app(registry)

    def answer(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        if not protobuf.is_wanted(environ.get("HTTP_ACCEPT", "")):
            return text(environ, start)
        headers = [("Content-Type", protobuf.CONTENT_TYPE)]
        body = protobuf.encode(registry.collect())
        if "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
            body = gzip.compress(body, 1)
            headers.append(("Content-Encoding", "gzip"))
        start("200 OK", headers)
        return [body]

    return answer


def guarded(
    metrics: Callable[..., Iterable[bytes]], token: str | None, problems: Callable[[], Sequence[str]] = tuple
) -> Callable[..., Iterable[bytes]]:
    """The application: what is asked for without the token is refused, ``/healthz`` is answered to anybody."""

    def answer(environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/healthz":
            wrong = problems()
            start("503 Service Unavailable" if wrong else "200 OK", [("Content-Type", "text/plain; charset=utf-8")])
            return [("\n".join(wrong or ["ok"]) + "\n").encode()]
        if path not in ("/", "/metrics"):
            start("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"there are /metrics and /healthz\n"]
        given = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
        if token is not None and not hmac.compare_digest(given, f"Bearer {token}".encode()):
            start("401 Unauthorized", [("WWW-Authenticate", "Bearer"), ("Content-Type", "text/plain; charset=utf-8")])
            return [b"a bearer token is needed\n"]
        return metrics(environ, start)

    return answer
