/* Text by a format, as far as formats are plain: %d %i %u %x %X with l or ll, %s, %c and %%, without flags and widths.
 *
 * All else is left to Python, as are characters the kernel refuses, and what is longer than anybody writes.
 */
#ifndef BPF2PY_FORMAT_H
#define BPF2PY_FORMAT_H

#include "quick.h"

#define LONGEST 512        /* of a format, and of a text in an argument */
#define MOST_ARGUMENTS 12
#define ROOM 400           /* for copies of arguments; the kernel has a little more */

struct text {
	u8 *to;
	u64 most;   /* bytes there is space for */
	u64 length; /* bytes there would be */
};

/* What a format asks for, and how long what it makes of its arguments can become. */
struct plan {
	u64 length;    /* of the format */
	u64 arguments; /* it uses */
	u64 longest;
};

INLINE void put(struct text *out, u8 byte)
{
	if (out->length < out->most)
		out->to[out->length] = byte;
	out->length++;
}

/* The conversion behind a percent sign: its letter, with 'l' << 8 where the number is long; 0 for what is not plain. */
INLINE u32 conversion(const u8 **at)
{
	const u8 *form = *at;
	u32 wide = 0;

	if (*form == 'l') {
		wide = 'l' << 8;
		form++;
		if (*form == 'l')
			form++;
	}
	*at = form + 1;
	switch (*form) {
	case 'd':
	case 'i':
	case 'u':
	case 'x':
	case 'X':
		return *form | wide;
	case 'c':
		return wide ? 0 : 'c';
	case 's':
		if (wide || (u8)((form[1] | 32) - 'a') < 26 || (u8)(form[1] - '0') < 10)
			return 0;
		return 's';
	default:
		return 0;
	}
}

/* Whether all of it can be done here, and nothing that is read lies where is written. */
LOCAL u64 planned(u64 format, const u64 *values, struct plan *plan, u64 to, u64 size)
{
	const u8 *at = (const u8 *)format, *end = at + LONGEST;
	u64 used = 0, room = 0;

	plan->longest = 0;
	if (!public(format, LONGEST + 16))
		return 0;
	for (; *at; at++) {
		u32 kind;

		if (at >= end || *at >= 0x7f || *at < '\t' || (*at > '\r' && *at < ' '))
			return 0;
		plan->longest++;
		if (*at != '%')
			continue;
		at++;
		if (*at == '%')
			continue;
		kind = conversion(&at);
		at--;
		if (!kind || used >= plan->arguments)
			return 0;
		if (kind == 's') {
			u64 from = values[used], length;

			if (!public(from, LONGEST))
				return 0;
			length = length_of((const u8 *)from, LONGEST);
			if (((const u8 *)from)[length - 1] || (size && (to - from < length || from - to < size)))
				return 0;
			room += length;
			plan->longest += length;
		} else {
			room += 12;
			plan->longest += 20;
		}
		if (room > ROOM)
			return 0;
		used++;
	}
	plan->length = (u64)at - format;
	return !size || (to - format > plan->length && format - to >= size);
}

LOCAL void number(struct text *out, u64 value, u32 kind)
{
	u8 digits[24];
	u32 letter = kind & 0xff, count = 0;

	if (!(kind >> 8))
		value = letter == 'd' || letter == 'i' ? (u64)(s32)value : (u32)value;
	if ((letter == 'd' || letter == 'i') && (s64)value < 0) {
		put(out, '-');
		value = -value;
	}
	if (letter == 'x' || letter == 'X') {
		u8 ten = letter - 33;  /* 'W', or '7': the letter of ten is that many behind */

		do {
			u8 digit = value & 15;

			digits[count++] = digit < 10 ? '0' + digit : ten + digit;
			value >>= 4;
		} while (value);
	} else {
		do {
			digits[count++] = '0' + value % 10;
			value /= 10;
		} while (value);
	}
	while (count)
		put(out, digits[--count]);
}

LOCAL void written(struct text *out, u64 format, const u64 *values)
{
	const u8 *at = (const u8 *)format;

	for (; *at; at++) {
		u32 kind;

		if (*at != '%') {
			put(out, *at);
			continue;
		}
		at++;
		if (*at == '%') {
			put(out, '%');
			continue;
		}
		kind = conversion(&at);
		at--;
		if (kind == 's')
			for (const u8 *from = (const u8 *)*values; *from; from++)
				put(out, *from);
		else if (kind == 'c')
			put(out, *values);
		else
			number(out, *values, kind);
		values++;
	}
}

INLINE int are_values(u64 data, u64 size)
{
	return !(size & 7) && size <= 8 * MOST_ARGUMENTS && (!size || public(data, size));
}

EXPORT s64 snprintf(u64 to, u64 size, u64 format, u64 data, u64 data_size)
{
	struct plan plan = { 0, (u32)data_size / 8, 0 };
	struct text out = { (u8 *)to, (u32)size - 1, 0 };

	if (!(u32)size || !public(to, (u32)size) || !are_values(data, (u32)data_size) ||
	    (data_size && overlap_of(to, (u32)size, data, (u32)data_size)) ||
	    !planned(format, (const u64 *)data, &plan, to, (u32)size))
		return PYTHON(165)(to, size, format, data, data_size);
	written(&out, format, (const u64 *)data);
	((u8 *)to)[out.length < out.most ? out.length : out.most] = 0;
	return out.length + 1;
}

#define LOG_SIZE (1u << 16)
#define LONGEST_LINE 1024 /* MAX_BPRINTF_BUF */

/* A line for Engine.trace; 0: not done. */
LOCAL u64 logged(u64 format, u64 size, const u64 *values, u64 arguments)
{
	struct plan plan = { 0, arguments, 0 };
	struct text out;
	u8 *line = (u8 *)ENGINE->log + ENGINE->log_used;

	if (!public(format, (u32)size) || !planned(format, values, &plan, 0, 0) || plan.length >= (u32)size || plan.longest >= LONGEST_LINE ||
	    ENGINE->log_used + LONGEST_LINE + 2 > LOG_SIZE)
		return 0;
	out = (struct text){ line + 2, LONGEST_LINE - 1, 0 };
	written(&out, format, values);
	*(u16 *)line = out.length;
	ENGINE->log_used += out.length + 2;
	return out.length + 1;
}

EXPORT s64 trace_printk(u64 format, u64 size, u64 a, u64 b, u64 c)
{
	u64 values[3] = { a, b, c }, done = logged(format, size, values, 3);

	return done ? (s64)done - 1 : PYTHON(6)(format, size, a, b, c);
}

EXPORT s64 trace_vprintk(u64 format, u64 size, u64 data, u64 data_size)
{
	u64 done = are_values(data, (u32)data_size) ? logged(format, size, (const u64 *)data, (u32)data_size / 8) : 0;

	return done ? (s64)done - 1 : PYTHON(177)(format, size, data, data_size, 0);
}

#endif
