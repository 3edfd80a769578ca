"""Which helpers and kfuncs the engine has, and where: in the library (C), in Python, or in the code itself.

What is missing here is refused when a program is loaded, by name.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

from bpf2py.engine.code.code import Target
from bpf2py.isa.helpers import HELPERS_BY_NAME
from bpf2py.linker.core import POISON_IMM

__all__ = ["KFUNCS", "Fault", "native_name", "python_helper", "target_of"]

HelperFunction = Callable[[Any, int, int, int, int, int], int]


class Fault(Exception):
    """A helper was given something that ends the program."""


# Functions of the library that helpers lead to; their map, where they have one, is in R1.
_NATIVE = """
map_lookup_elem map_update_elem map_delete_elem map_push_elem map_pop_elem map_peek_elem map_lookup_percpu_elem for_each_map_elem
ringbuf_output ringbuf_reserve ringbuf_submit ringbuf_discard ringbuf_query loop get_current_pid_tgid get_current_uid_gid
get_prandom_u32
""".split()
# The same for what is usually asked of these; the rest is in Python, as all of them are for the translator to Python.
_QUICK = frozenset(
    """
ktime_get_ns ktime_get_boot_ns ktime_get_coarse_ns ktime_get_tai_ns jiffies64 get_current_cgroup_id get_attach_cookie
get_numa_node_id get_current_task get_current_task_btf get_current_comm probe_read probe_read_kernel probe_read_user
probe_read_str probe_read_kernel_str probe_read_user_str copy_from_user skb_load_bytes skb_load_bytes_relative skb_store_bytes
skb_pull_data get_hash_recalc get_socket_cookie skb_cgroup_id xdp_load_bytes xdp_store_bytes xdp_get_buff_len xdp_adjust_head
xdp_adjust_tail redirect csum_diff l3_csum_replace l4_csum_replace strncmp strtol strtoul snprintf trace_printk trace_vprintk
perf_event_output get_current_ancestor_cgroup_id get_ns_current_pid_tgid per_cpu_ptr this_cpu_ptr kptr_xchg task_storage_get
""".split()
)
_INLINE = {
    "get_smp_processor_id": "get_smp_processor_id",
    "tail_call": "tail_call",
    "spin_lock": "nothing",
    "spin_unlock": "nothing",
}
# The module of this package each Python helper is in, as a function of its name.
_PYTHON = {
    "task": """
ktime_get_ns ktime_get_boot_ns ktime_get_coarse_ns ktime_get_tai_ns jiffies64 get_current_comm
get_current_task get_current_task_btf task_pt_regs get_current_cgroup_id get_current_ancestor_cgroup_id
get_ns_current_pid_tgid get_numa_node_id send_signal send_signal_thread get_retval set_retval get_func_ip
get_attach_cookie get_func_arg get_func_ret get_func_arg_cnt per_cpu_ptr this_cpu_ptr kptr_xchg current_task_under_cgroup
skb_under_cgroup
""",
    "memory": """
probe_read probe_read_kernel probe_read_user probe_read_str probe_read_kernel_str probe_read_user_str probe_write_user
copy_from_user copy_from_user_task
""",
    "text": "trace_printk trace_vprintk snprintf seq_printf seq_write strtol strtoul strncmp",
    "events": "perf_event_output perf_event_read perf_event_read_value get_stackid get_stack get_task_stack skb_output xdp_output",
    "packet": """
skb_load_bytes skb_load_bytes_relative skb_store_bytes skb_pull_data skb_change_tail skb_change_head skb_adjust_room
skb_vlan_push skb_vlan_pop skb_change_type get_hash_recalc set_hash set_hash_invalid get_socket_cookie get_socket_uid
get_cgroup_classid get_route_realm skb_cgroup_id xdp_adjust_head xdp_adjust_tail xdp_adjust_meta xdp_load_bytes xdp_store_bytes
xdp_get_buff_len redirect redirect_peer redirect_neigh redirect_map clone_redirect check_mtu skb_ecn_set_ce
skb_set_tstamp
""",
    "checksum": "csum_diff csum_update csum_level l3_csum_replace l4_csum_replace",
    "dynptr": """
dynptr_from_mem dynptr_read dynptr_write dynptr_data ringbuf_reserve_dynptr ringbuf_submit_dynptr ringbuf_discard_dynptr
user_ringbuf_drain
""",
    "sockets": """
sk_lookup_tcp sk_lookup_udp skc_lookup_tcp sk_release sk_fullsock tcp_sock get_listener_sock skc_to_tcp_sock skc_to_tcp6_sock
skc_to_tcp_timewait_sock skc_to_tcp_request_sock skc_to_udp6_sock skc_to_unix_sock skc_to_mptcp_sock fib_lookup
sock_ops_cb_flags_set setsockopt getsockopt get_netns_cookie find_vma perf_prog_read_value read_branch_records
""",
    "sysctl": "sysctl_get_name sysctl_get_current_value sysctl_get_new_value sysctl_set_new_value",
    "timer": "timer_init timer_set_callback timer_start timer_cancel",
    "storage": """
sk_storage_get sk_storage_delete inode_storage_get inode_storage_delete task_storage_get task_storage_delete cgrp_storage_get
cgrp_storage_delete get_local_storage
""",
}
_MODULES = {name: module for module, names in _PYTHON.items() for name in names.split()}
_KFUNC_MODULES = {
    "arena": "bpf_arena_alloc_pages bpf_arena_free_pages bpf_arena_reserve_pages",
    "kfuncs": """
