// SPDX-License-Identifier: MIT
/*
 * Packets and bytes that reach a network device, by protocol. All of them pass.
 *
 *     bpf2py run examples/packets.bpf.c --device lo
 *
 * Protocols are those of IPv4 and IPv6: 1 ICMP, 6 TCP, 17 UDP, 58 ICMPv6; 255 stands for other packets.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define OTHER 255

struct traffic {
    __u64 packets;
    __u64 bytes;
};

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_HASH);
    __uint(max_entries, 256);
    __type(key, __u8);
    __type(value, struct traffic);
} protocols SEC(".maps");

static __u8 protocol_of(void *data, void *end)
{
    struct ethhdr *ethernet = data;
    struct iphdr *ip = (void *)(ethernet + 1);
    struct ipv6hdr *ipv6 = (void *)(ethernet + 1);

    if ((void *)(ethernet + 1) > end)
        return OTHER;
    if (ethernet->h_proto == bpf_htons(ETH_P_IP) && (void *)(ip + 1) <= end)
        return ip->protocol;
    if (ethernet->h_proto == bpf_htons(ETH_P_IPV6) && (void *)(ipv6 + 1) <= end)
        return ipv6->nexthdr;
    return OTHER;
}

SEC("xdp")
int count_packet(struct xdp_md *ctx)
{
    void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
    __u8 protocol = protocol_of(data, end);
    struct traffic none = {}, *found = bpf_map_lookup_elem(&protocols, &protocol);

    if (!found) { /* another CPU may be faster */
        bpf_map_update_elem(&protocols, &protocol, &none, BPF_NOEXIST);
        found = bpf_map_lookup_elem(&protocols, &protocol);
    }
    if (found) {
        __sync_fetch_and_add(&found->packets, 1);
        __sync_fetch_and_add(&found->bytes, end - data);
    }
    return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
