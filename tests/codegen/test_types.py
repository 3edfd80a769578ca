"""Types of generated modules: typedefs, anonymous types, enums, and what values of their classes can do."""

from __future__ import annotations

import copy
import enum
import importlib.util
import inspect
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest

import bpf2py
from bpf2py.btf.values import StructValue, UnionValue
from bpf2py.codegen.build import Request, produce, write
from bpf2py.codegen.runtime import LoadOptions
from bpf2py.engine import Engine
from bpf2py.errors import BpfError, ObjectError

SOURCE = (Path(__file__).parent / "odd.bpf.c").read_text()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("types")
    (found / "odd.bpf.c").write_text(SOURCE)
    write(produce(Request("odd", found / "odd.bpf.c", found, types=("plain_t", "__u64"))))
    return found


@pytest.fixture(scope="module")
def odd(directory: Path) -> Iterator[Any]:
    sys.path.insert(0, str(directory))
    try:
        yield importlib.import_module("odd_bpfel")
    finally:
        sys.path.remove(str(directory))
        del sys.modules["odd_bpfel"]


@pytest.fixture
def obj(odd: Any) -> Iterator[Any]:
    with odd.Objects.load(Engine()) as loaded:
        yield loaded


def test_typedefs_are_aliases_or_name_their_type(odd: Any) -> None:
    assert (odd.PidType, odd.TgidType, odd.CommT, odd.MacT, odd.IdsT) == (int, int, str, bytes, list[int])
    assert odd.MyEventT is odd.EventT
    assert odd.NamedT is odd.Named
    assert (odd.EventT.__name__, odd.StateT.__name__, odd.AddrT.__name__) == ("EventT", "StateT", "AddrT")
    assert issubclass(odd.EventT, StructValue)
    assert issubclass(odd.AddrT, UnionValue)
    assert hasattr(odd, "Same")
    # What only says how wide a number is would be noise, unless it is asked for.
    assert not {"U32", "Uint"} & vars(odd).keys()
    assert odd.U64 is int
    assert odd.PlainT is odd.Plain
    assert get_type_hints(odd.Big)["mine"] == list[odd.EventT]
    assert "event: EventT" in inspect.getsource(odd.Big)
    assert "pid: PidType" in inspect.getsource(odd.EventT)


def test_arrays_are_tuples_in_keys_alone(odd: Any, obj: Any) -> None:
    assert "by_ids: HashMap[tuple[U64, ...], IdsT] = " in inspect.getsource(odd.Maps)
    obj.maps.by_ids[1, 2, 3, 4] = [5, 6, 7, 8]
    assert dict(obj.maps.by_ids.items()) == {(1, 2, 3, 4): [5, 6, 7, 8]}


def test_types_without_a_name_are_called_after_their_place(odd: Any) -> None:
    value = odd.Big(inner=[[odd.BigInner(x=i * 2 + j, deep=odd.BigInnerDeep(y=7)) for j in range(2)] for i in range(3)])
    again = odd.Big._codec.decode(bytes(value))
    assert again == value
    assert [type(item) for row in again.inner for item in row] == [odd.BigInner] * 6
    assert type(again.inner[2][1].deep) is odd.BigInnerDeep
    assert type(again.inner[0][0].how) is odd.BigInnerHow
    assert type(again.pair) is odd.BigPair
    assert type(again.addr.parts) is odd.AddrTParts
    assert odd.Config(c1=3, sub=odd.ConfigSub(c2=4)).sub.c2 == 4
    assert type(odd.Objects.spec().variables["config"].value) is odd.Config


def test_enums_are_those_of_the_module_everywhere(odd: Any, obj: Any) -> None:
    obj.maps.states[1] = odd.StateT.ON
    assert obj.maps.states[1] is odd.StateT.ON
    obj.maps.states[2] = 77  # C takes any number
    unnamed = obj.maps.states[2]
    assert (unnamed, type(unnamed), unnamed.name, repr(unnamed)) == (77, odd.StateT, "77", "<StateT.77: 77>")
    assert [type(value) for value in obj.maps.states] == [odd.StateT] * 4
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(unnamed, protocol)) == 77
        assert unnamed.__reduce_ex__(protocol) == (type(unnamed), (77,))  # not by its name, whatever the Python
    obj.maps.class_[odd.Wide.WIDE_BIG] = odd.Kind2(Kind=1)
    assert next(iter(obj.maps.class_)) is odd.Wide.WIDE_BIG
    value = odd.Big(states=[odd.StateT.ON, 9], wides=[odd.Wide._WIDE_MIN, 0], bits=odd.StateT.ON, wide_bits=-1)
    assert value.state is odd.StateT.OFF
    again = odd.Big._codec.decode(bytes(value))
    assert [type(item) for item in (*again.states, *again.wides)] == [odd.StateT] * 2 + [odd.Wide] * 2
    assert again.bits is odd.StateT.ON
    assert again.wide_bits is odd.Wide._WIDE_MIN
    assert obj.variables.mode.value is odd.Mode.V_B
    assert issubclass(odd.StateT, enum.IntEnum)
    assert odd.Wide.real_.real == odd.Wide.mro_ - 1
    # numpy has numbers.
    assert obj.maps.states.to_numpy().dtype == np.dtype("<u4")
    assert obj.maps.states.to_numpy().tolist() == [0, 3, 77, 0]
    with pytest.raises(ValueError, match="is not a valid StateT"):
        odd.StateT("on")


