# ruff: noqa: E501 -- one helper a line
"""THE table of BPF helper functions: number, name, C signature, first kernel release, and whether it is GPL-only.

Source of facts: the kernel's UAPI header linux/bpf.h for numbers and signatures; the versions are those of the first
release that has the helper; GPL-only was asked of a running kernel's verifier. Types are written as a BPF program sees
them: ``__u32`` for ``u32``, the UAPI context structures (``struct __sk_buff``, ``struct xdp_md``), ``void *`` for
maps. The list is complete: the kernel adds no helpers since 6.2, but kfuncs.
"""

from __future__ import annotations

from bpf2py._typing import NamedTuple

__all__ = ["HELPERS", "HELPERS_BY_NAME", "Helper", "Parameter", "helper_name"]


class Parameter(NamedTuple):
    """One parameter of a helper: its C type and its name; the type of a variadic tail is ``"..."``."""

    type: str
    name: str


class Helper(NamedTuple):
    """One BPF helper function.

    Attributes:
        id: the number in the call instruction (1..211).
        name: without the ``bpf_`` prefix, such as ``"map_lookup_elem"``.
        returns: C return type.
        signature: the C parameter list, without its brackets; ``"void"`` when there are none.
        since: the first kernel release that has it, such as ``"5.8"``.
        gpl_only: the program's licence must be GPL compatible.
    """

    id: int
    name: str
    returns: str
    signature: str
    since: str
    gpl_only: bool = False

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The parameters, in order.

        >>> HELPERS[3].parameters
        (Parameter(type='void *', name='map'), Parameter(type='const void *', name='key'))
        """
        if self.signature == "void":
            return ()
        result = []
        for item in self.signature.split(", "):
            if item == "...":
                result.append(Parameter("...", ""))
                continue
            cut = max(item.rfind(" "), item.rfind("*")) + 1
            result.append(Parameter(item[:cut].rstrip(), item[cut:]))
        return tuple(result)

    @property
    def prototype(self) -> str:
        """The C declaration, such as ``long bpf_redirect(__u32 ifindex, __u64 flags)``."""
        space = "" if self.returns.endswith("*") else " "
        return f"{self.returns}{space}bpf_{self.name}({self.signature})"


# fmt: off
_ROWS: tuple[Helper, ...] = (
    Helper(1, "map_lookup_elem", "void *", "void *map, const void *key", "3.19"),
    Helper(2, "map_update_elem", "long", "void *map, const void *key, const void *value, __u64 flags", "3.19"),
    Helper(3, "map_delete_elem", "long", "void *map, const void *key", "3.19"),
    Helper(4, "probe_read", "long", "void *dst, __u32 size, const void *unsafe_ptr", "4.1", True),
    Helper(5, "ktime_get_ns", "__u64", "void", "4.1"),
    Helper(6, "trace_printk", "long", "const char *fmt, __u32 fmt_size, ...", "4.1", True),
    Helper(7, "get_prandom_u32", "__u32", "void", "4.1"),
    Helper(8, "get_smp_processor_id", "__u32", "void", "4.1"),
    Helper(9, "skb_store_bytes", "long", "struct __sk_buff *skb, __u32 offset, const void *from, __u32 len, __u64 flags", "4.1"),
    Helper(10, "l3_csum_replace", "long", "struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 size", "4.1"),
    Helper(11, "l4_csum_replace", "long", "struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags", "4.1"),
    Helper(12, "tail_call", "long", "void *ctx, void *prog_array_map, __u32 index", "4.2"),
    Helper(13, "clone_redirect", "long", "struct __sk_buff *skb, __u32 ifindex, __u64 flags", "4.2"),
    Helper(14, "get_current_pid_tgid", "__u64", "void", "4.2"),
    Helper(15, "get_current_uid_gid", "__u64", "void", "4.2"),
    Helper(16, "get_current_comm", "long", "void *buf, __u32 size_of_buf", "4.2"),
    Helper(17, "get_cgroup_classid", "__u32", "struct __sk_buff *skb", "4.3"),
    Helper(18, "skb_vlan_push", "long", "struct __sk_buff *skb, __be16 vlan_proto, __u16 vlan_tci", "4.3"),
    Helper(19, "skb_vlan_pop", "long", "struct __sk_buff *skb", "4.3"),
    Helper(20, "skb_get_tunnel_key", "long", "struct __sk_buff *skb, struct bpf_tunnel_key *key, __u32 size, __u64 flags", "4.3"),
    Helper(21, "skb_set_tunnel_key", "long", "struct __sk_buff *skb, struct bpf_tunnel_key *key, __u32 size, __u64 flags", "4.3"),
    Helper(22, "perf_event_read", "__u64", "void *map, __u64 flags", "4.3", True),
    Helper(23, "redirect", "long", "__u32 ifindex, __u64 flags", "4.4"),
    Helper(24, "get_route_realm", "__u32", "struct __sk_buff *skb", "4.4"),
    Helper(25, "perf_event_output", "long", "void *ctx, void *map, __u64 flags, void *data, __u64 size", "4.4", True),
    Helper(26, "skb_load_bytes", "long", "const void *skb, __u32 offset, void *to, __u32 len", "4.5"),
    Helper(27, "get_stackid", "long", "void *ctx, void *map, __u64 flags", "4.6", True),
    Helper(28, "csum_diff", "__s64", "__be32 *from, __u32 from_size, __be32 *to, __u32 to_size, __wsum seed", "4.6"),
    Helper(29, "skb_get_tunnel_opt", "long", "struct __sk_buff *skb, void *opt, __u32 size", "4.6"),
    Helper(30, "skb_set_tunnel_opt", "long", "struct __sk_buff *skb, void *opt, __u32 size", "4.6"),
    Helper(31, "skb_change_proto", "long", "struct __sk_buff *skb, __be16 proto, __u64 flags", "4.8"),
    Helper(32, "skb_change_type", "long", "struct __sk_buff *skb, __u32 type", "4.8"),
    Helper(33, "skb_under_cgroup", "long", "struct __sk_buff *skb, void *map, __u32 index", "4.8"),
    Helper(34, "get_hash_recalc", "__u32", "struct __sk_buff *skb", "4.8"),
    Helper(35, "get_current_task", "__u64", "void", "4.8", True),
    Helper(36, "probe_write_user", "long", "void *dst, const void *src, __u32 len", "4.8", True),
    Helper(37, "current_task_under_cgroup", "long", "void *map, __u32 index", "4.9"),
    Helper(38, "skb_change_tail", "long", "struct __sk_buff *skb, __u32 len, __u64 flags", "4.9"),
    Helper(39, "skb_pull_data", "long", "struct __sk_buff *skb, __u32 len", "4.9"),
    Helper(40, "csum_update", "__s64", "struct __sk_buff *skb, __wsum csum", "4.9"),
    Helper(41, "set_hash_invalid", "void", "struct __sk_buff *skb", "4.9"),
    Helper(42, "get_numa_node_id", "long", "void", "4.10"),
    Helper(43, "skb_change_head", "long", "struct __sk_buff *skb, __u32 len, __u64 flags", "4.10"),
    Helper(44, "xdp_adjust_head", "long", "struct xdp_md *xdp_md, int delta", "4.10"),
    Helper(45, "probe_read_str", "long", "void *dst, __u32 size, const void *unsafe_ptr", "4.11", True),
    Helper(46, "get_socket_cookie", "__u64", "void *ctx", "4.12"),
    Helper(47, "get_socket_uid", "__u32", "struct __sk_buff *skb", "4.12"),
    Helper(48, "set_hash", "long", "struct __sk_buff *skb, __u32 hash", "4.13"),
    Helper(49, "setsockopt", "long", "void *bpf_socket, int level, int optname, void *optval, int optlen", "4.13"),
    Helper(50, "skb_adjust_room", "long", "struct __sk_buff *skb, __s32 len_diff, __u32 mode, __u64 flags", "4.13"),
    Helper(51, "redirect_map", "long", "void *map, __u64 key, __u64 flags", "4.14"),
    Helper(52, "sk_redirect_map", "long", "struct __sk_buff *skb, void *map, __u32 key, __u64 flags", "4.14"),
    Helper(53, "sock_map_update", "long", "struct bpf_sock_ops *skops, void *map, void *key, __u64 flags", "4.14"),
    Helper(54, "xdp_adjust_meta", "long", "struct xdp_md *xdp_md, int delta", "4.15"),
    Helper(55, "perf_event_read_value", "long", "void *map, __u64 flags, struct bpf_perf_event_value *buf, __u32 buf_size", "4.15", True),
    Helper(56, "perf_prog_read_value", "long", "struct bpf_perf_event_data *ctx, struct bpf_perf_event_value *buf, __u32 buf_size", "4.15", True),
    Helper(57, "getsockopt", "long", "void *bpf_socket, int level, int optname, void *optval, int optlen", "4.15"),
    Helper(58, "override_return", "long", "struct pt_regs *regs, __u64 rc", "4.16", True),
    Helper(59, "sock_ops_cb_flags_set", "long", "struct bpf_sock_ops *bpf_sock, int argval", "4.16"),
    Helper(60, "msg_redirect_map", "long", "struct sk_msg_md *msg, void *map, __u32 key, __u64 flags", "4.17"),
    Helper(61, "msg_apply_bytes", "long", "struct sk_msg_md *msg, __u32 bytes", "4.17"),
    Helper(62, "msg_cork_bytes", "long", "struct sk_msg_md *msg, __u32 bytes", "4.17"),
    Helper(63, "msg_pull_data", "long", "struct sk_msg_md *msg, __u32 start, __u32 end, __u64 flags", "4.17"),
    Helper(64, "bind", "long", "struct bpf_sock_addr *ctx, struct sockaddr *addr, int addr_len", "4.17"),
    Helper(65, "xdp_adjust_tail", "long", "struct xdp_md *xdp_md, int delta", "4.18"),
    Helper(66, "skb_get_xfrm_state", "long", "struct __sk_buff *skb, __u32 index, struct bpf_xfrm_state *xfrm_state, __u32 size, __u64 flags", "4.18"),
    Helper(67, "get_stack", "long", "void *ctx, void *buf, __u32 size, __u64 flags", "4.18", True),
    Helper(68, "skb_load_bytes_relative", "long", "const void *skb, __u32 offset, void *to, __u32 len, __u32 start_header", "4.18"),
    Helper(69, "fib_lookup", "long", "void *ctx, struct bpf_fib_lookup *params, int plen, __u32 flags", "4.18", True),
    Helper(70, "sock_hash_update", "long", "struct bpf_sock_ops *skops, void *map, void *key, __u64 flags", "4.18"),
    Helper(71, "msg_redirect_hash", "long", "struct sk_msg_md *msg, void *map, void *key, __u64 flags", "4.18"),
    Helper(72, "sk_redirect_hash", "long", "struct __sk_buff *skb, void *map, void *key, __u64 flags", "4.18"),
    Helper(73, "lwt_push_encap", "long", "struct __sk_buff *skb, __u32 type, void *hdr, __u32 len", "4.18"),
    Helper(74, "lwt_seg6_store_bytes", "long", "struct __sk_buff *skb, __u32 offset, const void *from, __u32 len", "4.18"),
    Helper(75, "lwt_seg6_adjust_srh", "long", "struct __sk_buff *skb, __u32 offset, __s32 delta", "4.18"),
    Helper(76, "lwt_seg6_action", "long", "struct __sk_buff *skb, __u32 action, void *param, __u32 param_len", "4.18"),
    Helper(77, "rc_repeat", "long", "void *ctx", "4.18", True),
    Helper(78, "rc_keydown", "long", "void *ctx, __u32 protocol, __u64 scancode, __u32 toggle", "4.18", True),
    Helper(79, "skb_cgroup_id", "__u64", "struct __sk_buff *skb", "4.18"),
    Helper(80, "get_current_cgroup_id", "__u64", "void", "4.18"),
    Helper(81, "get_local_storage", "void *", "void *map, __u64 flags", "4.19"),
    Helper(82, "sk_select_reuseport", "long", "struct sk_reuseport_md *reuse, void *map, void *key, __u64 flags", "4.19"),
    Helper(83, "skb_ancestor_cgroup_id", "__u64", "struct __sk_buff *skb, int ancestor_level", "4.19"),
    Helper(84, "sk_lookup_tcp", "struct bpf_sock *", "void *ctx, struct bpf_sock_tuple *tuple, __u32 tuple_size, __u64 netns, __u64 flags", "4.20"),
    Helper(85, "sk_lookup_udp", "struct bpf_sock *", "void *ctx, struct bpf_sock_tuple *tuple, __u32 tuple_size, __u64 netns, __u64 flags", "4.20"),
    Helper(86, "sk_release", "long", "void *sock", "4.20"),
    Helper(87, "map_push_elem", "long", "void *map, const void *value, __u64 flags", "4.20"),
    Helper(88, "map_pop_elem", "long", "void *map, void *value", "4.20"),
    Helper(89, "map_peek_elem", "long", "void *map, void *value", "4.20"),
    Helper(90, "msg_push_data", "long", "struct sk_msg_md *msg, __u32 start, __u32 len, __u64 flags", "4.20"),
    Helper(91, "msg_pop_data", "long", "struct sk_msg_md *msg, __u32 start, __u32 len, __u64 flags", "5.0"),
    Helper(92, "rc_pointer_rel", "long", "void *ctx, __s32 rel_x, __s32 rel_y", "5.0", True),
    Helper(93, "spin_lock", "long", "struct bpf_spin_lock *lock", "5.1"),
    Helper(94, "spin_unlock", "long", "struct bpf_spin_lock *lock", "5.1"),
    Helper(95, "sk_fullsock", "struct bpf_sock *", "struct bpf_sock *sk", "5.1"),
    Helper(96, "tcp_sock", "struct bpf_tcp_sock *", "struct bpf_sock *sk", "5.1"),
    Helper(97, "skb_ecn_set_ce", "long", "struct __sk_buff *skb", "5.1"),
    Helper(98, "get_listener_sock", "struct bpf_sock *", "struct bpf_sock *sk", "5.1"),
    Helper(99, "skc_lookup_tcp", "struct bpf_sock *", "void *ctx, struct bpf_sock_tuple *tuple, __u32 tuple_size, __u64 netns, __u64 flags", "5.2"),
    Helper(100, "tcp_check_syncookie", "long", "void *sk, void *iph, __u32 iph_len, struct tcphdr *th, __u32 th_len", "5.2", True),
    Helper(101, "sysctl_get_name", "long", "struct bpf_sysctl *ctx, char *buf, unsigned long buf_len, __u64 flags", "5.2"),
    Helper(102, "sysctl_get_current_value", "long", "struct bpf_sysctl *ctx, char *buf, unsigned long buf_len", "5.2"),
    Helper(103, "sysctl_get_new_value", "long", "struct bpf_sysctl *ctx, char *buf, unsigned long buf_len", "5.2"),
    Helper(104, "sysctl_set_new_value", "long", "struct bpf_sysctl *ctx, const char *buf, unsigned long buf_len", "5.2"),
    Helper(105, "strtol", "long", "const char *buf, unsigned long buf_len, __u64 flags, long *res", "5.2"),
    Helper(106, "strtoul", "long", "const char *buf, unsigned long buf_len, __u64 flags, unsigned long *res", "5.2"),
    Helper(107, "sk_storage_get", "void *", "void *map, void *sk, void *value, __u64 flags", "5.2"),
    Helper(108, "sk_storage_delete", "long", "void *map, void *sk", "5.2"),
    Helper(109, "send_signal", "long", "__u32 sig", "5.3"),
    Helper(110, "tcp_gen_syncookie", "__s64", "void *sk, void *iph, __u32 iph_len, struct tcphdr *th, __u32 th_len", "5.3", True),
    Helper(111, "skb_output", "long", "void *ctx, void *map, __u64 flags, void *data, __u64 size", "5.5", True),
    Helper(112, "probe_read_user", "long", "void *dst, __u32 size, const void *unsafe_ptr", "5.5", True),
    Helper(113, "probe_read_kernel", "long", "void *dst, __u32 size, const void *unsafe_ptr", "5.5", True),
    Helper(114, "probe_read_user_str", "long", "void *dst, __u32 size, const void *unsafe_ptr", "5.5", True),
    Helper(115, "probe_read_kernel_str", "long", "void *dst, __u32 size, const void *unsafe_ptr", "5.5", True),
    Helper(116, "tcp_send_ack", "long", "void *tp, __u32 rcv_nxt", "5.6"),
    Helper(117, "send_signal_thread", "long", "__u32 sig", "5.6"),
    Helper(118, "jiffies64", "__u64", "void", "5.6"),
    Helper(119, "read_branch_records", "long", "struct bpf_perf_event_data *ctx, void *buf, __u32 size, __u64 flags", "5.7", True),
    Helper(120, "get_ns_current_pid_tgid", "long", "__u64 dev, __u64 ino, struct bpf_pidns_info *nsdata, __u32 size", "5.7"),
    Helper(121, "xdp_output", "long", "void *ctx, void *map, __u64 flags, void *data, __u64 size", "5.7", True),
    Helper(122, "get_netns_cookie", "__u64", "void *ctx", "5.7"),
    Helper(123, "get_current_ancestor_cgroup_id", "__u64", "int ancestor_level", "5.7"),
    Helper(124, "sk_assign", "long", "void *ctx, void *sk, __u64 flags", "5.7"),
    Helper(125, "ktime_get_boot_ns", "__u64", "void", "5.8"),
    Helper(126, "seq_printf", "long", "struct seq_file *m, const char *fmt, __u32 fmt_size, const void *data, __u32 data_len", "5.8", True),
    Helper(127, "seq_write", "long", "struct seq_file *m, const void *data, __u32 len", "5.8", True),
    Helper(128, "sk_cgroup_id", "__u64", "void *sk", "5.8"),
    Helper(129, "sk_ancestor_cgroup_id", "__u64", "void *sk, int ancestor_level", "5.8"),
    Helper(130, "ringbuf_output", "long", "void *ringbuf, void *data, __u64 size, __u64 flags", "5.8"),
    Helper(131, "ringbuf_reserve", "void *", "void *ringbuf, __u64 size, __u64 flags", "5.8"),
    Helper(132, "ringbuf_submit", "void", "void *data, __u64 flags", "5.8"),
    Helper(133, "ringbuf_discard", "void", "void *data, __u64 flags", "5.8"),
    Helper(134, "ringbuf_query", "__u64", "void *ringbuf, __u64 flags", "5.8"),
    Helper(135, "csum_level", "long", "struct __sk_buff *skb, __u64 level", "5.8"),
    Helper(136, "skc_to_tcp6_sock", "struct tcp6_sock *", "void *sk", "5.9"),
    Helper(137, "skc_to_tcp_sock", "struct tcp_sock *", "void *sk", "5.9"),
    Helper(138, "skc_to_tcp_timewait_sock", "struct tcp_timewait_sock *", "void *sk", "5.9"),
    Helper(139, "skc_to_tcp_request_sock", "struct tcp_request_sock *", "void *sk", "5.9"),
    Helper(140, "skc_to_udp6_sock", "struct udp6_sock *", "void *sk", "5.9"),
    Helper(141, "get_task_stack", "long", "struct task_struct *task, void *buf, __u32 size, __u64 flags", "5.9"),
    Helper(142, "load_hdr_opt", "long", "struct bpf_sock_ops *skops, void *searchby_res, __u32 len, __u64 flags", "5.10"),
    Helper(143, "store_hdr_opt", "long", "struct bpf_sock_ops *skops, const void *from, __u32 len, __u64 flags", "5.10"),
    Helper(144, "reserve_hdr_opt", "long", "struct bpf_sock_ops *skops, __u32 len, __u64 flags", "5.10"),
    Helper(145, "inode_storage_get", "void *", "void *map, void *inode, void *value, __u64 flags", "5.10"),
    Helper(146, "inode_storage_delete", "int", "void *map, void *inode", "5.10"),
    Helper(147, "d_path", "long", "const struct path *path, char *buf, __u32 sz", "5.10"),
    Helper(148, "copy_from_user", "long", "void *dst, __u32 size, const void *user_ptr", "5.10"),
    Helper(149, "snprintf_btf", "long", "char *str, __u32 str_size, struct btf_ptr *ptr, __u32 btf_ptr_size, __u64 flags", "5.10"),
    Helper(150, "seq_printf_btf", "long", "struct seq_file *m, struct btf_ptr *ptr, __u32 ptr_size, __u64 flags", "5.10", True),
    Helper(151, "skb_cgroup_classid", "__u64", "struct __sk_buff *skb", "5.10"),
    Helper(152, "redirect_neigh", "long", "__u32 ifindex, struct bpf_redir_neigh *params, int plen, __u64 flags", "5.10"),
    Helper(153, "per_cpu_ptr", "void *", "const void *percpu_ptr, __u32 cpu", "5.10"),
    Helper(154, "this_cpu_ptr", "void *", "const void *percpu_ptr", "5.10"),
    Helper(155, "redirect_peer", "long", "__u32 ifindex, __u64 flags", "5.10"),
    Helper(156, "task_storage_get", "void *", "void *map, struct task_struct *task, void *value, __u64 flags", "5.11"),
    Helper(157, "task_storage_delete", "long", "void *map, struct task_struct *task", "5.11"),
    Helper(158, "get_current_task_btf", "struct task_struct *", "void", "5.11", True),
    Helper(159, "bprm_opts_set", "long", "struct linux_binprm *bprm, __u64 flags", "5.11"),
    Helper(160, "ktime_get_coarse_ns", "__u64", "void", "5.11"),
    Helper(161, "ima_inode_hash", "long", "struct inode *inode, void *dst, __u32 size", "5.11"),
    Helper(162, "sock_from_file", "struct socket *", "struct file *file", "5.11"),
    Helper(163, "check_mtu", "long", "void *ctx, __u32 ifindex, __u32 *mtu_len, __s32 len_diff, __u64 flags", "5.12", True),
    Helper(164, "for_each_map_elem", "long", "void *map, void *callback_fn, void *callback_ctx, __u64 flags", "5.13"),
    Helper(165, "snprintf", "long", "char *str, __u32 str_size, const char *fmt, __u64 *data, __u32 data_len", "5.13", True),
    Helper(166, "sys_bpf", "long", "__u32 cmd, void *attr, __u32 attr_size", "5.14"),
    Helper(167, "btf_find_by_name_kind", "long", "char *name, int name_sz, __u32 kind, int flags", "5.14"),
    Helper(168, "sys_close", "long", "__u32 fd", "5.14"),
    Helper(169, "timer_init", "long", "struct bpf_timer *timer, void *map, __u64 flags", "5.15", True),
    Helper(170, "timer_set_callback", "long", "struct bpf_timer *timer, void *callback_fn", "5.15", True),
    Helper(171, "timer_start", "long", "struct bpf_timer *timer, __u64 nsecs, __u64 flags", "5.15", True),
    Helper(172, "timer_cancel", "long", "struct bpf_timer *timer", "5.15", True),
    Helper(173, "get_func_ip", "__u64", "void *ctx", "5.15", True),
    Helper(174, "get_attach_cookie", "__u64", "void *ctx", "5.15"),
    Helper(175, "task_pt_regs", "long", "struct task_struct *task", "5.15", True),
    Helper(176, "get_branch_snapshot", "long", "void *entries, __u32 size, __u64 flags", "5.16", True),
    Helper(177, "trace_vprintk", "long", "const char *fmt, __u32 fmt_size, const void *data, __u32 data_len", "5.16", True),
    Helper(178, "skc_to_unix_sock", "struct unix_sock *", "void *sk", "5.16"),
    Helper(179, "kallsyms_lookup_name", "long", "const char *name, int name_sz, int flags, __u64 *res", "5.16"),
    Helper(180, "find_vma", "long", "struct task_struct *task, __u64 addr, void *callback_fn, void *callback_ctx, __u64 flags", "5.17"),
    Helper(181, "loop", "long", "__u32 nr_loops, void *callback_fn, void *callback_ctx, __u64 flags", "5.17"),
    Helper(182, "strncmp", "long", "const char *s1, __u32 s1_sz, const char *s2", "5.17"),
    Helper(183, "get_func_arg", "long", "void *ctx, __u32 n, __u64 *value", "5.17"),
    Helper(184, "get_func_ret", "long", "void *ctx, __u64 *value", "5.17"),
    Helper(185, "get_func_arg_cnt", "long", "void *ctx", "5.17"),
    Helper(186, "get_retval", "int", "void", "5.18"),
    Helper(187, "set_retval", "int", "int retval", "5.18"),
    Helper(188, "xdp_get_buff_len", "__u64", "struct xdp_md *xdp_md", "5.18"),
    Helper(189, "xdp_load_bytes", "long", "struct xdp_md *xdp_md, __u32 offset, void *buf, __u32 len", "5.18"),
    Helper(190, "xdp_store_bytes", "long", "struct xdp_md *xdp_md, __u32 offset, void *buf, __u32 len", "5.18"),
    Helper(191, "copy_from_user_task", "long", "void *dst, __u32 size, const void *user_ptr, struct task_struct *tsk, __u64 flags", "5.18", True),
    Helper(192, "skb_set_tstamp", "long", "struct __sk_buff *skb, __u64 tstamp, __u32 tstamp_type", "5.18"),
    Helper(193, "ima_file_hash", "long", "struct file *file, void *dst, __u32 size", "5.18"),
    Helper(194, "kptr_xchg", "void *", "void *dst, void *ptr", "5.19"),
    Helper(195, "map_lookup_percpu_elem", "void *", "void *map, const void *key, __u32 cpu", "5.19"),
    Helper(196, "skc_to_mptcp_sock", "struct mptcp_sock *", "void *sk", "5.19"),
    Helper(197, "dynptr_from_mem", "long", "void *data, __u64 size, __u64 flags, struct bpf_dynptr *ptr", "5.19"),
    Helper(198, "ringbuf_reserve_dynptr", "long", "void *ringbuf, __u32 size, __u64 flags, struct bpf_dynptr *ptr", "5.19"),
    Helper(199, "ringbuf_submit_dynptr", "void", "struct bpf_dynptr *ptr, __u64 flags", "5.19"),
    Helper(200, "ringbuf_discard_dynptr", "void", "struct bpf_dynptr *ptr, __u64 flags", "5.19"),
    Helper(201, "dynptr_read", "long", "void *dst, __u64 len, const struct bpf_dynptr *src, __u64 offset, __u64 flags", "5.19"),
    Helper(202, "dynptr_write", "long", "const struct bpf_dynptr *dst, __u64 offset, void *src, __u64 len, __u64 flags", "5.19"),
    Helper(203, "dynptr_data", "void *", "const struct bpf_dynptr *ptr, __u64 offset, __u64 len", "5.19"),
    Helper(204, "tcp_raw_gen_syncookie_ipv4", "__s64", "struct iphdr *iph, struct tcphdr *th, __u32 th_len", "6.0", True),
    Helper(205, "tcp_raw_gen_syncookie_ipv6", "__s64", "struct ipv6hdr *iph, struct tcphdr *th, __u32 th_len", "6.0", True),
    Helper(206, "tcp_raw_check_syncookie_ipv4", "long", "struct iphdr *iph, struct tcphdr *th", "6.0", True),
    Helper(207, "tcp_raw_check_syncookie_ipv6", "long", "struct ipv6hdr *iph, struct tcphdr *th", "6.0", True),
    Helper(208, "ktime_get_tai_ns", "__u64", "void", "6.1"),
    Helper(209, "user_ringbuf_drain", "long", "void *map, void *callback_fn, void *ctx, __u64 flags", "6.1"),
    Helper(210, "cgrp_storage_get", "void *", "void *map, struct cgroup *cgroup, void *value, __u64 flags", "6.2"),
    Helper(211, "cgrp_storage_delete", "long", "void *map, struct cgroup *cgroup", "6.2"),
)
# fmt: on

HELPERS: dict[int, Helper] = {helper.id: helper for helper in _ROWS}
HELPERS_BY_NAME: dict[str, Helper] = {helper.name: helper for helper in _ROWS}


def helper_name(number: int) -> str:
    """``bpf_map_lookup_elem`` for 1; ``bpf_helper_999`` for a number the table does not have."""
    helper = HELPERS.get(number)
    return f"bpf_{helper.name}" if helper is not None else f"bpf_helper_{number}"
