"""Externs: kconfig values, kernel symbols and kfuncs, found, missing and overridden."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

import bpf2py
from bpf2py.kernel.syscall import kernel_version, older_than

pytestmark = pytest.mark.kernel

SOURCE = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
extern int LINUX_KERNEL_VERSION __kconfig;
extern unsigned CONFIG_HZ __kconfig __weak;
extern _Bool CONFIG_BPF_SYSCALL __kconfig __weak;
extern char CONFIG_DEFAULT_HOSTNAME[32] __kconfig __weak;
extern int CONFIG_NO_SUCH_OPTION __kconfig __weak;
extern const void schedule __ksym;
extern const void no_such_symbol __ksym __weak;
extern void bpf_rcu_read_lock(void) __ksym __weak;
extern void bpf_no_such_kfunc(int x) __ksym __weak;
u64 out[9];
SEC("raw_tp/sched_process_exec") int look(void *ctx)
{
    out[0] = LINUX_KERNEL_VERSION;
    out[1] = CONFIG_HZ;
    out[2] = CONFIG_BPF_SYSCALL;
    out[3] = CONFIG_NO_SUCH_OPTION;
    out[4] = (u64)&schedule;
    out[5] = (u64)&no_such_symbol;
    out[8] = CONFIG_DEFAULT_HOSTNAME[0];
    out[6] = bpf_ksym_exists(bpf_rcu_read_lock) ? 1 : 2;
    if (bpf_ksym_exists(bpf_no_such_kfunc)) {
        bpf_no_such_kfunc(1);
        out[7] = 1;
    } else {
        out[7] = 2;
    }
    return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""


def test_values_of_the_running_kernel(compile_bpf: Callable[[str], bytes]) -> None:
    with bpf2py.load(compile_bpf(SOURCE)) as obj:
        obj.attach()
        subprocess.run([sys.executable, "-c", ""], check=True)
        out = obj.variables["out"].value
    major, minor, patch = kernel_version()
    assert out[0] == (major << 16) + (minor << 8) + min(patch, 255)
    assert out[3] == 0, "a weak option that is not set is 0"
    symbol = bpf2py.ksym(out[4])
    assert symbol is not None
    assert (symbol.name, symbol.offset) == ("schedule", 0)
    assert out[5] == 0
    assert out[6] == (2 if older_than("6.2") else 1)
    assert out[7] == 2


def test_overrides_come_first(compile_bpf: Callable[[str], bytes]) -> None:
    given: dict[str, int | str] = {"CONFIG_HZ": 1234, "CONFIG_BPF_SYSCALL": True, "CONFIG_DEFAULT_HOSTNAME": "override"}
    with bpf2py.load(compile_bpf(SOURCE), kconfig=given) as obj:
        assert obj.variables["CONFIG_HZ"].value == 1234
        assert obj.variables["CONFIG_DEFAULT_HOSTNAME"].value == "override"
        with pytest.raises(bpf2py.PermissionDenied, match="constant once loaded"):
            obj.variables["CONFIG_HZ"].value = 1


def test_a_strong_extern_that_is_missing_says_how_to_mend_it(compile_bpf: Callable[[str], bytes]) -> None:
    source = SOURCE.replace("CONFIG_NO_SUCH_OPTION __kconfig __weak", "CONFIG_NO_SUCH_OPTION __kconfig")
    with pytest.raises(bpf2py.RelocationError, match=r"extern CONFIG_NO_SUCH_OPTION: .*(__weak|kconfig=)"):
        bpf2py.load(compile_bpf(source))
    source = SOURCE.replace("no_such_symbol __ksym __weak", "no_such_symbol __ksym")
    with pytest.raises(bpf2py.RelocationError, match=r"extern no_such_symbol: .*declare it __weak"):
        bpf2py.load(compile_bpf(source))
