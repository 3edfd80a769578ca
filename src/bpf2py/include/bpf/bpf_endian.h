/* SPDX-License-Identifier: MIT */
/*
 * Byte order of the network and of the target. A constant argument is swapped by arithmetic, so that the result may
 * stand in a case label or an initialiser; any other by the target's byte swap instruction.
 */
#ifndef __BPF_ENDIAN__
#define __BPF_ENDIAN__

#define ___bpf_byte(x, n) (((unsigned long long)(x) >> (8 * (n))) & 0xffULL)

#define ___bpf_swab16(x) ((unsigned short)(___bpf_byte(x, 0) << 8 | ___bpf_byte(x, 1)))
#define ___bpf_swab32(x)                                                                           \
	((unsigned int)(___bpf_byte(x, 0) << 24 | ___bpf_byte(x, 1) << 16 |                        \
			___bpf_byte(x, 2) << 8 | ___bpf_byte(x, 3)))
#define ___bpf_swab64(x)                                                                           \
	((unsigned long long)(___bpf_byte(x, 0) << 56 | ___bpf_byte(x, 1) << 48 |                  \
			      ___bpf_byte(x, 2) << 40 | ___bpf_byte(x, 3) << 32 |                  \
			      ___bpf_byte(x, 4) << 24 | ___bpf_byte(x, 5) << 16 |                  \
			      ___bpf_byte(x, 6) << 8 | ___bpf_byte(x, 7)))

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define __bpf_ntohs(x) __builtin_bswap16(x)
#define __bpf_htons(x) __builtin_bswap16(x)
#define __bpf_ntohl(x) __builtin_bswap32(x)
#define __bpf_htonl(x) __builtin_bswap32(x)
#define __bpf_be64_to_cpu(x) __builtin_bswap64(x)
#define __bpf_cpu_to_be64(x) __builtin_bswap64(x)
#define __bpf_constant_ntohs(x) ___bpf_swab16(x)
#define __bpf_constant_htons(x) ___bpf_swab16(x)
#define __bpf_constant_ntohl(x) ___bpf_swab32(x)
#define __bpf_constant_htonl(x) ___bpf_swab32(x)
#define __bpf_constant_be64_to_cpu(x) ___bpf_swab64(x)
#define __bpf_constant_cpu_to_be64(x) ___bpf_swab64(x)
#elif __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define __bpf_ntohs(x) (x)
#define __bpf_htons(x) (x)
#define __bpf_ntohl(x) (x)
#define __bpf_htonl(x) (x)
#define __bpf_be64_to_cpu(x) (x)
#define __bpf_cpu_to_be64(x) (x)
#define __bpf_constant_ntohs(x) (x)
#define __bpf_constant_htons(x) (x)
#define __bpf_constant_ntohl(x) (x)
#define __bpf_constant_htonl(x) (x)
#define __bpf_constant_be64_to_cpu(x) (x)
#define __bpf_constant_cpu_to_be64(x) (x)
#else
#error "the compiler does not say the target's byte order"
#endif

#define ___bpf_order(way, x) (__builtin_constant_p(x) ? __bpf_constant_##way(x) : __bpf_##way(x))

#define bpf_htons(x) ___bpf_order(htons, x)
#define bpf_ntohs(x) ___bpf_order(ntohs, x)
#define bpf_htonl(x) ___bpf_order(htonl, x)
#define bpf_ntohl(x) ___bpf_order(ntohl, x)
#define bpf_cpu_to_be64(x) ___bpf_order(cpu_to_be64, x)
#define bpf_be64_to_cpu(x) ___bpf_order(be64_to_cpu, x)

#endif /* __BPF_ENDIAN__ */
