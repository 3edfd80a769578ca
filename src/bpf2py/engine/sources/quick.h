/* Helpers of which the usual case is done here, and all else, above all what is an error, in Python.
 *
 * What is done here gives what the Python function of the same name gives, to the last byte. Nothing is written before it is
 * known that nothing is left to Python, which starts again from the arguments.
 */
#ifndef BPF2PY_QUICK_H
#define BPF2PY_QUICK_H

#include "values.h"

/* The helper of that number in Python. Only helpers end up there whose callers noted where they are: Target kind "quick". */
#define PYTHON(number) ((s64 (*)(u64, u64, u64, u64, u64))(number))
#define READ_CLOCK ((u64 (*)(u64))0x10001) /* see `library_code` */
#define CLOCK_MONOTONIC 1
#define CLOCK_MONOTONIC_COARSE 6
#define CLOCK_BOOTTIME 7
#define CLOCK_TAI 11
#define HEADERS (MEMORY + 0x1000)
#define MAX_MAPS (1u << 13)
#define MOST (1u << 20) /* bytes that are copied here */

/* Whether a program may use so many bytes there, at least one. */
INLINE int public(u64 address, u64 size)
{
	return size - 1 < MOST && address - PUBLIC <= ENGINE->end - PUBLIC - size;
}

/* Whether that is the header of a map of a type. */
INLINE int is_map(struct map *m, u32 type)
{
	return (u64)m - HEADERS < MAX_MAPS * sizeof(struct map) && !((u64)m & 255) && m->type == type;
}

/* Whether copying forward reads what it wrote before. */
INLINE int overlap(u64 to, u64 from, u64 size)
{
	return to - from < size || from - to < size;
}

INLINE int overlap_of(u64 to, u64 size, u64 from, u64 length)
{
	return to - from < length || from - to < size;
}

LOCAL void copy_some(void *to, const void *from, u64 size)
{
	if (size == 16) {
		((u64 *)to)[0] = ((const u64 *)from)[0];
		((u64 *)to)[1] = ((const u64 *)from)[1];
		return;
	}
	copy(to, from, size);
}

/* -- time ---------------------------------------------------------------------------------------------------------------- */

INLINE u64 clock(u64 which, u64 number)
{
	if (ENGINE->clock == CLOCK_REAL)
		return READ_CLOCK(which);
	return ENGINE->clock == CLOCK_FROZEN ? ENGINE->now : (u64)PYTHON(number)(0, 0, 0, 0, 0);
}

EXPORT u64 ktime_get_ns(void)
{
	return clock(CLOCK_MONOTONIC, 5);
}

EXPORT u64 ktime_get_coarse_ns(void)
{
	return clock(CLOCK_MONOTONIC_COARSE, 160);
}

EXPORT u64 ktime_get_boot_ns(void)
{
	return clock(CLOCK_BOOTTIME, 125);
}

EXPORT u64 ktime_get_tai_ns(void)
{
	return clock(CLOCK_TAI, 208);
}

/* 250 a second. */
EXPORT u64 jiffies64(void)
{
	return ENGINE->clock ? clock(CLOCK_MONOTONIC_COARSE, 118) / 4000000 : (u64)PYTHON(118)(0, 0, 0, 0, 0);
}

/* -- the task ------------------------------------------------------------------------------------------------------------ */

EXPORT u64 get_current_cgroup_id(void)
{
	return ENGINE->cgroup_id;
}

EXPORT u64 get_attach_cookie(void)
{
	return ENGINE->cookie;
}

EXPORT u64 get_numa_node_id(void)
{
	return 0;
}

EXPORT u64 get_current_task(void)
{
	return ENGINE->task ? ENGINE->task : (u64)PYTHON(35)(0, 0, 0, 0, 0);
}

EXPORT u64 get_current_task_btf(void)
{
	return ENGINE->task ? ENGINE->task : (u64)PYTHON(158)(0, 0, 0, 0, 0);
}