def test_the_plain_library_keeps_its_own_enums(directory: Path, odd: Any) -> None:
    with bpf2py.load(directory / "odd_bpfel.o", Engine()) as loaded:
        loaded.maps["states"][1] = 3
        value = loaded.maps["states"][1]
        assert value.name == "ON"
        assert type(value) is not odd.StateT
        assert loaded.maps["states"][2] == 0
        loaded.maps["states"][2] = 77
        assert type(loaded.maps["states"][2]) is int


def test_classes_are_ordinary_ones(odd: Any) -> None:
    assert odd.EventT.__module__ == "odd_bpfel"
    text = inspect.cleandoc(odd.EventT.__doc__)  # as Python 3.13 keeps it
    assert "    typedef struct {  /* 8 bytes */\n        __u32 a;  /* 0 */" in text
    assert "WIDE_BIG = 1099511627776" in odd.Wide.__doc__
    assert odd.BigInner.__doc__.startswith("Type of inner in struct big.")
    assert not hasattr(odd, "Nothing")
    assert not hasattr(odd.EventT(), "__dict__")
    with pytest.raises(AttributeError):
        odd.EventT().misspelt = 1


def test_pickle_and_copy(odd: Any, obj: Any) -> None:
    value = odd.Big(
        event=odd.EventT(a=1), s=odd.Same(q=5), pair=odd.BigPair(s1=-2), addr=odd.AddrT(v4=7), ids=[1, 2, 3, 4]
    )
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(value, protocol))
        assert again == value
        assert type(again) is odd.Big
        assert bytes(again) == bytes(value)
    shallow, deep = copy.copy(value), copy.deepcopy(value)
    assert shallow == deep == value
    assert shallow.event is value.event
    shallow.u1 = deep.u1 = 99  # members of an anonymous union belong to the struct
    deep.event.a = 55
    deep.addr.v4 = 56
    assert (value.u1 & 0xFFFF, value.event.a, value.addr.v4) == (0xFFFE, 1, 7)
    assert value._replace(comm="x").comm == "x"
    assert pickle.loads(pickle.dumps(odd.AddrT(v4=3))).v4 == 3
    # Keys have tuples and every byte; they are of the same classes.
    obj.maps.found[odd.LookupT(ids=(1, 2, 3, 4), comm=b"a\0b", addr=odd.AddrT(text=b"a\0b"))] = value
    (key,) = obj.maps.found
    assert type(key) is odd.LookupT
    assert isinstance(key.addr, odd.AddrT)
    assert (key.comm, key.addr.text) == ("a\0b", "a\0b")
    assert odd.AddrT(text=b"a\0b").text == "a"  # values end at the first NUL, as ever
    copies = (copy.copy(key), copy.deepcopy(key), pickle.loads(pickle.dumps(key)), key._replace(pad=0))
    assert {bytes(each) for each in copies} == {bytes(key)}
    assert [each.comm for each in copies] == ["a\0b"] * 4
    assert all(obj.maps.found[each] == value for each in copies)


def test_unpickling_needs_no_object_read_before(odd: Any, directory: Path) -> None:
    data = pickle.dumps([odd.Big(u1=5), odd.AddrT(v4=3)])
    code = f"import pickle; big, addr = pickle.loads({data!r}); print(big.u1, addr.v4)"
    done = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True, check=False)
    assert done.stdout == "5 3\n", done.stderr


def test_match_statements(odd: Any) -> None:
    match odd.Big(event=odd.EventT(1, 2), state=odd.StateT.ON, addr=odd.AddrT(v4=9)):
        case odd.Big(odd.EventT(1, pid), state=odd.StateT.ON, addr=odd.AddrT(v4=v4)):
            assert (pid, v4) == (2, 9)
        case _:
            pytest.fail("no match")


def test_members_with_the_names_of_other_things(odd: Any) -> None:
    value = odd.Link2(self=1, str=2, name="abc", list=[3, 4], builtins=5, Any=6, others=7)
    assert (value.self, value.str, value.name, value.list) == (1, 2, "abc", [3, 4])
    setattr(value, "__state", 8)
    value["_asdict"] = 9
    assert getattr(odd.Link2._codec.decode(bytes(value)), "__state") == 8
    assert value._asdict_ == 9
    assert odd.Kind2(Kind=1).Kind == 1


def test_names_are_constants(odd: Any) -> None:
    assert odd.MAP_FOUND == "found"
    assert odd.MAP_CLASS_ == "class"
    assert odd.PROGRAM_RUN == "run"
    assert odd.VARIABLE_RUN_COUNTER == "run.counter"
    spec = odd.Objects.spec()
    constants = {name: value for name, value in vars(odd).items() if name.startswith(("MAP_", "PROGRAM_", "VARIABLE_"))}
    assert set(constants.values()) == {n for n in spec.maps if n[0] != "."} | set(spec.programs) | set(spec.variables)


