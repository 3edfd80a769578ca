"""The task a program runs in: who it is, and the memory `bpf_probe_read_user` reads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

__all__ = ["Task"]


class Task:
    """A simulated task; what it does not say is 0.

    Attributes:
        pid: of the thread (what user space calls the thread's id).
        tgid: of the process (what user space calls its pid).
        ppid: of the parent process.
        uid, gid: real ids.
        comm: at most 15 characters.
        cgroup_id: what bpf_get_current_cgroup_id gives.
        memory: reads user memory: (address, size) -> bytes, or None where the address is bad.
        write: writes user memory: (address, bytes) -> whether that worked.
        fields: further members of struct task_struct by name, for programs that follow bpf_get_current_task; a nested
            dict stands for a pointer to a struct or for a struct.
        user_stack, kernel_stack: addresses bpf_get_stackid and its like find, innermost first.
    """

    __slots__ = (
        "cgroup_id",
        "comm",
        "fields",
        "gid",
        "kernel_stack",
        "memory",
        "pid",
        "ppid",
        "tgid",
        "uid",
        "user_stack",
        "write",
    )

    def __init__(
        self,
        pid: int = 1,
        tgid: int | None = None,
        *,
        ppid: int = 0,
        uid: int = 0,
        gid: int = 0,
        comm: str = "task",
        cgroup_id: int = 1,
        memory: Callable[[int, int], bytes | None] | None = None,
        write: Callable[[int, bytes], bool] | None = None,
        fields: dict[str, object] | None = None,
    ) -> None:
        self.pid = pid
        self.tgid = pid if tgid is None else tgid
        self.ppid = ppid
        self.uid = uid
        self.gid = gid
        self.comm = comm
        self.cgroup_id = cgroup_id
        self.memory = memory
        self.write = write
        self.fields = fields or {}
        self.user_stack: Sequence[int] = ()
        self.kernel_stack: Sequence[int] = ()

    @classmethod
    def current(cls) -> Task:
        """This process."""
        pid = os.getpid()
        comm = "python"
        try:
            with open("/proc/self/comm", encoding="utf-8", errors="replace") as file:
                comm = file.read().rstrip("\n")
        except OSError:
            pass
        if not hasattr(os, "getuid"):
            return cls(pid, comm=comm)
        return cls(pid, ppid=os.getppid(), uid=os.getuid(), gid=os.getgid(), comm=comm)

    def __repr__(self) -> str:
        return f"<Task pid={self.pid} tgid={self.tgid} uid={self.uid} comm={self.comm!r}>"
