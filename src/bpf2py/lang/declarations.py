"""Declarations of a module: structs, enums, variables, constants and maps."""

from __future__ import annotations

import ast

from bpf2py.lang.module import Module
from bpf2py.lang.names import MAP_CLASSES, EnumType, fixed_key, map_parameters
from bpf2py.lang.source import did_you_mean
from bpf2py.lang.tree import Function, GlobalVar, MapDecl
from bpf2py.lang.types import (
    BOOL,
    CHAR,
    S8,
    U8,
    U32,
    VOID,
    Array,
    Field,
    Int,
    MapRef,
    Opt,
    Ptr,
    Struct,
    Type,
    show,
    size_of,
)
from bpf2py.uapi.map_types import MapFlags, MapType

__all__ = ["annotated", "arena_pointers", "assigned", "check_struct_ops", "class_definition"]

_STORAGE = (MapType.SK_STORAGE, MapType.INODE_STORAGE, MapType.TASK_STORAGE, MapType.CGRP_STORAGE)
_NO_ENTRIES = (*_STORAGE, MapType.CGROUP_STORAGE, MapType.PERCPU_CGROUP_STORAGE, MapType.PERF_EVENT_ARRAY)
_MOST_VALUE = 1 << 30
_EXAMPLES = {"key": "u32", "value": "u64", "inner map": "Hash[u32, u64]"}


def _base_names(node: ast.ClassDef) -> list[str]:
    return [
        each.attr if isinstance(each, ast.Attribute) else each.id if isinstance(each, ast.Name) else ""
        for each in node.bases
    ]


def class_definition(module: Module, node: ast.ClassDef) -> None:
    """``class X(Struct)``, ``class X(Union)``, ``class X(IntEnum)``."""
    bases = _base_names(node)
    if node.decorator_list:
        module.source.fail(node.decorator_list[0], "classes have no decorators here")
    if bases == ["IntEnum"]:
        _enum(module, node)
        return
    if len(bases) != 1 or bases[0] not in ("Struct", "Union"):
        module.source.fail(node, f"a class is a Struct, a Union or an IntEnum: class {node.name}(Struct)")
    packed = False
    for keyword in node.keywords:
        if keyword.arg != "packed" or not isinstance(keyword.value, ast.Constant):
            module.source.fail(keyword, "a struct has one option: packed=True")
        packed = bool(keyword.value.value)
    fields: dict[str, Field] = {}
    kind = Struct(node.name, fields, union=bases[0] == "Union", packed=packed)
    module.define(node.name, kind, node)
    for each in node.body:
        if (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)) or isinstance(each, ast.Pass):
            continue
        if isinstance(each, ast.FunctionDef):
            module.source.fail(
                each, f"structs have no methods: write a function of the module that is given a Ptr[{node.name}]"
            )
        if not isinstance(each, ast.AnnAssign) or not isinstance(each.target, ast.Name):
            module.source.fail(each, "a struct has annotated fields only: name: u32")
        if each.value is not None:
            module.source.fail(each.value, "fields have no defaults: new structs are zeros")
        _field(module, kind, each, fields)
    if not fields:
        module.source.fail(node, "a struct needs a field")
    kind.lay_out()
    if kind.size > _MOST_VALUE:
        module.source.fail(node, f"{node.name} has {kind.size} bytes, which no map holds")


_GRAPH = {"list_head": "bpf_list_head", "rb_root": "bpf_rb_root"}


def _graph(module: Module, note: ast.AST) -> tuple[Type, str] | None:
    """``rb_root[Node, "rb"]``: the root of a tree of the kernel's, and what it contains; None for other types."""
    base = getattr(note.value, "id", getattr(note.value, "attr", "")) if isinstance(note, ast.Subscript) else ""
    if not isinstance(note, ast.Subscript) or base not in _GRAPH or base in module.names:
        return None
    parts = note.slice.elts if isinstance(note.slice, ast.Tuple) else []
    if len(parts) != 2 or not isinstance(parts[1], ast.Constant):
        module.source.fail(note, f'write {base}[Node, "field"]: the elements\' Struct, and the field that links them')
    name = getattr(parts[0], "id", getattr(parts[0], "value", ""))
    contained = module.names.get(name)
    name = contained.name if isinstance(contained, Struct) else name
    kind = module.kernel.named(_GRAPH[base])
    if kind is None:
        module.source.fail(note, f"this kernel has no {_GRAPH[base]}")
    module.use_kernel_type(kind)
    return kind, f"{name}:{parts[1].value!s}"


