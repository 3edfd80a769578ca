"""BTF, the kernel's type information: reading, writing, C declarations, and values <-> bytes."""
