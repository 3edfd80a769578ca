/* Metrics declared where they are counted: `bpf2py export counter.bpf.c` loads, attaches and exports them.
 *
 *	#include "vmlinux.h"
 *	#include <bpf/bpf_helpers.h>
 *	#include <bpf2py/metrics.h>
 *
 *	struct who {
 *		__u32 pid METRIC_EXPIRES("process");
 *		char comm[16];
 *	};
 *	struct io {
 *		__u64 bytes METRIC_COUNTER METRIC_HELP("Bytes read");
 *		__u64 latency[32] METRIC_HISTOGRAM METRIC_UNIT("nanoseconds");
 *	};
 *	struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, struct who); __type(value, struct io); __uint(max_entries, 4096); }
 *		reads SEC(".maps");
 *
 * They are btf_decl_tag attributes, which stay in the object's BTF (clang 14).
 */
#ifndef BPF2PY_METRICS_H
#define BPF2PY_METRICS_H

#if !defined(__has_attribute) || !__has_attribute(btf_decl_tag)
#error "bpf2py/metrics.h needs btf_decl_tag: clang 14 or newer"
#endif

/* Of a map, a member of its value, or a global variable. */
#define METRIC_COUNTER __attribute__((btf_decl_tag("metric:counter")))
#define METRIC_GAUGE __attribute__((btf_decl_tag("metric:gauge")))
#define METRIC_HISTOGRAM __attribute__((btf_decl_tag("metric:histogram"))) /* an array of counts, or the key's last member is the bucket */
#define METRIC_HELP(text) __attribute__((btf_decl_tag("help:" text)))
#define METRIC_UNIT(unit) __attribute__((btf_decl_tag("unit:" unit))) /* nanoseconds, ... are exported as seconds */
#define METRIC_NAME(name) __attribute__((btf_decl_tag("name:" name))) /* the whole name, instead of OBJECT_MAP_MEMBER_UNIT */
#define METRIC_BUCKETS(how) __attribute__((btf_decl_tag("buckets:" how))) /* log2 (without), exp2, exp2zero, linear:STEP */

/* Of a member of the key, or of a map whose key is not a struct. */
#define METRIC_LABEL(name) __attribute__((btf_decl_tag("label:" name)))
#define METRIC_NO_LABEL __attribute__((btf_decl_tag("label:none"))) /* elements that differ in it alone are added */
#define METRIC_DECODE(decoder) __attribute__((btf_decl_tag("decode:" decoder))) /* cgroup, ksym, inet_ip, ifname, ... */
#define METRIC_EXPIRES(of) __attribute__((btf_decl_tag("expires:" of))) /* the number of a process, or of a cgroup */

#endif
