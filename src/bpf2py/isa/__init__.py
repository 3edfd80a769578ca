"""The instruction set: opcodes, instructions, the disassembler, and the table of helper functions."""
