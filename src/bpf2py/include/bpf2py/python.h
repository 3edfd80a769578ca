/* The Python stack of the thread a program runs in: CPython 3.11 to 3.15, from any hook that may read user memory.
 *
 *	#include "vmlinux.h"
 *	#include <bpf/bpf_helpers.h>
 *	#include <bpf2py/python.h>
 *
 *	struct event { __u32 pid; struct bpf2py_python_stack stack; };
 *	...
 *	bpf2py_python_stack(ctx, &event->stack);
 *
 * Which processes run Python, and where their interpreters keep what, user space says (bpf2py.symbols.PythonStacks); it also names
 * the frames. A code object's names and lines are copied to a map when it is first met, so that they are known when the process has
 * gone.
 */
#ifndef BPF2PY_PYTHON_H
#define BPF2PY_PYTHON_H

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

#ifndef BPF2PY_PYTHON_DEPTH
#define BPF2PY_PYTHON_DEPTH 64 /* frames of a stack; deeper ones lose their outermost */
#endif
#ifndef BPF2PY_PYTHON_CODES
#define BPF2PY_PYTHON_CODES 4096 /* code objects remembered */
#endif
#define BPF2PY_PYTHON_THREADS 512 /* threads of a process that are searched */

/* Why there is no stack, in `error`. */
#define BPF2PY_PYTHON_UNKNOWN 1 /* not a process user space has told of */
#define BPF2PY_PYTHON_NO_THREAD 2 /* not a thread of the interpreter, or one that runs no Python code */
#define BPF2PY_PYTHON_UNREADABLE 3 /* its memory could not be read: paged out, or changed meanwhile */
#define BPF2PY_PYTHON_SUBINTERPRETERS 4 /* it has several interpreters */

#define BPF2PY_PYTHON_OWN 3 /* frames with this owner or a higher one are the interpreter's own: FRAME_OWNED_BY_CSTACK */
#define BPF2PY_PYTHON_ENTRY 1 /* flag of a frame: the one C code called; what follows are its callers */

struct bpf2py_python_frame {
	__u64 code; /* the code object, and its line table: what user space knows it by */
	__u64 linetable;
	__u32 instruction; /* in code units from the code's beginning */
	__u32 flags; /* the upper 24 bits: `generation` of the process */
};

struct bpf2py_python_stack {
	__u32 pid;
	__u16 count; /* frames, innermost first */
	__u8 truncated; /* there were more */
	__u8 error;
	struct bpf2py_python_frame frames[BPF2PY_PYTHON_DEPTH];
};

/* Offsets within the interpreter's structures. */
struct bpf2py_python_process {
	__u64 runtime;
	__u32 interpreters_head, interpreter_next, threads_head;
	__u32 thread_next, native_thread_id, cframe, current_frame;
	__u32 previous, executable, instruction, owner, is_entry;
	__u32 filename, qualname, linetable, firstlineno, code;
	__u32 unicode_length, unicode_data, bytes_size, bytes_data;
	__u32 has_cframe, has_is_entry;
	__u32 generation; /* another one for each program the process turns into: addresses may be the same */
};

struct bpf2py_python_code_key {
	__u64 code, linetable;
	__u32 pid, generation;
};

struct bpf2py_python_code {
	__s32 firstlineno;
	__u32 linetable_size;
	__u8 filename[256]; /* string objects as they are in memory */
	__u8 qualname[192];
	__u8 linetable[1024];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, struct bpf2py_python_process);
} bpf2py_python_processes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, BPF2PY_PYTHON_CODES);
	__type(key, struct bpf2py_python_code_key);
	__type(value, struct bpf2py_python_code);
} bpf2py_python_codes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct bpf2py_python_code);
} bpf2py_python_scratch SEC(".maps");

struct upid___bpf2py {
	int nr;
} __attribute__((preserve_access_index));
struct pid___bpf2py {
	unsigned int level;
	struct upid___bpf2py numbers[1];
} __attribute__((preserve_access_index));
struct task_struct___bpf2py {
	struct pid___bpf2py *thread_pid;
} __attribute__((preserve_access_index));

/* The thread's number in its own namespace, which is the one Python knows. */
static __always_inline __u64 bpf2py_python_thread(void)
{
	struct task_struct___bpf2py *task = (void *)bpf_get_current_task();
	struct pid___bpf2py *pid = BPF_CORE_READ(task, thread_pid);
	unsigned int level = BPF_CORE_READ(pid, level);
	int number = 0;

	bpf_probe_read_kernel(&number, sizeof(number),
			      (void *)pid + bpf_core_field_offset(struct pid___bpf2py, numbers) +
				      level * bpf_core_type_size(struct upid___bpf2py));
	return number;
}

static __always_inline __u64 bpf2py_python_u64(__u64 address)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline __u8 bpf2py_python_u8(__u64 address)
{
	__u64 value = 0; /* eight bytes of its own: what is beside it on the stack stays known to the verifier */

	bpf_probe_read_user(&value, 1, (void *)address);
	return value;
}

static __always_inline void bpf2py_python_text(__u8 *to, __u32 most, __u64 object, struct bpf2py_python_process *process)
{
	__u64 length = bpf2py_python_u64(object + process->unicode_length);
	__u64 size = process->unicode_data + 1 + length * 4;

	if (size > most)
		size = most;
	if (!bpf_probe_read_user(to, size, (void *)object))
		return;
	size = process->unicode_data + 1 + length; /* the end of its memory was near: as long as one byte a character takes */
	if (size > most)
		size = most;
	bpf_probe_read_user(to, size, (void *)object);
}

