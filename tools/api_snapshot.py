"""The public names and their signatures as text: `python tools/api_snapshot.py` rewrites tests/api.txt, which a test compares."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_origin

MODULES = (
    "bpf2py", "bpf2py.maps", "bpf2py.readers", "bpf2py.symbols", "bpf2py.values", "bpf2py.features", "bpf2py.errors",
    "bpf2py.signing", "bpf2py.engine", "bpf2py.generated",
)  # fmt: skip
SNAPSHOT = Path(__file__).parent.parent / "tests" / "api.txt"


def signature(thing: Any) -> str:
    """The parameters and the result as they are written."""
    try:
        return re.sub(
            r"<object object at 0x\w+>", "...", str(inspect.signature(thing)).replace("'", "").replace('"', "")
        )
    except (TypeError, ValueError):
        return "(...)"


def members(cls: type) -> Iterator[str]:
    """Public methods and properties, those of public base classes in the package included."""
    for name, found in sorted(inspect.getmembers_static(cls)):
        public = name == "__init__" or not name.startswith("_")
        owner = next((base for base in cls.__mro__ if name in base.__dict__), object)
        if not public or not owner.__module__.startswith("bpf2py"):
            continue
        if isinstance(found, staticmethod | classmethod):
            yield f"    {name}{signature(getattr(cls, name))}"
        elif inspect.isfunction(found):
            yield f"    {name}{signature(found)}"
        elif isinstance(found, property):
            result = found.fget.__annotations__.get("return", "?") if found.fget is not None else "?"
            yield f"    {name}: {result}"


def describe() -> str:
    """One line a name, indented lines for what classes have."""
    lines = []
    for module_name in MODULES:
        module = import_module(module_name)
        lines.append(f"[{module_name}]")
        for name in sorted(module.__all__):
            thing = getattr(module, name)
            if module_name == "bpf2py.errors" and inspect.isclass(thing):
                lines.append(f"{name}({', '.join(base.__name__ for base in thing.__bases__)})")
            elif inspect.isclass(thing) and issubclass(thing, enum.Enum):
                lines.append(f"{name}: {len(thing)} members")
            elif inspect.isclass(thing) and thing.__module__ not in ("builtins",) and module_name != "bpf2py.generated":
                lines += [f"class {name}({', '.join(base.__name__ for base in thing.__bases__)})", *members(thing)]
            elif callable(thing) and get_origin(thing) is None:
                lines.append(f"{name}{signature(thing)}")
            else:
                lines.append(name)
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    SNAPSHOT.write_text(describe())
    print(f"wrote {SNAPSHOT}")
