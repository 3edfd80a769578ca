"""From eBPF C to an object file: the compiler, its headers, and a cache of what it made."""
