"""What modules written by `bpf2py gen` stand on; it changes only together with what `gen` writes."""

from bpf2py.codegen.runtime import LoadOptions, ObjectFile, OpenEnum, load, program, variable

__all__ = ["LoadOptions", "ObjectFile", "OpenEnum", "load", "program", "variable"]