def test_changes_of_the_spec_are_arguments(odd: Any) -> None:
    with odd.Objects.load(
        Engine(),
        max_entries={odd.MAP_FOUND: 3, "class": 4},
        variables={"target": 100, "config": odd.Config(c1=50), odd.VARIABLE_MODE: odd.Mode.V_A},
        autoload={"a_program_with_a_name_that_makes_lines_long_but_not_too_long_for_anybody": False},
        change=lambda spec: setattr(spec.maps["class"], "max_entries", 5),  # has the last word
    ) as loaded:
        assert (loaded.maps.found.max_entries, loaded.maps.class_.max_entries) == (3, 5)
        assert loaded.variables.config.value.c1 == 50
        assert loaded.programs.run.test_run().return_value == 50 + 0 + 100 + 4 + 2
        with pytest.raises(KeyError, match="was not loaded"):
            loaded.programs.a_program_with_a_name_that_makes_lines_long_but_not_too_long_for_anybody.test_run()
    for argument in ("max_entries", "variables", "autoload"):
        with pytest.raises(KeyError, match="'run_'; there are"):
            odd.Objects.load(Engine(), **{argument: {"run_": 1}})
    assert odd.Objects.spec().maps["found"].max_entries == 8


def test_load_passes_every_option_on(odd: Any) -> None:
    own = {
        "source",
        "backend",
        "cflags",
        "chars",
        "variables",
        "max_entries",
        "autoload",
    }  # the last three with types of the module
    options = set(inspect.signature(bpf2py.load).parameters) - own
    assert options == set(LoadOptions.__annotations__)
    engine = Engine()
    with odd.Objects.load(engine) as one, odd.Objects.load(engine, maps={"states": one.maps.states}) as two:
        two.maps.states[0] = odd.StateT.ON
        assert one.maps.states[0] is odd.StateT.ON


def test_an_object_of_another_module_is_refused(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "odd_bpfel.py").write_bytes((directory / "odd_bpfel.py").read_bytes())
    (tmp_path / "odd.bpf.c").write_text(SOURCE.replace("int q; } named_t", "int q, r; } named_t"))
    write({tmp_path / "odd_bpfel.o": list(produce(Request("odd", tmp_path / "odd.bpf.c", tmp_path)).values())[1]})
    code = "import odd_bpfel as o; o.{}(); print('fine')"
    for cls, error in (("Same", ""), ("Named", "struct named has the members ('q', 'r')"), ("Objects.spec", "")):
        done = subprocess.run(
            [sys.executable, "-c", code.format(cls)], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert error in done.stderr
        assert done.stdout == ("" if error else "fine\n")
    (tmp_path / "odd.bpf.c").write_text(SOURCE.replace("struct Kind", "struct Sort"))
    write({tmp_path / "odd_bpfel.o": list(produce(Request("odd", tmp_path / "odd.bpf.c", tmp_path)).values())[1]})
    module = importlib.util.spec_from_file_location("moved", tmp_path / "odd_bpfel.py")
    assert module is not None
    assert module.loader is not None
    made = importlib.util.module_from_spec(module)
    module.loader.exec_module(made)
    with pytest.raises(ObjectError, match="no struct named 'Kind'; module and object do not belong together"):
        made.Objects.spec()


def test_type_by_name_takes_typedefs_and_nothing_else(directory: Path) -> None:
    text = produce(Request("odd", directory / "odd.bpf.c", types=("event_t",), global_types=False))[
        Path("odd_bpfel.py")
    ]
    assert b"class EventT(StructValue)" in text
    assert b"class Big" not in text
    for name in ("run", "int", "nothing", "target"):
        with pytest.raises(BpfError, match=f"no type named '{name}'"):
            produce(Request("odd", directory / "odd.bpf.c", types=(name,)))


PICKLES = """
import copy, pickle
from bpf2py.codegen.runtime import OpenEnum
class Color(OpenEnum):
    RED = 1
for value in (Color.RED, Color(77), Color(-3)):
    pickled = [pickle.loads(pickle.dumps(value, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)]
    for made in [*pickled, copy.copy(value), copy.deepcopy(value)]:
        assert type(made) is Color and made == value and made.name == value.name, (value, made)
print("fine")
"""


@pytest.mark.parametrize("python", sorted({sys.executable, "/usr/bin/python3"}))
def test_values_without_a_name_are_pickled(python: str) -> None:
    known = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True, text=True
    )
    if known.stdout != "True\n":
        pytest.skip(f"{python} is not Python 3.11 or newer")
    source = str(Path(bpf2py.__file__).parents[1])
    done = subprocess.run([python, "-c", PICKLES], capture_output=True, text=True, env={"PYTHONPATH": source})
    assert done.stdout == "fine\n", done.stderr
