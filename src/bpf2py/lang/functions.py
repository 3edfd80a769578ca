"""Functions: their decorators, parameters and the order in which they call each other."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable

from bpf2py.lang.hooks_table import HOOKS, context_struct, macro_of
from bpf2py.lang.module import Module
from bpf2py.lang.source import Source, did_you_mean
from bpf2py.lang.tree import Function, Local
from bpf2py.lang.types import S32, U64, VOID, Array, Int, MapRef, Opt, Ptr, Struct, Type, show
from bpf2py.uapi.program_types import ProgramType
from bpf2py.uapi.sections import SectionDef, match

__all__ = ["by_calls", "check_signature", "declare", "in_order", "refuse_deep_stacks", "refuse_recursion"]

_KINDS = {"subprogram": "subprogram", "global_function": "global", "inline": "inline"}
_MOST_PARAMETERS = 5


def declare(module: Module, node: ast.FunctionDef) -> None:
    """A function's name and kind; its types are looked at when all names are known."""
    function = Function(node.name, "inline", node)
    if node.name == "main" and not node.decorator_list:
        return  # what the file does when it is run as a script
    for decorator in node.decorator_list:
        _decorate(module, function, decorator)
    if len(node.decorator_list) > 1 and function.kind != "program":
        module.source.fail(node.decorator_list[1], "a function has one decorator")
    module.define(node.name, function, node)


def _decorate(module: Module, function: Function, node: ast.expr) -> None:
    target = node.func if isinstance(node, ast.Call) else node
    name = target.id if isinstance(target, ast.Name) else target.attr if isinstance(target, ast.Attribute) else ""
    if name in _KINDS and not isinstance(node, ast.Call):
        function.kind = _KINDS[name]
        return
    text, autoload = "", True
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg != "autoload" or not isinstance(keyword.value, ast.Constant):
                module.source.fail(keyword, "a hook has one option: autoload=False")
            autoload = bool(keyword.value.value)
        for each in node.args:
            if not (isinstance(each, ast.Constant) and isinstance(each.value, str)) or text:
                module.source.fail(each, "a hook takes one text: where the program is attached")
            text = each.value
            if not text.isprintable() or '"' in text or "\\" in text:
                module.source.fail(each, "this is not a name that the kernel could have")
    if name == "c_function":
        if not text or not autoload:
            module.source.fail(node, '@c_function("header.h") names the header that defines the function')
        beside = os.path.join(os.path.dirname(os.path.abspath(module.source.path)), text)
        module.program.headers.add(f'"{beside}"' if os.path.isfile(beside) else f"<{text}>")
        function.kind = "c"
        return
    if name == "section":
        if not text:
            module.source.fail(node, 'section("...") takes the name of an ELF section')
        section = text
    elif name in HOOKS:
        definition = HOOKS[name]
        if text and not definition.prefix:
            module.source.fail(node, f"@{name} takes no target: say where when you attach the program")
        section = f"{definition.name}/{text}" if text else definition.name
    else:
        known = [*HOOKS, *_KINDS, "c_function", "section"]
        module.source.fail(
            node,
            f"there is no hook {name!r}{did_you_mean(name, known)}: there are hooks, @subprogram, "
            "@global_function, @c_function, @section",
        )
    if function.kind == "program":
        module.source.fail(node, "a program has one hook: write a function that both programs call")
    function.kind = "program"
    function.section = section if autoload else f"?{section}"
    found = match(function.section)
    if found is None and name != "section":
        module.source.fail(node, f"{section!r} is not a section that names a program")
    function.definition = found.definition if found is not None else None


def check_signature(module: Module, function: Function) -> None:
    """Parameters and result. Raises SourceError."""
    node, source = function.node, module.source
    given = node.args
    for each in [*given.posonlyargs, *given.kwonlyargs, *filter(None, [given.vararg, given.kwarg])]:
        if each in given.posonlyargs:
            continue
        source.fail(each, "parameters are plain names: no *args, **kwargs or keyword-only ones")
    if given.defaults:
        source.fail(given.defaults[0], "parameters have no defaults: pass every argument")
    parameters = [*given.posonlyargs, *given.args]
    if function.kind == "program":
        _program(module, function, parameters)
    else:
        for each in parameters:
            if each.annotation is None:
                source.fail(each, f"{each.arg!r} needs an annotation, such as {each.arg}: u64")
            kind = module.annotation(each.annotation)
            if isinstance(kind, Struct | Array):
                source.fail(each.annotation, f"a {show(kind)} is passed by its address: write Ptr[{show(kind)}]")
            function.parameters.append(Local(each.arg, _context(module, each, kind), True, each))
        if function.kind in ("subprogram", "global", "c") and len(parameters) > _MOST_PARAMETERS:
            source.fail(
                parameters[_MOST_PARAMETERS],
                f"a function that is called, not inlined, has at most {_MOST_PARAMETERS} parameters",
            )
        function.returns = VOID if node.returns is None else module.annotation(node.returns)
        if isinstance(function.returns, Struct | Array):
            source.fail(node.returns or node, "a struct is not returned: pass a Ptr to it, which the function fills")
        if function.kind == "global" and isinstance(function.returns, Ptr | Opt):
            source.fail(node.returns or node, "a global function returns an integer")
    names = [each.arg for each in parameters]
    for each in parameters:
        if names.count(each.arg) > 1:
            source.fail(each, f"two parameters are named {each.arg!r}")