def _tags(module: Module, note: ast.expr) -> tuple[ast.expr, tuple[str, ...]]:
    """``Annotated[u64, "metric:counter", ...]``: what it annotates, and the texts, which become btf_decl_tag attributes."""
    base = getattr(note.value, "id", getattr(note.value, "attr", "")) if isinstance(note, ast.Subscript) else ""
    if not isinstance(note, ast.Subscript) or base != "Annotated" or base in module.names:
        return note, ()
    parts = note.slice.elts if isinstance(note.slice, ast.Tuple) else []
    if len(parts) < 2:
        module.source.fail(note, 'write Annotated[u64, "metric:counter"]: a type, and what is said of it')
    texts = []
    for part in parts[1:]:
        if not isinstance(part, ast.Constant) or not isinstance(part.value, str) or not part.value.isprintable():
            module.source.fail(part, 'what is said of a type is text in a line, such as "metric:counter"')
        texts.append(part.value)
    return parts[0], tuple(texts)


def _field(module: Module, owner: Struct, node: ast.AnnAssign, fields: dict[str, Field]) -> None:
    assert isinstance(node.target, ast.Name)
    name = node.target.id
    if name in fields:
        module.source.fail(node.target, f"{owner.name} has a field {name!r} already")
    if not name.isascii():
        module.source.fail(node.target, "names are ASCII here: the kernel takes no others")
    note, tags = _tags(module, node.annotation)
    annotation = note
    bits = 0
    graph = _graph(module, note)
    if graph is not None:
        fields[name] = Field(name, graph[0], contains=graph[1])
        return
    if isinstance(note, ast.Subscript):
        base = note.value.attr if isinstance(note.value, ast.Attribute) else getattr(note.value, "id", "")
        if isinstance(note.slice, ast.Slice):
            if note.slice.lower is not None or note.slice.step is not None or note.slice.upper is None:
                module.source.fail(note, "a bit-field is written u32[:3]: its type and how many bits it has")
            bits, note = module.constant(note.slice.upper, "the number of bits"), note.value
        elif base == "bits" and isinstance(note.slice, ast.Tuple) and len(note.slice.elts) == 2:
            bits, note = module.constant(note.slice.elts[1], "the number of bits"), note.slice.elts[0]
        if bits or note is not annotation:
            kind = module.annotation(note)
            if not isinstance(kind, Int) or not 0 < bits <= min(kind.bits, 64):
                module.source.fail(node.annotation, f"{show(kind)} has no {bits} bits to give")
            fields[name] = Field(name, kind, bits, tags=tags)
            return
    kind = module.annotation(note)
    if isinstance(kind, MapRef) or kind == VOID:
        module.source.fail(node.annotation, f"{show(kind)} is not a field's type")
    if kind is owner:
        module.source.fail(node.annotation, f"{owner.name} would contain itself: write Ptr[{owner.name}]")
    fields[name] = Field(name, kind, tags=tags)


def _enum(module: Module, node: ast.ClassDef) -> None:
    members: dict[str, int] = {}
    for each in node.body:
        if (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant)) or isinstance(each, ast.Pass):
            continue
        if not isinstance(each, ast.Assign) or len(each.targets) != 1 or not isinstance(each.targets[0], ast.Name):
            module.source.fail(each, "an enum has members only: NAME = 1")
        name = each.targets[0].id
        if name in members:
            module.source.fail(each, f"{node.name} has a member {name!r} already")
        if isinstance(each.value, ast.Name) and each.value.id in members:
            value = members[each.value.id]
        elif isinstance(each.value, ast.Call) and getattr(each.value.func, "id", "") == "auto":
            value = max(members.values(), default=0) + 1
        else:
            value = module.constant(each.value, f"{node.name}.{name}")
        if not -(1 << 63) <= value < 1 << 64:
            module.source.fail(each.value, "this fits no integer type")
        members[name] = value
    if not members:
        module.source.fail(node, "an enum needs a member")
    module.define(node.name, EnumType(node.name, members), node)


# -- variables ----------------------------------------------------------------------------------------------------


