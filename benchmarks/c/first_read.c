// SPDX-License-Identifier: MIT
/* What table.py compares the first read with: first_read FILE loads an object with libbpf, reads element 0 of my_array_map, and
 * prints nanoseconds since main() and the peak of its memory in KiB. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <sys/resource.h>
#include <time.h>

int main(int argc, char **argv)
{
	struct timespec start, end;
	struct bpf_object *object;
	struct rusage usage;
	unsigned int key = 0, value;
	struct bpf_map *map;

	clock_gettime(CLOCK_MONOTONIC, &start);
	object = argc == 2 ? bpf_object__open_file(argv[1], NULL) : NULL;
	if (!object || bpf_object__load(object))
		return 1;
	map = bpf_object__find_map_by_name(object, "my_array_map");
	if (!map || bpf_map_lookup_elem(bpf_map__fd(map), &key, &value))
		return 1;
	clock_gettime(CLOCK_MONOTONIC, &end);
	getrusage(RUSAGE_SELF, &usage);
	printf("%lld %ld\n", (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec, usage.ru_maxrss);
	return 0;
}