EXPORT s64 get_current_comm(u64 to, u64 size)
{
	if (!ENGINE->named || (u32)size != 16 || !public(to, 16))
		return PYTHON(16)(to, size, 0, 0, 0);
	((u64 *)to)[0] = ENGINE->comm[0];
	((u64 *)to)[1] = ENGINE->comm[1];
	return 0;
}

#define ROOT_CGROUP 1

EXPORT u64 get_current_ancestor_cgroup_id(u64 level)
{
	if (!(u32)level)
		return ROOT_CGROUP;
	return (u32)level == 1 && ENGINE->cgroup_id != ROOT_CGROUP ? ENGINE->cgroup_id : 0;
}

/* struct bpf_pidns_info, of the one PID namespace there is. */
EXPORT s64 get_ns_current_pid_tgid(u64 dev, u64 ino, u64 to, u64 size)
{
	if (!ENGINE->pid_ino || ino != ENGINE->pid_ino || dev != ENGINE->pid_dev || (u32)size != 8 || !public(to, 8))
		return PYTHON(120)(dev, ino, to, size, 0);
	((u32 *)to)[0] = ENGINE->pid_tgid;
	((u32 *)to)[1] = ENGINE->pid_tgid >> 32;
	return 0;
}

/* Per-CPU variables of the simulated kernel are the same on each CPU. */
EXPORT u64 per_cpu_ptr(u64 pointer, u64 cpu)
{
	return cpu < ENGINE->possible_cpus ? pointer : 0;
}

EXPORT u64 this_cpu_ptr(u64 pointer)
{
	return pointer;
}

/* -- memory -------------------------------------------------------------------------------------------------------------- */

INLINE int copied(u64 to, u64 size, u64 from)
{
	if (!public(to, size) || !public(from, size) || overlap(to, from, size))
		return 0;
	copy_some((void *)to, (const void *)from, size);
	return 1;
}

EXPORT u64 kptr_xchg(u64 place, u64 pointer)
{
	u64 before;

	if (place & 7 || !public(place, 8))
		return PYTHON(194)(place, pointer, 0, 0, 0);
	before = *(u64 *)place;
	*(u64 *)place = pointer;
	return before;
}

EXPORT s64 probe_read_kernel(u64 to, u64 size, u64 from)
{
	return copied(to, (u32)size, from) ? 0 : PYTHON(113)(to, size, from, 0, 0);
}

EXPORT s64 probe_read_user(u64 to, u64 size, u64 from)
{
	return ENGINE->own_memory && copied(to, (u32)size, from) ? 0 : PYTHON(112)(to, size, from, 0, 0);
}

EXPORT s64 probe_read(u64 to, u64 size, u64 from)
{
	return copied(to, (u32)size, from) ? 0 : PYTHON(4)(to, size, from, 0, 0);
}

EXPORT s64 copy_from_user(u64 to, u64 size, u64 from)
{
	return ENGINE->own_memory && copied(to, (u32)size, from) ? 0 : PYTHON(148)(to, size, from, 0, 0);
}

#define LOW 0x0101010101010101ULL

/* Bytes of a string with its NUL, `size` where there is none before. */
INLINE u64 length_of(const u8 *text, u64 size)
{
	u64 at = 0;

	for (; at + 8 <= size; at += 8) {
		u64 word = *(const u64 *)(text + at);

		if ((word - LOW) & ~word & LOW << 7)
			break;
	}
	for (; at < size; at++)
		if (!text[at])
			return at + 1;
	return size;
}

/* 0: not done. */
LOCAL u64 copied_text(u64 to, u64 size, u64 from)
{
	u64 length;

	if (!public(to, size) || !public(from, size) || overlap(to, from, size))
		return 0;
	length = length_of((const u8 *)from, size);
	copy_some((void *)to, (const void *)from, length);
	((u8 *)to)[length - 1] = 0;
	return length;
}