def _context(module: Module, each: ast.arg, kind: Type) -> Type:
    return kind


def _is_context(each: ast.arg) -> bool:
    note = each.annotation
    if isinstance(note, ast.Constant) and isinstance(note.value, str):
        return note.value.endswith("Context")
    name = note.id if isinstance(note, ast.Name) else note.attr if isinstance(note, ast.Attribute) else ""
    return name.endswith("Context")


def _program(module: Module, function: Function, parameters: list[ast.arg]) -> None:
    node, source, definition = function.node, module.source, function.definition
    target = ""
    if definition is not None:
        found = match(function.section)
        target = found.target if found is not None else ""
    function.returns = VOID if node.returns is None else module.annotation(node.returns)
    if isinstance(function.returns, Int) and function.returns.bits == 64 and function.returns.signed:
        function.returns = S32
    if function.returns != VOID and not isinstance(function.returns, Int):
        source.fail(node.returns or node, "a program returns an int")
    macro = macro_of(definition) if definition is not None else ""
    context = _context_type(module, definition, target)
    function.context = Ptr(context) if context is not None else Ptr(VOID)
    rest = list(parameters)
    first = rest[0] if rest else None
    if first is not None and (_is_context(first) or first.arg == "ctx" or not macro):
        kind: Type = function.context
        if first.annotation is not None and not _is_context(first):
            kind = module.annotation(first.annotation)
            if not isinstance(kind, Ptr):
                source.fail(first.annotation, "a program is given its context: annotate it as one, such as XdpContext")
            kind = Ptr(kind.target)
            function.context = kind
        elif (
            context is None
            and not macro
            and definition is not None
            and definition.program_type == ProgramType.TRACEPOINT
        ):
            kind = Ptr(VOID)
        function.parameters.append(Local(first.arg, kind, True, first))
        rest = rest[1:]
    if not rest:
        return
    if not macro:
        source.fail(rest[0], f"programs of this hook are given one thing, their context: {function.name}(ctx)")
    function.macro = macro
    known = _arguments(module, definition, target)
    trusted = macro == "BPF_PROG" and definition is not None and definition.program_type in (
        ProgramType.TRACING, ProgramType.LSM, ProgramType.STRUCT_OPS)  # fmt: skip
    if macro == "BPF_KRETPROBE" and len(rest) > 1:
        source.fail(rest[1], "a return probe is given one thing, what the function returned")
    if known is not None and len(rest) > len(known) and macro != "BPF_KRETPROBE":
        names = ", ".join(name for name, _ in known) or "no arguments"
        source.fail(rest[len(known)], f"{target} has {len(known)} arguments ({names})")
    for position, each in enumerate(rest):
        expected = (
            known[position][1] if known is not None and position < len(known) and macro != "BPF_KRETPROBE" else None
        )
        if each.annotation is None:
            if expected is None:
                source.fail(each, f"{each.arg!r} needs an annotation, such as {each.arg}: u64")
            kind = expected
        else:
            kind = module.annotation(each.annotation)
            _compare(module, each, kind, expected, target)
        if isinstance(kind, Opt):
            kind = Opt(Ptr(kind.pointer.target, not trusted))
        elif isinstance(kind, Ptr):
            kind = Ptr(kind.target, not trusted)
        if isinstance(kind, Struct | Array | MapRef):
            source.fail(each, f"{show(kind)} is not passed to programs: annotate a pointer")
        for used in (kind.pointer if isinstance(kind, Opt) else kind,):
            if isinstance(used, Ptr):
                module.use_kernel_type(used.target)
        function.parameters.append(Local(each.arg, kind, True, each))


def _compare(module: Module, each: ast.arg, kind: Type, expected: Type | None, target: str) -> None:
    if expected is None:
        return
    own = kind.pointer if isinstance(kind, Opt) else kind
    wrong = isinstance(own, Ptr) != isinstance(expected, Ptr)
    if isinstance(own, Ptr) and isinstance(expected, Ptr):
        a, b = own.target, expected.target
        wrong = isinstance(a, Struct) and isinstance(b, Struct) and a.name != b.name and a.kernel and bool(b.name)
    if isinstance(expected, Ptr) and isinstance(own, Int) and own.bits == 64:
        wrong = False  # an address
    if wrong:
        module.source.fail(
            each.annotation or each,
            f"argument {each.arg!r} of {target} is {show(expected)} in this kernel, not {show(kind)}",
        )