def annotated(module: Module, node: ast.AnnAssign) -> None:
    """``name: u64 = 0``, ``limit: Const[u32] = 10``, ``hits: PerCpu[u64] = 0``."""
    if not isinstance(node.target, ast.Name):
        module.source.fail(node.target, "a variable of the module is a name")
    name = node.target.id
    note, tags = _tags(module, node.annotation)
    wrapper, inner = "", note
    if isinstance(note, ast.Subscript):
        base = note.value.attr if isinstance(note.value, ast.Attribute) else getattr(note.value, "id", "")
        if base in ("Const", "PerCpu", "Kconfig", "Ksym") and base not in module.names:
            wrapper, inner = base, note.slice
        if base == "Final":
            assigned(module, ast.copy_location(ast.Assign([node.target], node.value or ast.Constant(0)), node))
            return
        if base in MAP_CLASSES and base not in module.names and isinstance(node.value, ast.Call):
            call = ast.copy_location(ast.Call(note, node.value.args, node.value.keywords), node.value)
            _map(module, name, node, call, base, tags)
            return
    if isinstance(note, ast.Name) and note.id == "Final":
        assigned(module, ast.copy_location(ast.Assign([node.target], node.value or ast.Constant(0)), node))
        return
    if isinstance(note, ast.Name) and note.id in MAP_CLASSES and isinstance(node.value, ast.Call):
        assigned(module, ast.copy_location(ast.Assign([node.target], node.value), node))
        return
    graph = _graph(module, note)
    if graph is not None:
        module.define(name, GlobalVar(name, graph[0], node=node, contains=graph[1]), node)
        return
    kind = module.annotation(inner)
    if kind == VOID or isinstance(kind, MapRef):
        module.source.fail(note, f"{show(kind)} is not a variable's type")
    if isinstance(kind, Struct) and kind.name in ("bpf_spin_lock", "bpf_res_spin_lock") and node.value is None:
        module.define(name, GlobalVar(name, kind, node=node), node)
        return
    if wrapper in ("Kconfig", "Ksym"):
        variable = GlobalVar(
            name, kind, None, node=node, extern="kconfig" if wrapper == "Kconfig" else "ksym", const=True
        )
        module.define(name, variable, node)
        return
    if node.value is None:
        module.source.fail(node, f"a variable has a value from the start: {name}: {show(kind)} = 0")
    value = initial(module, kind, node.value)
    if wrapper == "PerCpu":
        if value not in (0, None):
            module.source.fail(node.value, "a per-CPU variable begins with zeros")
        if size_of(kind) > 32768:
            module.source.fail(note, "a per-CPU variable has at most 32768 bytes")
        found = MapDecl(name, MapType.PERCPU_ARRAY, "PerCpuArray", U32, kind, 1, node=node, per_cpu=True, single=True)
        module.define(name, found, node)
        return
    module.define(name, GlobalVar(name, kind, value, wrapper == "Const", node=node, tags=tags), node)


def initial(module: Module, kind: Type, node: ast.AST) -> object:
    """A variable's value before the program runs; None for zeros. Raises SourceError for what is not constant."""
    source = module.source
    if isinstance(kind, Int) or kind == BOOL:
        value = module.fold(node)
        if not isinstance(value, int):
            source.fail(node, f"{show(kind)} begins with a constant")
        low, high = (0, 1) if not isinstance(kind, Int) else (kind.low, kind.high)
        if not low <= value <= high:
            source.fail(node, f"{value} does not fit {show(kind)}")
        if kind == BOOL and not isinstance(value, bool):
            source.fail(node, "bool begins with True or False")
        return int(value)
    if isinstance(kind, Array):
        text = module.fold(node)
        if isinstance(text, bytes):
            if kind.element not in (U8, S8, CHAR) or len(text) > kind.count:
                source.fail(node, f"this text does not fit {show(kind)}")
            return text
        if isinstance(node, ast.List | ast.Tuple):
            if len(node.elts) > kind.count:
                source.fail(node.elts[kind.count], f"{show(kind)} has {kind.count} elements")
            return [initial(module, kind.element, each) for each in node.elts]
    if isinstance(node, ast.Call) and not node.args and not node.keywords and isinstance(kind, Array | Struct):
        if module.annotation(node.func) == kind:
            return None
    if isinstance(kind, Struct) and isinstance(node, ast.Call) and module.annotation(node.func) is kind:
        result: dict[str, object] = {}
        names = list(kind.fields)
        for position, each in enumerate(node.args):
            if position >= len(names):
                source.fail(each, f"{kind.name} has {len(names)} fields")
            result[names[position]] = initial(module, kind.fields[names[position]].type, each)
        for keyword in node.keywords:
            field = kind.fields.get(str(keyword.arg))
            if field is None:
                source.fail(
                    keyword, f"{kind.name} has no field {keyword.arg!r}{did_you_mean(str(keyword.arg), kind.fields)}"
                )
            result[field.name] = initial(module, field.type, keyword.value)
        return result
    if isinstance(kind, Opt | Ptr) and isinstance(node, ast.Constant) and node.value is None:
        return None
    if (
        isinstance(node, ast.Constant)
        and node.value == 0
        and not isinstance(node.value, bool)
        and isinstance(kind, Array | Struct)
    ):
        source.fail(node, f"write {show(kind)}() for zeros")
    source.fail(
        node, f"{show(kind)} does not begin with this: write a constant, a list of constants or {show(kind)}(...)"
    )


