"""Objects that programs allocate, in lists and trees, and the iterator over bits: on the engine as in the kernel."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import bpf2py
from bpf2py.engine import Engine
from bpf2py.errors import ProgramFault

SOURCE = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#define contains(name, node) __attribute__((btf_decl_tag("contains:" #name ":" #node)))
struct listed { int value; struct bpf_list_node link; };
struct sorted { int value; struct bpf_rb_node link; };
struct heads {
	struct bpf_spin_lock lock;
	struct bpf_list_head list contains(listed, link);
	struct bpf_rb_root tree contains(sorted, link);
};
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, struct heads); }
    map SEC(".maps");
int seen[16], count, bits[16], found_bits, errors[4];
__u64 mask[2] = {0x8000000000000011, 6};

static bool less(struct bpf_rb_node *a, const struct bpf_rb_node *b)
{
	return container_of(a, struct sorted, link)->value < container_of(b, struct sorted, link)->value;
}

static int list(struct heads *heads, int value, bool back)
{
	struct listed *made = bpf_obj_new_impl(bpf_core_type_id_local(struct listed), NULL);
	int error;

	if (!made)
		return -1;
	made->value = value;
	bpf_spin_lock(&heads->lock);
	if (back)
		error = bpf_list_push_back_impl(&heads->list, &made->link, NULL, 0);
	else
		error = bpf_list_push_front_impl(&heads->list, &made->link, NULL, 0);
	bpf_spin_unlock(&heads->lock);
	return error;
}

static void take(struct heads *heads, bool back)
{
	struct bpf_list_node *node;
	struct listed *found;

	bpf_spin_lock(&heads->lock);
	node = back ? bpf_list_pop_back(&heads->list) : bpf_list_pop_front(&heads->list);
	bpf_spin_unlock(&heads->lock);
	if (!node) {
		seen[count++ & 15] = -1;
		return;
	}
	found = container_of(node, struct listed, link);
	seen[count++ & 15] = found->value;
	bpf_obj_drop_impl(found, NULL);
}

SEC("tc") int lists(struct __sk_buff *skb)
{
	int key = 0;
	struct heads *heads = bpf_map_lookup_elem(&map, &key);

	if (!heads)
		return 1;
	take(heads, 0);
	errors[0] = list(heads, 1, 1) | list(heads, 2, 1) | list(heads, 3, 0) | list(heads, 4, 0);
	take(heads, 0);
	take(heads, 1);
	take(heads, 1);
	take(heads, 0);
	take(heads, 1);
	return 0;
}

static int sort(struct heads *heads, int value)
{
	struct sorted *made = bpf_obj_new_impl(bpf_core_type_id_local(struct sorted), NULL);

	if (!made)
		return -1;
	made->value = value;
	bpf_spin_lock(&heads->lock);
	bpf_rbtree_add_impl(&heads->tree, &made->link, less, NULL, 0);
	bpf_spin_unlock(&heads->lock);
	return 0;
}

SEC("tc") int trees(struct __sk_buff *skb)
{
	int key = 0, i;
	struct heads *heads = bpf_map_lookup_elem(&map, &key);

	if (!heads)
		return 1;
	errors[1] = sort(heads, 5) | sort(heads, 2) | sort(heads, 9) | sort(heads, 2);
	for (i = 0; i < 5; i++) {
		struct bpf_rb_node *node;

		bpf_spin_lock(&heads->lock);
		node = bpf_rbtree_first(&heads->tree);
		if (!node) {
			bpf_spin_unlock(&heads->lock);
			seen[8 + i] = -1;
			break;
		}
		seen[8 + i] = container_of(node, struct sorted, link)->value;
		node = bpf_rbtree_remove(&heads->tree, node);
		bpf_spin_unlock(&heads->lock);
		if (node)
			bpf_obj_drop_impl(container_of(node, struct sorted, link), NULL);
	}
	return 0;
}

SEC("syscall") int walk(void *ctx)
{
	struct bpf_iter_bits it;
	int *bit;

	found_bits = 0;

	errors[2] = bpf_iter_bits_new(&it, mask, 2);
	while ((bit = bpf_iter_bits_next(&it)))
		bits[found_bits++ & 15] = *bit + 1;
	bpf_iter_bits_destroy(&it);
	errors[3] = bpf_iter_bits_new(&it, mask, 0);
	bpf_iter_bits_destroy(&it);
	return found_bits;
}
char LICENSE[] SEC("license") = "GPL";
"""
WRONG = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
struct made { int value; };
long address;
SEC("syscall") int drop(void *ctx) { bpf_obj_drop_impl((void *)address, NULL); return 0; }
char LICENSE[] SEC("license") = "GPL";
"""


@pytest.mark.parametrize("where", ["native", "python", pytest.param("kernel", marks=pytest.mark.kernel)])
@pytest.mark.since("6.11")
def test_lists_trees_and_bits(compile_bpf: Callable[[str], bytes], where: str) -> None:
    backend = "kernel" if where == "kernel" else Engine(translator=where)
    with bpf2py.load(compile_bpf(SOURCE), backend=backend) as obj:
        held = 0
        for _ in range(3):
            obj.variables["count"].value = 0
            assert obj.programs["lists"].test_run(bytes(64)).return_value == 0
            assert obj.programs["trees"].test_run(bytes(64)).return_value == 0
            assert obj.programs["walk"].test_run().return_value == 5
            seen = list(obj.variables["seen"].value)
            assert seen[:6] == [-1, 4, 2, 1, 3, -1]
            assert seen[8:13] == [2, 2, 5, 9, -1]
            assert list(obj.variables["bits"].value)[:6] == [1, 5, 64, 66, 67, 0]
            assert list(obj.variables["errors"].value) == [0, 0, 0, -22]
            if not isinstance(backend, str):
                assert not backend.objects
                assert held in (0, len(backend.memory._blocks))
                held = len(backend.memory._blocks)


def test_what_is_not_an_object(compile_bpf: Callable[[str], bytes]) -> None:
    with bpf2py.load(compile_bpf(WRONG), backend=Engine()) as obj:
        for address in (0, 5, 1 << 40):
            obj.variables["address"].value = address
            with pytest.raises(ProgramFault, match="is not an object it made"):
                obj.programs["drop"].run()


CPUS = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>

struct locked { struct bpf_res_spin_lock lock; int number; };
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, int); __type(value, struct locked); }
    map SEC(".maps");
int answers[16], tasks, number;

SEC("syscall") int cpus(void *ctx)
{
	struct bpf_cpumask *a = bpf_cpumask_create(), *b;

	if (!a)
		return 1;
	b = bpf_cpumask_create();
	if (!b) {
		bpf_cpumask_release(a);
		return 1;
	}
	answers[0] = bpf_cpumask_empty((struct cpumask *)a);
	bpf_cpumask_set_cpu(1, a);
	bpf_cpumask_set_cpu(100000, a);
	answers[1] = bpf_cpumask_test_cpu(1, (struct cpumask *)a) + 2 * bpf_cpumask_test_cpu(0, (struct cpumask *)a);
	answers[2] = bpf_cpumask_first((struct cpumask *)a) * 10 + bpf_cpumask_first_zero((struct cpumask *)a);
	answers[3] = bpf_cpumask_test_and_set_cpu(0, b) + 2 * bpf_cpumask_test_and_set_cpu(0, b);
	answers[4] = bpf_cpumask_and(a, (struct cpumask *)a, (struct cpumask *)b);
	answers[5] = bpf_cpumask_weight((struct cpumask *)a);
	bpf_cpumask_setall(a);
	answers[6] = bpf_cpumask_full((struct cpumask *)a) + 2 * bpf_cpumask_subset((struct cpumask *)b, (struct cpumask *)a);
	bpf_cpumask_xor(a, (struct cpumask *)a, (struct cpumask *)b);
	answers[7] = bpf_cpumask_test_cpu(0, (struct cpumask *)a);
	answers[7] += 2 * bpf_cpumask_intersects((struct cpumask *)a, (struct cpumask *)b);
	bpf_cpumask_clear(a);
	bpf_cpumask_copy(b, (struct cpumask *)a);
	answers[8] = bpf_cpumask_equal((struct cpumask *)a, (struct cpumask *)b) + (bpf_cpumask_first((struct cpumask *)a) > 1);
	bpf_cpumask_release(a);
	bpf_cpumask_release(b);
	return 0;
}

SEC("tc") int lock(struct __sk_buff *skb)
{
	int key = 0;
	struct locked *value = bpf_map_lookup_elem(&map, &key);

	if (!value || bpf_res_spin_lock(&value->lock))
		return 1;
	value->number++;
	bpf_res_spin_unlock(&value->lock);
	number = value->number;
	return 0;
}
char LICENSE[] SEC("license") = "GPL";
"""
MISSING = """
#include "vmlinux.h"
#include <bpf/bpf_helpers.h>
SEC("tc") int program(struct __sk_buff *skb) { bpf_kfunc_that_is_not_there(); return 0; }
char LICENSE[] SEC("license") = "GPL";
""".replace('SEC("tc")', 'void bpf_kfunc_that_is_not_there(void) __ksym __weak;\nSEC("tc")')


@pytest.mark.parametrize("where", ["native", "python", pytest.param("kernel", marks=pytest.mark.kernel)])
@pytest.mark.since("6.15")
def test_sets_of_cpus_and_resilient_locks(compile_bpf: Callable[[str], bytes], where: str) -> None:
    backend = "kernel" if where == "kernel" else Engine(translator=where, possible_cpus=2)
    with bpf2py.load(compile_bpf(CPUS), backend=backend) as obj:
        assert obj.programs["cpus"].test_run().return_value == 0
        assert list(obj.variables["answers"].value)[:9] == [1, 1, 10, 2, 0, 0, 3, 0, 2]
        assert [obj.programs["lock"].test_run(bytes(64)).return_value for _ in range(2)] == [0, 0]
        assert obj.variables["number"].value == 2
        if not isinstance(backend, str):
            assert not backend.objects


def test_a_missing_kernel_function_is_named(compile_bpf: Callable[[str], bytes]) -> None:
    with (
        bpf2py.load(compile_bpf(MISSING), backend=Engine()) as obj,
        pytest.raises(
            ProgramFault, match="the kernel function bpf_kfunc_that_is_not_there, which the engine does not have"
        ),
    ):
        obj.programs["program"].run(data=bytes(64))