def _arguments(module: Module, definition: SectionDef | None, target: str) -> list[tuple[str, Type]] | None:
    """What the kernel's BTF says a hook is given; None where it does not know."""
    if definition is None or not target:
        return None
    kernel, name = module.kernel, definition.name
    if name in ("tp_btf", "raw_tp", "raw_tracepoint", "raw_tp.w", "raw_tracepoint.w"):
        return kernel.tracepoint(target)
    if name.startswith("struct_ops"):
        return None
    function = target.partition("+")[0].rpartition(":")[2]
    if name.startswith("lsm"):
        found = kernel.function(f"bpf_lsm_{function}")
    elif (
        name.startswith(("fentry", "fexit", "fmod_ret", "fsession", "kprobe"))
        and "multi" not in name
        and "*" not in function
    ):
        found = kernel.function(function)
    else:
        return None
    if found is None:
        return None
    parameters = list(found[0])
    if name.startswith(("fexit", "fmod_ret", "lsm")):
        parameters.append(("ret", found[1] if found[1] != VOID else U64))
    return parameters


def _context_type(module: Module, definition: SectionDef | None, target: str) -> Type | None:
    if definition is None:
        return None
    for name in context_struct(definition, target):
        found = module.kernel.named(name)
        if isinstance(found, Struct):
            module.use_kernel_type(found)
            return found
    return None


def refuse_recursion(source: Source, functions: list[Function]) -> None:
    """Raises SourceError with the chain of calls where a function reaches itself."""
    by_name = {each.name: each for each in functions}
    done: set[str] = set()

    def walk(name: str, chain: list[str]) -> None:
        if name in chain:
            circle = " calls ".join([*chain[chain.index(name) :], name])
            source.fail(by_name[name].node, f"recursion: {circle}; the kernel's stack is small, so write a loop")
        if name in done:
            return
        for each in sorted(by_name[name].direct):
            if each in by_name:
                walk(each, [*chain, name])
        done.add(name)

    for function in functions:
        walk(function.name, [])


def refuse_deep_stacks(source: Source, functions: list[Function], most: int) -> None:
    """Raises SourceError where functions that call each other have more variables than the stack holds."""
    by_name = {each.name: each for each in functions}

    def frame(function: Function) -> int:
        """What one frame holds at least: what is compiled into a function lies in its frame."""
        inlined = [by_name[name] for name in function.direct & by_name.keys() if by_name[name].kind == "inline"]
        return max([function.stack, *map(frame, inlined)])

    def called(function: Function) -> set[str]:
        found = set()
        for name in function.direct & by_name.keys():
            found |= called(by_name[name]) if by_name[name].kind == "inline" else {name}
        return found

    def deepest(function: Function) -> tuple[int, list[str]]:
        below = [deepest(by_name[name]) for name in sorted(called(function))]
        size, chain = max(below, default=(0, []))
        return frame(function) + size, [function.name, *chain]

    for function in functions:
        if function.kind == "program":
            size, chain = deepest(function)
            if size > most:
                source.fail(
                    function.node,
                    f"the variables of {' and '.join(chain)}, which call each other, take {size} bytes, and the stack has {most} "
                    "for all of them: keep large ones in a map, as in scratch = PerCpuArray[u32, Big](max_entries=1)",
                )


def by_calls(functions: list[Function], mentioned: Callable[[Function, str], Function | None]) -> list[Function]:
    """Functions so that each comes after those that it mentions: what they do is known when it is checked.

    Args:
        functions: those of the whole program.
        mentioned: which function a name in a function's body means.
    """
    out: list[Function] = []
    open_: set[str] = set()

    def add(function: Function) -> None:
        if function in out or function.name in open_:
            return
        open_.add(function.name)
        for each in ast.walk(function.node):
            found = mentioned(function, each.id) if isinstance(each, ast.Name) else None
            if found is not None:
                add(found)
        out.append(function)

    for function in functions:
        add(function)
    return out


def in_order(functions: list[Function]) -> list[Function]:
    """Functions so that each comes after those it calls, and otherwise as they stand in the file."""
    by_name = {each.name: each for each in functions}
    out: list[Function] = []
    begun: set[str] = set()  # timers may start each other

    def add(function: Function) -> None:
        if function.name in begun:
            return
        begun.add(function.name)
        for name in sorted(function.calls, key=lambda n: list(by_name).index(n) if n in by_name else 0):
            if name in by_name and name != function.name:
                add(by_name[name])
        out.append(function)

    for function in functions:
        add(function)
    return out