EXPORT s64 probe_read_kernel_str(u64 to, u64 size, u64 from)
{
	s64 length = copied_text(to, (u32)size, from);

	return length ? length : PYTHON(115)(to, size, from, 0, 0);
}

EXPORT s64 probe_read_user_str(u64 to, u64 size, u64 from)
{
	s64 length = ENGINE->own_memory ? copied_text(to, (u32)size, from) : 0;

	return length ? length : PYTHON(114)(to, size, from, 0, 0);
}

EXPORT s64 probe_read_str(u64 to, u64 size, u64 from)
{
	s64 length = copied_text(to, (u32)size, from);

	return length ? length : PYTHON(45)(to, size, from, 0, 0);
}

/* -- packets ------------------------------------------------------------------------------------------------------------- */

EXPORT s64 skb_load_bytes(u64 skb, u64 offset, u64 to, u64 size)
{
	u64 from = ENGINE->packet + (u32)offset;

	if (ENGINE->packet && (u32)offset < 1u << 31 && from + (u32)size <= ENGINE->packet_end && copied(to, (u32)size, from))
		return 0;
	return PYTHON(26)(skb, offset, to, size, 0);
}

EXPORT s64 skb_load_bytes_relative(u64 skb, u64 offset, u64 to, u64 size, u64 start)
{
	u64 from = ENGINE->mac + (u32)offset + ((u32)start ? 14 : 0);

	if (ENGINE->packet && (u32)start <= 1 && (u32)offset <= 0xffff && from + (u32)size <= ENGINE->packet_end &&
	    copied(to, (u32)size, from))
		return 0;
	return PYTHON(68)(skb, offset, to, size, start);
}

EXPORT s64 skb_store_bytes(u64 skb, u64 offset, u64 from, u64 size, u64 flags)
{
	u64 to = ENGINE->packet + (u32)offset;

	if (ENGINE->packet && flags <= 3 && (u32)offset < 1u << 31 && to + (u32)size <= ENGINE->packet_end &&
	    copied(to, (u32)size, from))
		return 0;
	return PYTHON(9)(skb, offset, from, size, flags);
}

EXPORT s64 skb_pull_data(u64 skb, u64 length)
{
	if (ENGINE->packet && (u32)length <= ENGINE->packet_end - ENGINE->packet)
		return 0;
	return PYTHON(39)(skb, length, 0, 0, 0);
}

/* Without a hash, one of the first bytes. */
EXPORT u64 get_hash_recalc(u64 skb)
{
	u32 *hash = (u32 *)(ENGINE->skb + 68), value = 0x811c9dc5;
	u64 length = ENGINE->packet_end - ENGINE->packet;

	if (!ENGINE->packet)
		return PYTHON(34)(skb, 0, 0, 0, 0);
	if (!*hash) {
		for (u64 i = 0; i < 64 && i < length; i++)
			value = (value ^ ((const u8 *)ENGINE->packet)[i]) * 0x01000193;
		*hash = value ? value : 1;
	}
	return *hash;
}

EXPORT u64 get_socket_cookie(void)
{
	return 1;
}

EXPORT u64 skb_cgroup_id(void)
{
	return 1;
}

EXPORT u64 redirect(u64 ifindex, u64 flags)
{
	if (ENGINE->packet && flags <= 1)
		return 7;
	return ENGINE->frame && !flags ? 4 : PYTHON(23)(ifindex, flags, 0, 0, 0);
}

INLINE int in_frame(u64 offset, u64 size)
{
	return ENGINE->frame && (u32)offset <= 0xffff && (u32)size <= 0xffff &&
	       FRAME->data + (u32)offset + (u32)size <= FRAME->end;
}

EXPORT s64 xdp_load_bytes(u64 xdp, u64 offset, u64 to, u64 size)
{
	return in_frame(offset, size) && copied(to, (u32)size, FRAME->data + (u32)offset) ?
		0 : PYTHON(189)(xdp, offset, to, size, 0);
}

