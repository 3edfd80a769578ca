"""The translator to x86-64 machine code."""
