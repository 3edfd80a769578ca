"""What the running kernel has, found out by trying; answers are remembered.

Each function gives True, False, or None where that cannot be told.
"""

from bpf2py.kernel.features import helper, kfunc, map_flag, map_type, program_type

__all__ = ["helper", "kfunc", "map_flag", "map_type", "program_type"]
