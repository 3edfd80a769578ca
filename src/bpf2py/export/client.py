"""Prometheus' Python client, which is optional."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bpf2py.errors import NotSupported

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["new_registry", "require_client", "require_protobuf"]


def require_client() -> None:
    """Raises NotSupported where `prometheus_client` is not installed."""
    try:
        import prometheus_client  # noqa: F401
    except ImportError:
        raise NotSupported(
            "prometheus_client is not installed: pip install 'bpf2py[prometheus]'", feature="prometheus_client"
        ) from None


def require_protobuf() -> None:
    """Raises NotSupported where `protobuf` is not installed: `prometheus_client` does without it, a server of metrics does not."""
    try:
        from google.protobuf import descriptor_pb2  # noqa: F401
    except ImportError:
        raise NotSupported("protobuf is not installed: pip install 'bpf2py[prometheus]'", feature="protobuf") from None


def new_registry() -> CollectorRegistry:
    """A registry without the client's own metrics. Raises NotSupported."""
    require_client()
    from prometheus_client import CollectorRegistry

    return CollectorRegistry(auto_describe=False)
