// SPDX-License-Identifier: MIT
/* Loads an object with libbpf, again and again: load_object FILE ROUNDS prints the best time in nanoseconds. */
#include <bpf/libbpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int quiet(enum libbpf_print_level level, const char *format, va_list arguments)
{
	return level == LIBBPF_WARN ? vfprintf(stderr, format, arguments) : 0;
}

int main(int argc, char **argv)
{
	long long best = -1, took;
	struct timespec start, end;

	libbpf_set_print(quiet);
	for (int round = 0; round < atoi(argv[2]); round++) {
		struct bpf_object *object;

		clock_gettime(CLOCK_MONOTONIC, &start);
		object = bpf_object__open_file(argv[1], NULL);
		if (!object || bpf_object__load(object))
			return 1;
		clock_gettime(CLOCK_MONOTONIC, &end);
		bpf_object__close(object);
		took = (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec;
		if (best < 0 || took < best)
			best = took;
	}
	printf("%lld\n", best);
	return 0;
}