def assigned(module: Module, node: ast.Assign) -> None:
    """A map, or a constant."""
    if len(node.targets) != 1 or not isinstance(node.targets[0], ast.Name):
        module.source.fail(node.targets[-1], "one name is defined at a time")
    name = node.targets[0].id
    if name == "__all__":
        return
    value = node.value
    if isinstance(value, ast.Call):
        target = value.func.value if isinstance(value.func, ast.Subscript) else value.func
        base = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
        if base in MAP_CLASSES and base not in module.names:
            _map(module, name, node, value, base)
            return
        if base == "StructOps":
            _struct_ops(module, name, value)
            return
        if base == "TypeVar":
            return
    constant = module.fold(value)
    if constant is not None:
        module.define(name, constant, node)
        return
    if isinstance(value, ast.Name | ast.Subscript | ast.Attribute):
        kind = module.annotation(value)
        module.define(name, kind, node)  # another name for a type
        return
    if isinstance(value, ast.Call):
        known = [*MAP_CLASSES]
        target = value.func.value if isinstance(value.func, ast.Subscript) else value.func
        base = getattr(target, "id", "")
        module.source.fail(
            value,
            f"{base or 'this'} is not a map{did_you_mean(base, known)}; a variable needs an annotation: {name}: u64 = 0",
        )
    module.source.fail(value, f"this is not a constant; a variable needs an annotation: {name}: u64 = 0")


# -- maps ---------------------------------------------------------------------------------------------------------


def _map(module: Module, name: str, node: ast.AST, call: ast.Call, base: str, tags: tuple[str, ...] = ()) -> None:
    found = map_from_call(module, name, call, base)
    found.tags = tags
    module.define(name, found, node)


def map_from_call(module: Module, name: str, call: ast.Call, base: str) -> MapDecl:
    """``Hash[u32, u64](max_entries=1024)``."""
    source = module.source
    if isinstance(call.func, ast.Subscript):
        found = module.map_type(call.func, base)
    else:
        found = MapDecl("", MAP_CLASSES[base], base, None, None)
        takes = map_parameters(found.kind)
        if takes and found.kind not in (MapType.RINGBUF, MapType.USER_RINGBUF):
            source.fail(
                call.func,
                f"what does it hold? {base}[{', '.join(_EXAMPLES[each] for each in takes)}](...)",
            )
        fixed_key(found)
    found.name, found.node = name, call
    if call.args:
        source.fail(call.args[0], "a map's options have names: max_entries=1024")
    for keyword in call.keywords:
        _option(module, found, keyword)
    _check_map(module, found, call)
    return found


