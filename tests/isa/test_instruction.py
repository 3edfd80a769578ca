from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bpf2py.errors import ObjectError
from bpf2py.isa.instruction import Instruction, decode, encode
from bpf2py.isa.opcodes import LD_IMM64

S16 = st.integers(-(2**15), 2**15 - 1)
S32 = st.integers(-(2**31), 2**31 - 1)
REGISTER = st.integers(0, 15)


def one_slot() -> st.SearchStrategy[Instruction]:
    opcodes = st.integers(0, 255).filter(lambda opcode: opcode != LD_IMM64)
    return st.builds(Instruction, opcodes, REGISTER, REGISTER, S16, S32, st.none())


def two_slots() -> st.SearchStrategy[Instruction]:
    return st.builds(Instruction, st.just(LD_IMM64), REGISTER, REGISTER, S16, S32, S32)


@given(st.lists(one_slot() | two_slots()))
def test_round_trip(program: list[Instruction]) -> None:
    code = encode(program)
    assert len(code) == sum(instruction.size for instruction in program)
    assert decode(code) == program
    assert decode(memoryview(bytearray(code))) == program
    assert all(type(instruction) is Instruction for instruction in decode(code))


@given(st.binary())
def test_any_bytes_decode_to_themselves_or_are_refused(code: bytes) -> None:
    try:
        program = decode(code)
    except ObjectError:
        return
    assert encode(program) == code


def test_layout() -> None:
    assert decode(bytes.fromhex("61 a2 f8 ff 00 00 00 80")) == [Instruction(0x61, 2, 10, -8, -(2**31))]
    (load,) = decode(bytes.fromhex("18 11 00 00 07 00 00 00 00 00 00 00 f0 ff ff ff"))
    assert load == Instruction(0x18, 1, 1, 0, 7, -16)
    assert (load.size, load.slots, load.imm64) == (16, 2, 0xFFFFFFF0_00000007)
    assert Instruction(0xB7, imm=-1).imm64 == 0xFFFFFFFFFFFFFFFF


@pytest.mark.parametrize("value", [0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
def test_load_imm64(value: int) -> None:
    load = Instruction.load_imm64(3, value, src=2)
    assert load.imm64 == value
    assert struct.unpack("<BBHIBBHI", load.encode())[3::4] == (value & 0xFFFFFFFF, value >> 32)
    assert Instruction.load_imm64(3, -1).imm64 == 2**64 - 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (b"\x95", r"1 bytes is not a multiple of 8"),
        (bytes(8) + b"\x18" + bytes(7), r"without its second half \(offset 0x8\)"),
        (b"\x18" + bytes(7) + b"\x95" + bytes(7), r"without its second half \(offset 0x0\)"),
        (b"\x18" + bytes(7) + b"\0\1" + bytes(6), r"without its second half"),
    ],
)
def test_torn_code(code: bytes, message: str) -> None:
    with pytest.raises(ObjectError, match=message):
        decode(code)


@pytest.mark.parametrize("bad", [{"dst": 16}, {"src": -1}, {"offset": 2**15}, {"imm": 2**31}, {"opcode": 256}])
def test_fields_that_do_not_fit(bad: dict[str, int]) -> None:
    with pytest.raises(struct.error):
        Instruction(0xB7)._replace(**bad).encode()
