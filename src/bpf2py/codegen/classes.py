"""The source of the classes of a generated module: enums, structs, unions, and aliases for typedefs."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable, Iterator, Sequence

from bpf2py.btf.codec_for import codec_for
from bpf2py.btf.reader import Btf
from bpf2py.btf.types import Enum, Struct
from bpf2py.btf.values import Field, StructCodec, UnionCodec, python_name
from bpf2py.codegen.types import Types, c_text, title

LINE = 120  # as `ruff format` is set up for generated modules
_BUILTINS = frozenset({"int", "str", "bytes", "bool", "float", "list", "tuple"})
_WORDS = re.compile(rf"\b({'|'.join(sorted(_BUILTINS))})\b")
# What an enum's class needs itself, and what its members have because they are integers.
_ENUM_NAMES = frozenset(
    "mro name value real imag numerator denominator conjugate bit_length bit_count to_bytes from_bytes as_integer_ratio "
    "is_integer".split()
)


def escaped(text: str) -> str:
    """Text for a literal or docstring with double quotes: names come from a file, and none of them may end it."""
    return "".join(
        f"\\{c}" if c in '\\"' else c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def documented(text: str) -> str:
    """Text for a docstring, which is stored as UTF-8: bytes of a name that are not are shown as escapes."""
    return escaped(text.encode("utf-8", "backslashreplace").decode())


def quoted(text: str) -> str:
    """A string literal with double quotes, as ruff writes it."""
    return f'"{escaped(text)}"'


def free(name: str, taken: Iterable[str]) -> str:
    """The name, or with underscores before it where it is taken."""
    while name in taken:
        name = f"_{name}"
    return name


def wrapped(head: str, arguments: Sequence[str], end: str) -> Iterator[str]:
    """A call on one line, or with its arguments on a line of their own, as ruff has it."""
    line = ", ".join(arguments)
    if len(head + line + end) <= LINE:
        yield head + line + end
        return
    indent = head[: len(head) - len(head.lstrip())]
    yield head
    if len(indent) + 4 + len(line) <= LINE or len(arguments) == 1:
        yield f"{indent}    {line}"
    else:
        yield from (f"{indent}    {argument}," for argument in arguments)
    yield indent + end


def parenthesized(head: str, value: str) -> Iterator[str]:
    """An assignment on one line, or with its value in parentheses where that makes it fit."""
    if len(head + value) <= LINE or 4 + len(value) > LINE:
        yield head + value
    else:
        yield from (f"{head}(", f"    {value}", ")")


def enumerators(enum: Enum, class_name: str) -> Iterator[tuple[str, int]]:
    """The names of an enum as an IntEnum called `class_name` may have them."""
    taken: set[str] = set()
    for name, value in enum.values:
        member = python_name(name)
        if member.startswith(("__", f"_{class_name.lstrip('_')}__")):  # private in a class
            member = f"_{member.lstrip('_')}"
        if keyword.iskeyword(member) or member in _ENUM_NAMES or (member.startswith("_") and member.endswith("_")):
            bare = member.strip("_")
            member = f"{bare if bare.isidentifier() else f'X{bare}'}_"
        while member in taken:
            member += "_"
        taken.add(member)
        yield member, value


def members(btf: Btf, types: Types) -> set[str]:
    """The names of all members in the classes: in a class's body they hide what else has that name."""
    found: set[str] = set()
    for type_id in types.names:
        if isinstance(btf.type(type_id), Struct):
            found.update(name for name, _ in _member_types(btf, type_id))
    return found


