"""The translator to AArch64 machine code."""
