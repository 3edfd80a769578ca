"""Specs: what an object file says, as data. Pure: no system call, on any operating system."""
