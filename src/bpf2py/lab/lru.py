"""What an LRU map keeps: predicted and replayed by the engine's own maps, which follow the kernel's element by element."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from bpf2py.backends import new_engine
from bpf2py.errors import EncodeError
from bpf2py.lab.ideal import Curve
from bpf2py.maps.base import Map
from bpf2py.uapi.map_types import MapFlags, MapType

if TYPE_CHECKING:
    import numpy as np

    Keys = np.ndarray[Any, Any]

__all__ = ["Hits", "Prediction", "Setup", "hits", "largest_batch", "predict", "survivors"]

PIECE = 1 << 20  # uses replayed at once
BATCH = 1 << 12  # keys inserted at once, which goes one after another
FIXED_BATCH = 128  # LOCAL_FREE_TARGET of kernel/bpf/bpf_lru_list.c
PERCPU_BATCH = 4  # PERCPU_FREE_TARGET


class Setup(NamedTuple):
    """An LRU map on a machine.

    Attributes:
        max_entries: as the map is made.
        cpus: possible CPUs of the machine.
        kernel: such as ``"6.1"`` or ``"6.12.20"``; without a patch level the newest of its series.
        no_common: BPF_F_NO_COMMON_LRU, a list for each CPU.
        per_cpu: LRU_PERCPU_HASH.
    """

    max_entries: int
    cpus: int = 4
    kernel: str = "6.18"
    no_common: bool = False
    per_cpu: bool = False

    def __str__(self) -> str:
        kind = "LRU_PERCPU_HASH" if self.per_cpu else "LRU_HASH"
        own = ", a list for each CPU" if self.no_common else ""
        return f"{kind} of {self.max_entries} on {self.cpus} CPUs, Linux {self.kernel}{own}"

    def _made(self, key_size: int = 8) -> Any:
        """The map, on an engine of its own that goes with it."""
        engine = new_engine(self.kernel, self.cpus)
        kind = MapType.LRU_PERCPU_HASH if self.per_cpu else MapType.LRU_HASH
        flags = MapFlags.NO_COMMON_LRU if self.no_common else 0
        return Map.create(kind, key_size, 8, self.max_entries, flags=flags, name="lru", backend=engine)


class Prediction(NamedTuple):
    """What is left of keys that were inserted once each.

    Attributes:
        setup: the map.
        inserted: keys 1 to this, by each CPU in turn.
        kept: the keys that are left after each CPU's turn.
        words: why.
    """

    setup: Setup
    inserted: int
    kept: list[list[int]]
    words: str


class Hits(NamedTuple):
    """How a map did as a cache.

    Attributes:
        setup: the map.
        uses: looked up, and inserted where not found.
        hits: of them found.
        ideal: those an exact LRU of `max_entries` finds.
        kept: keys in the map at the end.
    """

    setup: Setup
    uses: int
    hits: int
    ideal: int
    kept: int

    @property
    def rate(self) -> float:
        """Share of the uses that found their key."""
        return self.hits / self.uses if self.uses else 0.0

    @property
    def ideal_rate(self) -> float:
        """The same of an exact LRU."""
        return self.ideal / self.uses if self.uses else 0.0


def largest_batch(setup: Setup) -> int:
    """Elements a CPU takes from the common list at once (Linux 6.16, and 6.15.7, 6.12.39, 6.6.99, made it depend on the map)."""
    if setup.no_common:
        return PERCPU_BATCH
    engine = new_engine(setup.kernel, setup.cpus)
    if engine.lru_batch_is_fixed:
        return FIXED_BATCH
    return max(1, min(FIXED_BATCH, setup.max_entries // setup.cpus // 2))


def survivors(setup: Setup, inserted: int, turns: Sequence[int]) -> list[list[int]]:
    """The keys that are left of 1 to `inserted` after each turn: the CPU of that turn inserts (or updates) all of them."""
    kept = []
    with setup._made() as lru:
        engine = lru._handle.core.engine
        for cpu in turns:
            with engine.cpu(cpu):
                for first in range(1, inserted + 1, BATCH):
                    keys = range(first, min(first + BATCH, inserted + 1))
                    lru.update(zip((key.to_bytes(8, "little") for key in keys), repeat(bytes(8))))
            kept.append(sorted(int.from_bytes(key, "little") for key in lru))
    return kept


def predict(setup: Setup, inserted: int | None = None, turns: int | None = None) -> Prediction:
    """What a map keeps of `inserted` keys (one more than it has room for) that `turns` CPUs insert one after another (all)."""
    wanted = setup.max_entries + 1 if inserted is None else inserted
    count = setup.cpus if turns is None else turns
    if wanted < 1 or not 1 <= count <= setup.cpus:
        raise EncodeError(
            f"lru: {wanted} keys inserted by {count} of {setup.cpus} CPUs: both must be at least 1, and no more CPUs"
        )
    kept = survivors(setup, wanted, range(count))
    return Prediction(setup, wanted, kept, _words(setup, wanted, kept))


def _words(setup: Setup, inserted: int, kept: list[list[int]]) -> str:
    batch, first = largest_batch(setup), len(kept[0])
    if setup.no_common:
        share = -(-setup.max_entries // setup.cpus)
        told = (
            f"With BPF_F_NO_COMMON_LRU each of the {setup.cpus} CPUs has a list of {share} elements, and makes room {batch} "
            f"elements at a time: one CPU that inserts {inserted} keys keeps {first}."
        )
    else:
        told = (
            f"A CPU takes elements in batches of {batch} from the map's common list; when that is empty, it evicts as many as it "
            f"lacks for a batch, and what it has taken waits for its own next inserts. The first CPU keeps {first} of "
            f"{inserted} keys."
        )
    if len(kept) > 1:
        told += (
            f" Each further CPU takes batches of its own: after all {len(kept)} of them {len(kept[-1])} keys are left."
        )
    if not setup.no_common and batch == FIXED_BATCH and setup.max_entries < FIXED_BATCH * setup.cpus * 2:
        told += f" A map that is to keep its keys needs {FIXED_BATCH} elements more for each CPU that inserts."
    return told


def hits(setup: Setup, keys: Keys, cpus: Keys | None = None, ideal: int | None = None) -> Hits:
    """Replay uses of a cache: each key is looked up, and inserted where it is not there.

    Args:
        setup: the map.
        keys: unsigned 64-bit numbers, in the order of their use.
        cpus: the CPU of each use; all on CPU 0 where it is None.
        ideal: what an exact LRU finds, where that is known already.
    """
    import numpy as np

    numbers = np.ascontiguousarray(keys, np.uint64)
    where = None if cpus is None else np.ascontiguousarray(cpus, np.uint16)
    found = 0
    with setup._made() as lru:
        engine = lru._handle.core.engine
        for at in range(0, len(numbers), PIECE):
            piece = numbers[at : at + PIECE]
            of = b"" if where is None else where[at : at + PIECE].tobytes()
            missed = engine.replay(lru._handle, piece.tobytes(), of)
            found += len(piece) - missed.count(1)
        kept = lru.count()
    if ideal is None:
        ideal = Curve.of(numbers).hits(setup.max_entries)
    return Hits(setup, len(numbers), found, ideal, kept)