class Classes:
    """The classes of one module; `hiding` are the names that are something else in the body of one of them."""

    def __init__(self, btf: Btf, types: Types, hiding: set[str]) -> None:
        self.btf = btf
        self.types = types
        self.builtins = free("builtins", hiding)

    def lines(self) -> Iterator[str]:
        """All of them, enums first; two empty lines before each."""
        for wanted in (Enum, Struct):
            for type_id, name in self.types.names.items():
                if isinstance(self.btf.type(type_id), wanted):
                    yield from ("", "")
                    yield from wrapped("@_object.type(", [quoted(self.types.paths[type_id])], ")")
                    yield from self.enum(type_id, name) if wanted is Enum else self.struct(type_id, name)
        aliases = list(self.types.new_aliases())
        if aliases:
            yield from ("", "")
        for name, target, c in aliases:
            yield f"{name}: TypeAlias = {target}"
            yield f'"""{documented(c)}"""'

    def enum(self, type_id: int, name: str) -> Iterator[str]:
        """An IntEnum that also takes values without a name."""
        enum = self.btf.type(type_id)
        assert isinstance(enum, Enum)
        yield f"class {name}(runtime.OpenEnum):"
        yield from self.docstring(type_id)
        yield ""
        for member, value in enumerators(enum, name):
            yield f"    {member} = {value}"

    def docstring(self, type_id: int) -> Iterator[str]:
        """What the type is in C."""
        path = self.types.paths[type_id]
        yield f'    """{documented(title(path, self.types.names[type_id]))}'
        yield ""
        yield "    ::"
        yield ""
        for line in c_text(self.btf, type_id, path):
            yield f"        {documented(line)}".rstrip()
        yield '    """'

    def struct(self, type_id: int, name: str) -> Iterator[str]:
        """A class with the members as slots; a union's are made when the object is read."""
        codec = codec_for(self.btf, type_id)
        assert isinstance(codec, StructCodec | UnionCodec)
        union = isinstance(codec, UnionCodec)
        yield f"class {name}({'UnionValue' if union else 'StructValue'}):"
        yield from self.docstring(type_id)
        yield ""
        shown = codec.cls._fields
        slots = () if union else tuple(field.name for field in codec.fields)
        yield from _tuple("__match_args__", shown)
        yield from _tuple("__slots__", slots) if slots != shown or not slots else ["    __slots__ = __match_args__"]
        fields = self.in_body(list(self.fields(codec, type_id)))
        if not fields:
            return
        yield ""
        yield from (f"    {member}: {annotation}" for member, annotation in fields)
        yield ""
        yield "    if TYPE_CHECKING:"
        yield ""
        yield "        def __init__("
        yield f"            {free('self', dict(fields))},"
        # Parameters with two underscores would be positional ones.
        named = [(member, annotation) for member, annotation in fields if not member.startswith("__")]
        if named and (union or len(named) < len(fields)):
            yield "            *,"
        yield from (f"            {member}: {annotation} = ...," for member, annotation in named)
        if len(named) < len(fields):
            yield f"            **{free('others', dict(fields))}: {self.types.any},"
        yield "        ) -> None: ..."

    def in_body(self, rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """(name, annotation) as a class's body may have them: an attribute named list hides the builtin."""
        if not _BUILTINS.intersection(name for name, _ in rows):
            return rows
        return [(name, _WORDS.sub(rf"{self.builtins}.\1", annotation)) for name, annotation in rows]

    def fields(self, codec: StructCodec | UnionCodec, type_id: int) -> Iterator[tuple[str, str]]:
        """(attribute, annotation) of every member, those of anonymous ones included."""
        ids = dict(_member_types(self.btf, type_id))
        codecs = {f.name: f.codec for f in _flat(codec)}
        for name in codec.cls._fields:
            yield name, self.types.annotation(ids[name], codecs[name])


def _tuple(name: str, items: tuple[str, ...]) -> Iterator[str]:
    """A class attribute that is a tuple of strings, on as many lines as ruff gives it."""
    inner = ", ".join(map(quoted, items)) + ("," if len(items) == 1 else "")
    if len(inner) + len(name) + 9 <= LINE:
        yield f"    {name} = ({inner})"
        return
    yield f"    {name} = ("
    yield from (f"        {quoted(item)}," for item in items)
    yield "    )"


def _flat(codec: StructCodec | UnionCodec) -> Iterator[Field]:
    for field in codec.fields:
        if field.anonymous and isinstance(field.codec, StructCodec | UnionCodec):
            yield from _flat(field.codec)
        else:
            yield field


def _member_types(btf: Btf, type_id: int) -> Iterator[tuple[str, int]]:
    struct = btf.resolved(type_id)
    if isinstance(struct, Struct):
        for member in struct.members:
            if member.name:
                yield python_name(member.name), member.type_id
            else:
                yield from _member_types(btf, member.type_id)