def _option(module: Module, found: MapDecl, keyword: ast.keyword) -> None:
    source, name, value = module.source, keyword.arg, keyword.value
    ring = found.kind in (MapType.RINGBUF, MapType.USER_RINGBUF)
    if name == "max_entries" or (name == "size" and ring):
        found.max_entries = module.constant(value, str(name))
        if not 0 <= found.max_entries < 1 << 32:
            source.fail(value, f"{name} is from 1 to 2**32 - 1")
    elif name == "flags":
        found.flags = module.constant(value, "flags") if not _flag_names(value) else _flags(module, value)
        if not 0 <= found.flags < 1 << 32:
            source.fail(value, "flags are 32 bits")
    elif name == "pinning":
        if not isinstance(value, ast.Constant) or value.value not in (True, False, "by_name"):
            source.fail(value, "pinning is True or False: the map is pinned by its name")
        found.pinning = bool(value.value)
    elif name == "inner" and found.inner is not None:
        found.inner = _inner(module, value)
    elif name == "values":
        _values(module, found, value)
    elif name in ("map_extra", "numa_node"):
        found.extra[name] = module.constant(value, name)
        if not 0 <= found.extra[name] < 1 << 64:
            source.fail(value, f"{name} is not negative, and has 64 bits at most")
    elif name == "hashes" and found.kind == MapType.BLOOM_FILTER:
        found.extra["map_extra"] = module.constant(value, "hashes")
        if not 0 < found.extra["map_extra"] < 16:
            source.fail(value, "a Bloom filter has 1 to 15 hashes")
    else:
        known = ["max_entries", "flags", "pinning", "values", "map_extra", "numa_node", "inner", "size"]
        source.fail(keyword, f"{found.kind_name} has no option {name!r}{did_you_mean(str(name), known)}")


def _flag_names(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Name) and each.id in MapFlags.__members__ for each in ast.walk(node))


def _flags(module: Module, node: ast.AST) -> int:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _flags(module, node.left) | _flags(module, node.right)
    if isinstance(node, ast.Name) and node.id in MapFlags.__members__:
        return int(MapFlags[node.id])
    return module.constant(node, "flags")


def _inner(module: Module, node: ast.AST) -> MapDecl:
    if isinstance(node, ast.Call):
        target = node.func.value if isinstance(node.func, ast.Subscript) else node.func
        base = getattr(target, "id", getattr(target, "attr", ""))
        if base in MAP_CLASSES:
            return map_from_call(module, "", node, base)
    if isinstance(node, ast.Name) and isinstance(module.names.get(node.id), MapDecl):
        found: MapDecl = module.names[node.id]
        return found
    module.source.fail(node, "inner is a map: inner=Hash[u32, u64](max_entries=16)")


def _values(module: Module, found: MapDecl, node: ast.AST) -> None:
    if found.kind not in (MapType.PROG_ARRAY, MapType.ARRAY_OF_MAPS, MapType.HASH_OF_MAPS):
        module.source.fail(node, f"the values of a {found.kind_name} are written when it exists")
    if isinstance(node, ast.List | ast.Tuple):
        items: list[tuple[int, ast.AST]] = list(enumerate(node.elts))
    elif isinstance(node, ast.Dict):
        items = [
            (module.constant(key or node, "an index"), value) for key, value in zip(node.keys, node.values, strict=True)
        ]
    else:
        module.source.fail(node, "values are a list, or a dict by index")
    for index, value in items:
        if isinstance(value, ast.Constant) and value.value is None:
            continue
        if not isinstance(value, ast.Name):
            module.source.fail(value, "a value is the name of a map or program of this module")
        if not 0 <= index < 1 << 20:
            module.source.fail(value, f"index {index}")
        found.values.append((index, value))


def resolve_values(module: Module, found: MapDecl) -> None:
    """Names of maps and programs, which may be defined further below. Raises SourceError."""
    resolved: list[tuple[int, object]] = []
    for index, node in found.values:
        if not isinstance(node, ast.Name):
            resolved.append((index, node))
            continue
        thing = module.names.get(node.id)
        wanted = Function if found.kind == MapType.PROG_ARRAY else MapDecl
        if not isinstance(thing, wanted):
            module.source.fail(
                node, f"{node.id!r} is not a {'program' if wanted is Function else 'map'} of this module"
            )
        if isinstance(thing, Function) and thing.kind != "program":
            module.source.fail(node, f"{node.id!r} is a function, not a program: only programs are tail-called")
        if found.max_entries is not None and index >= found.max_entries:
            module.source.fail(node, f"max_entries is {found.max_entries}, so there is no [{index}]")
        resolved.append((index, thing))
    found.values = resolved
    first = next((each for _, each in resolved if isinstance(each, MapDecl)), None)
    if found.inner is not None and found.inner.max_entries is None and found.inner.kind not in _NO_ENTRIES:
        if first is None:
            module.source.fail(
                found.node or module.source.tree,
                f"how large are the maps in it? inner={found.inner.kind_name}[...](max_entries=64)",
            )
        found.inner = first


