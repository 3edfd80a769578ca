"""ELF: the layout all readers of the package share, and the reader of BPF objects."""
