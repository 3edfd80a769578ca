"""`Variable`: a global variable of a loaded object."""

from __future__ import annotations

import mmap

from bpf2py._typing import Any
from bpf2py.errors import ClosedError, EncodeError, PermissionDenied
from bpf2py.maps.base import Map
from bpf2py.owned import Owned
from bpf2py.spec.variable_spec import VariableSpec


class DataSection(Owned):
    """The memory of a data section's map: mapped where the kernel allows (Linux 5.5), else read and written whole."""

    def __init__(self, section: Map[Any, Any], frozen: bool) -> None:
        self.map = section
        self.frozen = frozen
        self._memory: Any = None
        self._mappable = True

    def _mapped(self) -> Any:
        self.map.fileno()
        if self._memory is None and self._mappable:
            try:
                page = self.map._handle.page_size
                size = (self.map.value_size + page - 1) // page * page
                self._memory = self.map._handle.mmap(size, not self.frozen)
            except (OSError, ValueError):
                self._mappable = False
        return self._memory

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the section. Raises ClosedError."""
        memory = self._mapped()
        if memory is None:
            return self._whole()[offset : offset + size]
        try:
            return bytes(memory[offset : offset + size])
        except ValueError:  # another thread unmaps it
            raise self._closed() from None

    def write(self, offset: int, data: bytes) -> None:
        """Change bytes of the section. Raises ClosedError."""
        memory = self._mapped()
        if memory is not None:
            try:
                memory[offset : offset + len(data)] = data
            except ValueError:
                raise self._closed() from None
            return
        whole = bytearray(self._whole())
        whole[offset : offset + len(data)] = data
        self.map._update(0, bytes(whole))

    def _closed(self) -> ClosedError:
        return ClosedError(f"map {self.map.name}: the map is closed")

    def _whole(self) -> bytes:
        slot = self.map._slot()
        try:
            slot.key[:] = bytes(4)
            self.map._check("lookup", slot.lookup(), 0)
            return bytes(slot.value)
        finally:
            self.map._slots.append(slot)

    def close(self) -> None:
        """Unmap."""
        memory, self._memory = self._memory, None
        if isinstance(memory, mmap.mmap):  # the engine's memory is not a mapping of its own
            memory.close()


class ArenaSection(DataSection):
    """The variables at the beginning of an arena."""

    def __init__(self, arena: Map[Any, Any]) -> None:
        super().__init__(arena, False)

    def _mapped(self) -> Any:
        return self.map.memory  # type: ignore[attr-defined]

    def close(self) -> None:
        """Nothing of its own."""


class Variable(Owned):
    """A global variable, shared with the running programs.

    Attributes:
        name: the C name.
        spec: where it lies.

    Example:
        >>> obj.variables["sampling"].value = 7      # doctest: +SKIP
    """

    def __init__(self, spec: VariableSpec, section: DataSection) -> None:
        self.name = spec.name
        self.spec = spec
        self._section = section

    @property
    def value(self) -> Any:
        """The value now. Reading or writing up to 8 aligned bytes is one memory access where the section is mapped."""
        return self.spec.codec.decode(self._section.read(self.spec.offset, self.spec.size))

    @value.setter
    def value(self, value: Any) -> None:
        if self._section.frozen:
            raise PermissionDenied(
                f"variable {self.name}: it is constant once loaded; set spec.variables[{self.name!r}].value before load()"
            )
        try:
            data = self.spec.codec.encode(value)
        except EncodeError as error:
            raise EncodeError(f"variable {self.name}: {error.message}") from None
        self._section.write(self.spec.offset, data)

    def __repr__(self) -> str:
        return f"<Variable {self.name}: {self.spec.codec.name} in {self.spec.map.name}>"
