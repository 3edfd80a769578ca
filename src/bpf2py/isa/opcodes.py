"""The numbers of the BPF instruction set by the kernel's names.

Source of facts: the kernel's uapi headers linux/bpf_common.h and linux/bpf.h, and RFC 9669 (BPF ISA). The parts of an
opcode byte are or'ed together: class (3 bits) with size and mode for loads and stores, or with source and operation for
arithmetic and jumps.
"""

from __future__ import annotations

# Instruction classes: opcode & 0x07
BPF_LD = 0x00
BPF_LDX = 0x01
BPF_ST = 0x02
BPF_STX = 0x03
BPF_ALU = 0x04
BPF_JMP = 0x05
BPF_JMP32 = 0x06
BPF_ALU64 = 0x07

# Sizes of loads and stores: opcode & 0x18
BPF_W = 0x00  # 4 bytes
BPF_H = 0x08  # 2
BPF_B = 0x10  # 1
BPF_DW = 0x18  # 8

# Modes of loads and stores: opcode & 0xe0
BPF_IMM = 0x00
BPF_ABS = 0x20
BPF_IND = 0x40
BPF_MEM = 0x60
BPF_MEMSX = 0x80  # sign extending load, ISA v4
BPF_ATOMIC = 0xC0

# Source of the second operand: opcode & 0x08
BPF_K = 0x00  # the immediate
BPF_X = 0x08  # the register src

# Arithmetic: opcode & 0xf0
BPF_ADD = 0x00
BPF_SUB = 0x10
BPF_MUL = 0x20
BPF_DIV = 0x30  # offset 1: signed, ISA v4
BPF_OR = 0x40
BPF_AND = 0x50
BPF_LSH = 0x60
BPF_RSH = 0x70
BPF_NEG = 0x80
BPF_MOD = 0x90  # offset 1: signed, ISA v4
BPF_XOR = 0xA0
BPF_MOV = 0xB0  # offset 8, 16, 32: sign extending, ISA v4; 1: address space cast
BPF_ARSH = 0xC0
BPF_END = 0xD0
BPF_TO_LE = 0x00
BPF_TO_BE = 0x08

# Jumps: opcode & 0xf0
BPF_JA = 0x00  # class JMP32: the distance is in the immediate, ISA v4
BPF_JEQ = 0x10
BPF_JGT = 0x20
BPF_JGE = 0x30
BPF_JSET = 0x40
BPF_JNE = 0x50
BPF_JSGT = 0x60
BPF_JSGE = 0x70
BPF_CALL = 0x80
BPF_EXIT = 0x90
BPF_JLT = 0xA0
BPF_JLE = 0xB0
BPF_JSLT = 0xC0
BPF_JSLE = 0xD0
BPF_JCOND = 0xE0
BPF_MAY_GOTO = 0  # src of a BPF_JCOND

# Atomic operations: the immediate of BPF_STX | BPF_ATOMIC; arithmetic ones use the numbers above
BPF_FETCH = 0x01
BPF_XCHG = 0xE0 | BPF_FETCH
BPF_CMPXCHG = 0xF0 | BPF_FETCH
BPF_LOAD_ACQ = 0x100
BPF_STORE_REL = 0x110

# A move that turns a pointer of one address space into one of another (Linux 6.9): its offset, and its immediates
ADDR_SPACE_CAST = 1
CAST_KERN = 1  # from an arena's pointer to one that can be dereferenced
CAST_USER = 1 << 16  # back

# What the immediate of a 16-byte load means: its src
BPF_PSEUDO_MAP_FD = 1
BPF_PSEUDO_MAP_VALUE = 2
BPF_PSEUDO_BTF_ID = 3
BPF_PSEUDO_FUNC = 4
BPF_PSEUDO_MAP_IDX = 5
BPF_PSEUDO_MAP_IDX_VALUE = 6

# What the immediate of a call means: its src (0: a helper's number)
BPF_PSEUDO_CALL = 1
BPF_PSEUDO_KFUNC_CALL = 2

# Registers
BPF_REG_0 = 0
BPF_REG_1 = 1
BPF_REG_2 = 2
BPF_REG_3 = 3
BPF_REG_4 = 4
BPF_REG_5 = 5
BPF_REG_6 = 6
BPF_REG_7 = 7
BPF_REG_8 = 8
BPF_REG_9 = 9
BPF_REG_10 = 10
MAX_BPF_REG = 11

# The opcode of the one instruction of two slots, and of calls and exits
LD_IMM64 = BPF_LD | BPF_IMM | BPF_DW
CALL = BPF_JMP | BPF_CALL
CALLX = BPF_JMP | BPF_CALL | BPF_X
EXIT = BPF_JMP | BPF_EXIT

SLOT_SIZE = 8  # bytes
