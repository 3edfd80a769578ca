"""ARENA: memory programs and user space share, Linux 6.9."""

from __future__ import annotations

from bpf2py._typing import TYPE_CHECKING, Any
from bpf2py.errors import BpfOSError
from bpf2py.maps.base import Map

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike


class ArenaMap(Map[None, None]):
    """`max_entries` pages of memory, given as they are touched.

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
