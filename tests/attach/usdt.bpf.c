// SPDX-License-Identifier: MIT
#include <linux/bpf.h>
#define BPF_USDT_MAX_SPEC_CNT 4
#include <bpf/usdt.bpf.h>

int runs, count, size, errors[8];
long args[8], cookie, typed[3];
int tgid;

SEC("usdt") int record(struct pt_regs *ctx)
{
    __sync_fetch_and_add(&runs, 1);
    count = bpf_usdt_arg_cnt(ctx);
    size = bpf_usdt_arg_size(ctx, 0);
    cookie = bpf_usdt_cookie(ctx);
    tgid = bpf_get_current_pid_tgid() >> 32;
    for (int i = 0; i < 8; i++)
        errors[i] = bpf_usdt_arg(ctx, i, &args[i]);
    return 0;
}

SEC("usdt") int sum(struct pt_regs *ctx)
{
    long value = 0;

    bpf_usdt_arg(ctx, 0, &value);
    __sync_fetch_and_add(&args[7], value);
    __sync_fetch_and_add(&runs, 1);
    return 0;
}

SEC("usdt") int BPF_USDT(with_types, int a, unsigned long b, short c)
{
    typed[0] = a;
    typed[1] = b;
    typed[2] = c;
    return 0;
}

SEC("?usdt.s") int may_sleep(struct pt_regs *ctx)
{
    char byte;

    bpf_usdt_arg(ctx, 0, &args[0]);
    errors[7] = bpf_copy_from_user(&byte, 1, (void *)8); /* only programs that may sleep can; nothing is there: -EFAULT */
    __sync_fetch_and_add(&runs, 1);
    return 0;
}

char LICENSE[] SEC("license") = "GPL";