bpf_rcu_read_lock bpf_rcu_read_unlock bpf_preempt_disable
bpf_preempt_enable bpf_cast_to_kern_ctx bpf_rdonly_cast bpf_get_task_exe_file bpf_task_from_pid bpf_task_from_vpid
bpf_local_irq_save bpf_local_irq_restore bpf_task_acquire bpf_task_release
bpf_res_spin_lock bpf_res_spin_unlock bpf_res_spin_lock_irqsave bpf_res_spin_unlock_irqrestore
bpf_iter_task_new bpf_iter_task_next bpf_iter_task_destroy
""",
    "cpumask": """
bpf_cpumask_create bpf_cpumask_acquire bpf_cpumask_release bpf_cpumask_set_cpu bpf_cpumask_clear_cpu bpf_cpumask_test_cpu
bpf_cpumask_test_and_set_cpu bpf_cpumask_test_and_clear_cpu bpf_cpumask_setall bpf_cpumask_clear bpf_cpumask_copy
bpf_cpumask_and bpf_cpumask_or bpf_cpumask_xor bpf_cpumask_equal bpf_cpumask_intersects bpf_cpumask_subset bpf_cpumask_empty
bpf_cpumask_full bpf_cpumask_weight bpf_cpumask_first bpf_cpumask_first_zero bpf_cpumask_first_and bpf_cpumask_any_distribute
bpf_cpumask_any_and_distribute
""",
    "graph": """
bpf_obj_new_impl bpf_obj_drop_impl bpf_refcount_acquire_impl bpf_list_push_front_impl bpf_list_push_back_impl bpf_list_pop_front
bpf_list_pop_back bpf_list_front bpf_list_back bpf_rbtree_add_impl bpf_rbtree_first bpf_rbtree_remove bpf_iter_bits_new
bpf_iter_bits_next bpf_iter_bits_destroy
""",
    "strings": """
bpf_strcmp bpf_strcasecmp bpf_strchr bpf_strnchr bpf_strchrnul bpf_strrchr bpf_strlen bpf_strnlen bpf_strspn bpf_strcspn bpf_strstr
bpf_strnstr
""",
    "timer": "bpf_wq_init bpf_wq_set_callback_impl bpf_wq_start",
    "dynptr": """
bpf_dynptr_from_skb bpf_dynptr_from_xdp bpf_dynptr_slice bpf_dynptr_slice_rdwr bpf_dynptr_adjust bpf_dynptr_is_null
bpf_dynptr_is_rdonly bpf_dynptr_size bpf_dynptr_clone
""",
}
_MAYBE_NULL = {"loop": (3,), "for_each_map_elem": (3,)}
FIRST_KFUNC = 1 << 16
MISSING = FIRST_KFUNC - 1  # a weak kernel function that is not there
_KFUNC_NAMES = [(name, module) for module, names in _KFUNC_MODULES.items() for name in names.split()]
KFUNCS: dict[str, Target] = {name: Target("python", name, FIRST_KFUNC + i) for i, (name, _) in enumerate(_KFUNC_NAMES)}
KFUNCS["bpf_throw"] = Target("inline", "throw")
KFUNCS.update(
    {
        f"bpf_{name}": Target("inline", "nothing")
        for name in (
            "rcu_read_lock",
            "rcu_read_unlock",
            "preempt_disable",
            "preempt_enable",
            "local_irq_save",
            "local_irq_restore",
        )
    }
)
KFUNCS.update(
    {f"bpf_iter_num_{name}": Target("native", f"bpf_iter_num_{name}", 0, (1,)) for name in ("new", "next", "destroy")}
)


@functools.cache
def target_of(name: str, quick: bool = True) -> Target | None:
    """What a call of the helper leads to, None where the engine does not have it.

    Args:
        quick: whether the library's functions are quicker than Python: where they are native.
    """
    inline = _INLINE.get(name)
    if inline is not None:
        return Target("inline", inline)
    helper = HELPERS_BY_NAME[name]
    if name in _NATIVE:
        pointers = tuple(
            position
            for position, parameter in enumerate(helper.parameters, 1)
            if "*" in parameter.type
            and parameter.name not in ("map", "ringbuf", "callback_fn", "ctx", "callback_ctx")
            and position not in _MAYBE_NULL.get(name, ())
        )
        takes_map = bool(helper.parameters) and helper.parameters[0].name in ("map", "ringbuf")
        return Target("native", name, helper.id, pointers, int(takes_map))
    if quick and name in _QUICK:
        return Target("quick", name, helper.id)
    return Target("python", name, helper.id) if name in _MODULES else None


@functools.cache
def python_helper(number: int) -> HelperFunction:
    """The function behind a number: of a helper, or of a kfunc. Raises KeyError."""
    if number == POISON_IMM:
        return _poisoned
    if number == MISSING:
        return _missing
    if number >= FIRST_KFUNC:
        name, module = _KFUNC_NAMES[number - FIRST_KFUNC]
    else:
        name = next(helper.name for helper in HELPERS_BY_NAME.values() if helper.id == number)
        module = _MODULES[name]
    function: HelperFunction = getattr(import_module(f"bpf2py.engine.helpers.{module}"), name)
    return function


def _missing(engine: Any, *_: int) -> int:
    name = engine.current.program.called(engine.fault_slot)
    raise Fault(
        f"it called the kernel function {name}, which the engine does not have: test bpf_ksym_exists({name}) before, or provide it "
        f"by engine.helpers[{name!r}]"
    )


def _poisoned(engine: Any, *_: int) -> int:
    run = engine.current
    raise Fault(f"CO-RE relocation failed: the simulated kernel has no {run.program.poisoned(engine.fault_slot)}")


def native_name(map_type: int, helper: str) -> str | None:
    """The library's function for a helper on maps of one type, None where there is just the general one."""
    from bpf2py.engine.maps import PROGRAM_SIDE

    return PROGRAM_SIDE.get(map_type, {}).get(helper)