EXPORT s64 xdp_store_bytes(u64 xdp, u64 offset, u64 from, u64 size)
{
	return in_frame(offset, size) && copied(FRAME->data + (u32)offset, (u32)size, from) ?
		0 : PYTHON(190)(xdp, offset, from, size, 0);
}

EXPORT u64 xdp_get_buff_len(u64 xdp)
{
	return ENGINE->frame ? FRAME->end - FRAME->data : (u64)PYTHON(188)(xdp, 0, 0, 0, 0);
}

#define XDP_FRAME 40 /* sizeof(struct xdp_frame), which the kernel keeps in front of all */
#define ETH_HLEN 14

INLINE void tell_frame(struct frame *f)
{
	((u32 *)f->context)[0] = f->data;
	((u32 *)f->context)[1] = f->linear_end;
	((u32 *)f->context)[2] = f->meta;
}

EXPORT s64 xdp_adjust_head(u64 xdp, u64 delta)
{
	struct frame *f = FRAME;
	u64 data;

	if (!f || f->data != f->meta)
		return PYTHON(44)(xdp, delta, 0, 0, 0);
	data = f->data + (s64)(s32)delta;
	if (data < f->start + XDP_FRAME || data > f->linear_end - ETH_HLEN)
		return -EINVAL;
	f->data = f->meta = data;
	tell_frame(f);
	return 0;
}

EXPORT s64 xdp_adjust_tail(u64 xdp, u64 delta)
{
	struct frame *f = FRAME;
	u64 end;

	if (!f || f->linear_end != f->end)
		return PYTHON(65)(xdp, delta, 0, 0, 0);
	end = f->end + (s64)(s32)delta;
	if (end > f->limit || end < f->data + ETH_HLEN)
		return -EINVAL;
	if (end > f->end)
		zero((void *)f->end, end - f->end);
	f->end = f->linear_end = end;
	tell_frame(f);
	return 0;
}

/* -- checksums ----------------------------------------------------------------------------------------------------------- */

/* The sum of 32-bit words with what is carried added back. */
INLINE u64 sum_of(const u32 *words, u64 bytes, u64 total)
{
	for (u64 i = 0; i < bytes / 4; i++)
		total += words[i];
	total = (u32)total + (total >> 32);
	return (u32)total + (total >> 32);
}

INLINE u64 folded(u64 total)
{
	total = (total & 0xffff) + (total >> 16);
	return (total & 0xffff) + (total >> 16);
}

EXPORT s64 csum_diff(u64 old, u64 old_size, u64 new, u64 new_size, u64 seed)
{
	u64 removed = (u32)old_size, added = (u32)new_size, total = (u32)seed;

	if (ENGINE->version < VERSION(6, 13, 0) || (removed | added) & 3 || (removed && !public(old, removed)) ||
	    (added && !public(new, added)))
		return PYTHON(28)(old, old_size, new, new_size, seed);
	if (removed && added) {
		total = sum_of((const u32 *)new, added, total) + (u32)~sum_of((const u32 *)old, removed, 0);
		total = (u32)total + (total >> 32);
	} else if (removed) {
		total = (u32)~sum_of((const u32 *)old, removed, (u32)~total);
	} else {
		total = sum_of((const u32 *)new, added, total);
	}
	return folded(total);
}

/* Of the 16 bits at a place in the packet, for a member of 2 or 4 bytes that changed; 0: not done. */
LOCAL u64 replaced(u64 offset, u64 old, u64 new, u64 size, u64 mangled)
{
	u64 place = ENGINE->packet + (u32)offset, difference, total;

	if (!ENGINE->packet || (u32)offset > 0xffff || offset & 1 || place + 2 > ENGINE->packet_end || !public(place, 2))
		return 0;
	if (size == 4)
		difference = (u64)(u32)~old + (u32)new;
	else if (size == 2)
		difference = (u64)(~old & 0xffff) + (new & 0xffff);
	else
		return 0;
	difference = (u32)difference + (difference >> 32);
	total = (u64)(~*(u16 *)place & 0xffff) + difference;
	total = (u32)total + (total >> 32);
	total = ~folded(total) & 0xffff;
	*(u16 *)place = mangled && !total ? 0xffff : total;
	return 1;
}

