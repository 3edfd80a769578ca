"""ARENA: memory programs and user space share, Linux 6.9."""

from __future__ import annotations

import ctypes

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.errors import BpfOSError, EncodeError
from bpf2py.maps.base import Map

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike


class ArenaMap(Map[None, None]):
    """`max_entries` pages of memory, given as they are touched.

    On the engine it is this process's memory as well, at an address of the engine's choice, not at `map_extra`.

    Example:
        >>> arena.memory[0:4] = b"ping"             # doctest: +SKIP
        >>> arena.array("u8")[:4]                   # doctest: +SKIP
    """

    _memory: Any = None

    @property
    def size(self) -> int:
        """Bytes of the arena."""
        return self.max_entries * self._handle.page_size

    @property
    def memory(self) -> memoryview:
        """The whole arena, writable; pages are allocated when first touched. Valid until the map is closed."""
        if self._memory is None:
            self.fileno()
            try:
                self._memory = self._handle.mmap(self.size, True)
            except (OSError, ValueError) as error:
                raise BpfOSError(
                    f"map {self.name}: mmap of {self.size} bytes failed: {error}",
                    errno=getattr(error, "errno", None),
                    command="mmap",
                ) from None
        return memoryview(self._memory).cast("B")

    @property
    def address(self) -> int:
        """Where the arena begins in this process, which is where programs' pointers into it point. Raises as `memory` does."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self.memory))

    def offset(self, pointer: int) -> int:
        """The byte of `memory` that a program's pointer points to. Raises EncodeError for one that is not of this arena.

        Example:
            >>> arena.memory[arena.offset(obj.variables["head"].value)]             # doctest: +SKIP
        """
        offset = pointer - self.address
        if not 0 <= offset < self.size:
            raise EncodeError(
                f"map {self.name}: {pointer:#x} does not point into the arena, which begins at {self.address:#x}"
            )
        return offset

    def array(self, dtype: DTypeLike = "u1", offset: int = 0, count: int = -1) -> np.ndarray[Any, Any]:
        """A numpy view of the memory from byte `offset` on, without a copy."""
        import numpy as np

        return np.frombuffer(self.memory, dtype, count, offset)

    def close(self) -> None:
        """Unmap (unless views are still in use) and give up the descriptor."""
        memory, self._memory = self._memory, None
        if hasattr(memory, "close"):
            try:
                memory.close()
            except BufferError:
                pass  # views keep the mapping; it goes with the last of them
        super().close()
