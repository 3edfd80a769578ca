"""The page of ``bpf2py top --web``: programs, maps and attach points of the machine as they change."""
