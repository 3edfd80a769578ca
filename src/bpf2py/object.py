"""`Object`: what a backend made of an `ObjectSpec`; owns maps, programs and links."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from bpf2py._lazy import module
from bpf2py._typing import TYPE_CHECKING, Any, TypeVar
from bpf2py.btf.codec import CodecOptions
from bpf2py.btf.reader import Btf
from bpf2py.errors import (
    AttachError,
    ClosedError,
    EncodeError,
)
from bpf2py.loader import Loader
from bpf2py.maps.base import AnyMap, Map
from bpf2py.owned import Owned, close_all
from bpf2py.programs import Link, Program
from bpf2py.spec.object_spec import ObjectSpec
from bpf2py.variables import Variable

if TYPE_CHECKING:
    import warnings

    from bpf2py.linker import core
    from bpf2py.linker import kconfig as kconfig_section
    from bpf2py.seam.protocol import Backend
    from bpf2py.seam.signing import Signing
else:
    warnings = module("warnings")
    core = module("bpf2py.linker.core")
    kconfig_section = module("bpf2py.linker.kconfig")

T = TypeVar("T")


class Named(Mapping[str, T]):
    """Read-only mapping by name whose KeyError suggests what may have been meant."""

    __slots__ = ("_items", "_what")

    def __init__(self, what: str, items: dict[str, T]) -> None:
        self._what = what
        self._items = items

    def __getitem__(self, name: str) -> T:
        try:
            return self._items[name]
        except KeyError:
            import difflib

            near = difflib.get_close_matches(str(name), self._items, 3) or list(self._items)[:5]
            raise KeyError(f"no {self._what} {name!r}; there are: {', '.join(near) or 'none'}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: {item!r}' for name, item in self._items.items())}}}"


class Object(Owned):
    """Maps, programs and links of a loaded object. A context manager: leaving it detaches and closes everything.

    Attributes:
        spec: what it was made from.
        maps: `Map` by name, data sections included.
        programs: `Program` by name.
        variables: `Variable` by name.
        warnings: what went less than well, as text (for example BTF the kernel refused).
    """

    def __init__(
        self,
        spec: ObjectSpec,
        backend: Backend,
        *,
        chars: str = "str",
        pin_path: str = "/sys/fs/bpf",
        maps: Mapping[str, Map[Any, Any]] | None = None,
        kconfig: Mapping[str, int | str] | None = None,
        btf: Btf | None = None,
        token_path: str | os.PathLike[str] | None = None,
        log_level: int = 0,
        signing: Signing | None = None,
    ) -> None:
        if chars not in ("str", "bytes"):
            raise EncodeError(f"chars must be 'str' or 'bytes', is {chars!r}")
        if not 0 <= log_level <= 7:
            raise EncodeError(f"log_level is a sum of 1, 2 and 4 (0: no log), not {log_level}")
        self.spec = spec
        self.backend = backend
        self._closed = False
        options = CodecOptions(chars="bytes" if chars == "bytes" else "str")
        loader = Loader(spec, backend, options, pin_path, btf, token_path, log_level, signing)
        self.warnings: list[str] = loader.warnings
        self._maps, self._programs, self._sections = loader.maps, loader.programs, loader.sections
        self._links = loader.links
        try:
            loader.load(maps or {}, kconfig or {})
        except BaseException:
            loader.unpin()
            self.close()
            raise
        self.maps: Mapping[str, AnyMap] = Named("map", self._maps)
        self.programs: Mapping[str, Program] = Named("program", self._programs)
        self.variables: Mapping[str, Variable] = Named(
            "variable", {name: Variable(v, self._sections[v.map.name]) for name, v in spec.variables.items()}
        )

    # -- use -----------------------------------------------------------------------------------------------------

    def attach(self) -> list[Link]:
        """Attach every program that has a hook to the one its SEC() name says.

        Programs without a hook of their own (``SEC("syscall")``, or ``autoattach = False``) are left out.

        Returns:
            The new links; the object keeps them in `links` and detaches them when it is closed.

        Raises:
            AttachError: a hook does not exist or refused the program; the ones attached by this call are detached again.
        """
        self._require_open()
        new: list[Link] = []
        try:
            for name, program in self._programs.items():
                spec = self.spec.programs[name]
                if spec.autoattach and self.backend.can_attach(spec):
                    new.append(program.attach())
            # One by one: those before a failing one must be in `new`.
            for name, bpf_map in self._maps.items():
                if self.spec.maps[name].struct_ops is not None:
                    new.append(bpf_map.attach())
        except BaseException:
            for link in new:
                link.close()
            raise
        if not new and self._programs:
            sections = ", ".join(self.spec.programs[name].section for name in self._programs)
            raise AttachError(f"object {self.spec.name}: no program can be attached by its section name ({sections})")
        return new

    @property
    def links(self) -> list[Link]:
        """The open links its programs (and STRUCT_OPS maps) made, oldest first; `close()` detaches them."""
        return list(self._links.open())

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError(f"object {self.spec.name}: the object is closed")

    @property
    def closed(self) -> bool:
        """Whether `close()` was called."""
        return self._closed

    def close(self) -> None:
        """Detach all programs and close everything; closing twice is harmless."""
        self._closed = True
        close_all([*self._maps.values(), *self._sections.values(), *self._programs.values(), *self._links.end()])

    def __enter__(self) -> Object:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " closed" if self._closed else ""
        return f"<Object {self.spec.name}: maps {list(self._maps)}, programs {list(self._programs)}{state}>"
