"""The page of ``bpf2py prog top --web``: programs, maps and attach points of the machine as they change."""