/* Copy a code object's names and lines. Global functions are verified once, not for each frame. */
__weak int bpf2py_python_remember(struct bpf2py_python_code_key *key, struct bpf2py_python_process *process)
{
	__u32 zero = 0;
	struct bpf2py_python_code *code = bpf_map_lookup_elem(&bpf2py_python_scratch, &zero);
	__u64 size;
	struct bpf2py_python_code_key own; /* before Linux 6.2 a parameter is not taken as a key */

	if (!code || !key || !process)
		return 0;
	own = *key;
	__builtin_memset(code->filename, 0, sizeof(code->filename));
	__builtin_memset(code->qualname, 0, sizeof(code->qualname));
	bpf_probe_read_user(&code->firstlineno, sizeof(code->firstlineno), (void *)key->code + process->firstlineno);
	bpf2py_python_text(code->filename, sizeof(code->filename), bpf2py_python_u64(key->code + process->filename), process);
	bpf2py_python_text(code->qualname, sizeof(code->qualname), bpf2py_python_u64(key->code + process->qualname), process);
	size = bpf2py_python_u64(key->linetable + process->bytes_size);
	code->linetable_size = size;
	if (size > sizeof(code->linetable))
		size = sizeof(code->linetable);
	bpf_probe_read_user(code->linetable, size, (void *)key->linetable + process->bytes_data);
	bpf_map_update_elem(&bpf2py_python_codes, &own, code, BPF_ANY);
	return 0;
}

/* The current thread's state, or why there is none: a BPF2PY_PYTHON_ number, which no address is. */
__weak __u64 bpf2py_python_find(struct bpf2py_python_process *process)
{
	__u64 interpreter, wanted = bpf2py_python_thread(), thread;
	int i;

	if (!process)
		return BPF2PY_PYTHON_UNKNOWN;
	interpreter = bpf2py_python_u64(process->runtime + process->interpreters_head);
	if (!interpreter)
		return BPF2PY_PYTHON_UNREADABLE;
	if (bpf2py_python_u64(interpreter + process->interpreter_next))
		return BPF2PY_PYTHON_SUBINTERPRETERS;
	thread = bpf2py_python_u64(interpreter + process->threads_head);
	for (i = 0; i < BPF2PY_PYTHON_THREADS && thread; i++) {
		if (bpf2py_python_u64(thread + process->native_thread_id) == wanted)
			return thread;
		thread = bpf2py_python_u64(thread + process->thread_next);
	}
	return BPF2PY_PYTHON_NO_THREAD;
}

/* The next frame that runs Python code: those of the interpreter's own part stacks of C from one another. */
static __always_inline __u64 bpf2py_python_own(__u64 frame, const struct bpf2py_python_process *process)
{
	int i;

	for (i = 0; i < 3; i++) {
		if (!frame || bpf2py_python_u8(frame + process->owner) < BPF2PY_PYTHON_OWN)
			break;
		frame = bpf2py_python_u64(frame + process->previous);
	}
	return frame;
}

/* Fill in the stack of the current thread: how many frames, 0 where there are none; `error` says why.
 *
 * Sleepable or not, in an NMI or not: memory that is not there is not waited for.
 */
static __noinline int bpf2py_python_stack(void *ctx, struct bpf2py_python_stack *stack)
{
	__u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct bpf2py_python_process *process = bpf_map_lookup_elem(&bpf2py_python_processes, &pid);
	__u64 thread, frame;
	__u32 i;

	stack->pid = pid;
	stack->count = 0;
	stack->truncated = 0;
	stack->error = BPF2PY_PYTHON_UNKNOWN;
	if (!process)
		return 0;
	thread = bpf2py_python_find(process);
	stack->error = thread;
	if (thread < 4096)
		return 0;
	if (process->has_cframe)
		frame = bpf2py_python_u64(bpf2py_python_u64(thread + process->cframe) + process->current_frame);
	else
		frame = bpf2py_python_u64(thread + process->current_frame);
	frame = bpf2py_python_own(frame, process);
	stack->error = frame ? 0 : BPF2PY_PYTHON_NO_THREAD;
	for (i = 0; i < BPF2PY_PYTHON_DEPTH && frame; i++) {
		struct bpf2py_python_code_key key = {.pid = pid, .generation = process->generation};
		struct bpf2py_python_frame *to = &stack->frames[i];
		__u64 at;

		key.code = bpf2py_python_u64(frame + process->executable) & ~3ULL;
		key.linetable = bpf2py_python_u64(key.code + process->linetable);
		at = bpf2py_python_u64(frame + process->instruction);
		if (!key.linetable || !at) {
			stack->error = BPF2PY_PYTHON_UNREADABLE;
			break;
		}
		if (!bpf_map_lookup_elem(&bpf2py_python_codes, &key))
			bpf2py_python_remember(&key, process);
		to->code = key.code;
		to->linetable = key.linetable;
		to->instruction = (__s64)(at - key.code - process->code) >> 1;
		to->flags = process->generation << 8;
		if (process->has_is_entry && bpf2py_python_u8(frame + process->is_entry))
			to->flags |= BPF2PY_PYTHON_ENTRY;
		frame = bpf2py_python_u64(frame + process->previous);
		if (frame && bpf2py_python_u8(frame + process->owner) >= BPF2PY_PYTHON_OWN) {
			to->flags |= BPF2PY_PYTHON_ENTRY;
			frame = bpf2py_python_own(frame, process);
		}
	}
	stack->truncated = frame != 0;
	stack->count = i;
	return i;
}

#endif