def check_struct_ops(module: Module, variable: GlobalVar) -> None:
    """The functions of a struct that the kernel calls are programs of the module. Raises SourceError."""
    if not variable.section or not isinstance(variable.node, ast.Call):
        return
    for keyword in variable.node.keywords:
        given = keyword.value
        if (
            isinstance(given, ast.Name)
            and isinstance(variable.value, dict)
            and variable.value.get(keyword.arg) == given.id
        ):
            found = module.names.get(given.id)
            if (
                not isinstance(found, Function)
                or found.kind != "program"
                or not found.section.lstrip("?").startswith("struct_ops")
            ):
                programs = [name for name, each in module.names.items() if isinstance(each, Function)]
                module.source.fail(
                    given, f"{given.id!r} is not a @struct_ops program of this module{did_you_mean(given.id, programs)}"
                )
            variable.value[str(keyword.arg)] = found.name


def arena_pointers(things: list[object]) -> None:
    """Where there is an arena, the structs and variables of the program point into it."""
    if not any(isinstance(each, MapDecl) and each.kind == MapType.ARENA for each in things):
        return
    owners: list[Field | GlobalVar] = [each for each in things if isinstance(each, GlobalVar)]
    for each in things:
        owners += each.fields.values() if isinstance(each, Struct) and not each.kernel else []
    for owner in owners:
        kind = owner.type.pointer if isinstance(owner.type, Opt) else owner.type
        if isinstance(kind, Ptr) and not (isinstance(kind.target, Struct) and kind.target.kernel):
            pointer = Ptr(kind.target, arena=True)
            owner.type = Opt(pointer) if isinstance(owner.type, Opt) else pointer


def _check_map(module: Module, found: MapDecl, node: ast.Call) -> None:
    source = module.source
    kind = found.kind
    if kind in _STORAGE or kind == MapType.LPM_TRIE:
        found.flags |= MapFlags.NO_PREALLOC
    if kind == MapType.ARENA:
        found.flags |= MapFlags.MMAPABLE
    if kind in (MapType.RINGBUF, MapType.USER_RINGBUF):
        size = found.max_entries
        if size is None:
            source.fail(node, f"how large is it? {found.kind_name}[...](size=1 << 16), in bytes")
        if size & (size - 1) or size < 4096:
            source.fail(node, f"the size of a ring buffer is a power of 2 and at least a page (4096): {size} is not")
    elif found.max_entries is None and kind not in _NO_ENTRIES:
        source.fail(node, f"how many? {found.kind_name}[...](max_entries=1024)")
    elif found.max_entries == 0 and kind not in (*_NO_ENTRIES, MapType.PERF_EVENT_ARRAY):
        source.fail(node, "max_entries is at least 1")
    if (
        kind in (MapType.ARRAY, MapType.PERCPU_ARRAY, MapType.ARRAY_OF_MAPS, MapType.DEVMAP, MapType.CPUMAP)
        and found.key is not None
    ):
        if size_of(found.key) != 4 or not isinstance(found.key, Int):
            source.fail(node.func, f"the key of an array is its index, a u32: {found.kind_name}[u32, ...]")
    if kind == MapType.LPM_TRIE and isinstance(found.key, Struct):
        first = next(iter(found.key.fields.values()))
        if first.type != U32:
            source.fail(node.func, f"the key of an LpmTrie begins with the prefix's length: {first.name} must be u32")
    elif kind == MapType.LPM_TRIE:
        source.fail(node.func, "the key of an LpmTrie is a Struct: prefixlen: u32, then the address")


def _struct_ops(module: Module, name: str, call: ast.Call) -> None:
    if not isinstance(call.func, ast.Subscript):
        module.source.fail(call, "name the struct: StructOps[tcp_congestion_ops](...)")
    kind = module.annotation(call.func.slice)
    if not isinstance(kind, Struct) or not kind.kernel:
        module.source.fail(call.func, "StructOps[...] takes a struct of the kernel")
    values: dict[str, object] = {}
    for keyword in call.keywords:
        field = kind.fields.get(str(keyword.arg))
        if field is None:
            module.source.fail(
                keyword, f"{kind.name} has no field {keyword.arg!r}{did_you_mean(str(keyword.arg), kind.fields)}"
            )
        values[field.name] = (
            keyword.value.id
            if isinstance(keyword.value, ast.Name) and isinstance(field.type, Ptr)
            else initial(module, field.type, keyword.value)
        )
    module.define(name, GlobalVar(name, kind, values, section=".struct_ops.link", node=call), call)
