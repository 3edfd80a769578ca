// SPDX-License-Identifier: MIT
/* What table.py compares the first read with: first_read FILE loads an object with libbpf, reads element 0 of my_array_map, and
 * prints nanoseconds since main() and the peak of its memory in KiB. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Of this process alone: what getrusage() says includes the parent's pages from before exec(). */
static long peak(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[128];
	long kib = 0;

	while (status && fgets(line, sizeof(line), status))
		if (!strncmp(line, "VmHWM:", 6))
			sscanf(line + 6, "%ld", &kib);
	if (status)
		fclose(status);
	return kib;
}

int main(int argc, char **argv)
{
	struct timespec start, end;
	struct bpf_object *object;
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
	printf("%lld %ld\n", (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec, peak());
	return 0;
}