EXPORT s64 l3_csum_replace(u64 skb, u64 offset, u64 old, u64 new, u64 size)
{
	return size <= 15 && replaced(offset, old, new, size, 0) ? 0 : PYTHON(10)(skb, offset, old, new, size);
}

/* BPF_F_MARK_MANGLED_0, which looks at the packet first, is left to Python. */
EXPORT s64 l4_csum_replace(u64 skb, u64 offset, u64 old, u64 new, u64 flags)
{
	u64 size = flags & 15;

	return !(flags & ~(15ULL | 1 << 4 | 1 << 6 | 1 << 7)) && replaced(offset, old, new, size, 0) ?
		0 : PYTHON(11)(skb, offset, old, new, flags);
}

/* -- text ---------------------------------------------------------------------------------------------------------------- */

/* -1 or 1 as on x86-64. */
EXPORT s64 strncmp(u64 a, u64 size, u64 b)
{
	const u8 *one = (const u8 *)a, *other = (const u8 *)b;
	u64 i;

	if ((u32)size > 4096 || !public(a, (u32)size) || !public(b, 4096 + 256))
		return PYTHON(182)(a, size, b, 0, 0);
	for (i = 0; i < (u32)size; i++) {
		if (one[i] != other[i])
			return one[i] < other[i] ? -1 : 1;
		if (!one[i])
			break;
	}
	return 0;
}


/* A number as strtoll() reads it, negative where it may have a sign: the characters that made it up, 0: not done. */
LOCAL u64 parsed(u64 text, u64 size, u64 base, u64 signs, u64 *found)
{
	const u8 *at = (const u8 *)text, *end, *first;
	u64 value = 0, negative = 0;

	if (!(u32)size || !public(text, (u32)size))
		return 0;
	end = at + (u32)size;
	while (at < end && (*at == ' ' || (*at >= '\t' && *at <= '\r')))
		at++;
	if (signs && at < end && *at == '-') {
		negative = 1;
		at++;
	}
	if (at + 2 < end && *at == '0' && (at[1] | 32) == 'x' && (!base || base == 16)) {
		at += 2;
		base = 16;
	} else if (!base) {
		base = at < end && *at == '0' ? 8 : 10;
	}
	for (first = at; at < end; at++) {
		u64 digit = *at - '0';

		if (digit > 9) {
			digit = (*at | 32) - 'a';
			digit = digit > 5 ? 16 : digit + 10;
		}
		if (digit >= base)
			break;
		value = value * base + digit;
		if (value >> 59)
			return 0;
	}
	if (at == first)
		return 0;
	*found = negative ? -value : value;
	return at - (const u8 *)text;
}

/* Stores it; where it would be stored into its own text, what Python does first matters. */
LOCAL u64 converted(u64 text, u64 size, u64 flags, u64 signs, u64 result)
{
	u64 value, length;

	if ((flags && flags != 8 && flags != 10 && flags != 16) || !public(result, 8) || overlap_of(result, 8, text, (u32)size))
		return 0;
	length = parsed(text, size, flags, signs, &value);
	if (length)
		*(u64 *)result = value;
	return length;
}

EXPORT s64 strtol(u64 text, u64 size, u64 flags, u64 result)
{
	s64 length = converted(text, size, flags, 1, result);

	return length ? length : PYTHON(105)(text, size, flags, result, 0);
}

EXPORT s64 strtoul(u64 text, u64 size, u64 flags, u64 result)
{
	s64 length = converted(text, size, flags, 0, result);

	return length ? length : PYTHON(106)(text, size, flags, result, 0);
}

#endif
