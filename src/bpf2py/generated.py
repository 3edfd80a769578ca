"""What modules written by `bpf2py gen` stand on: it changes only together with what `gen` writes, and is of use to no other code."""

from bpf2py.codegen.runtime import LoadOptions, ObjectFile, OpenEnum, load, program, variable

__all__ = ["LoadOptions", "ObjectFile", "OpenEnum", "load", "program", "variable"]
