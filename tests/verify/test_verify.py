"""`bpf2py verify` and its library: verdicts and the verifier's numbers, on this kernel and on another one."""

from __future__ import annotations

import csv
import io
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

import bpf2py
from bpf2py.errors import EncodeError, ObjectError
from bpf2py.loading import read_spec
from bpf2py.seam.verifier_stats import VerifierStats, verifier_stats
from bpf2py.spec.needs import Need, needs, release_key
from bpf2py.testing import first_difference, verify
from bpf2py.testing.verdicts import from_json, to_json
from bpf2py.uapi.kfuncs import KFUNC_SINCE

MIXED = (Path(__file__).parent / "mixed.bpf.c").read_text()


def command(*arguments: object, status: int = 0) -> str:
    argv = [sys.executable, "-m", "bpf2py", "verify", *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


class TestStatistics:
    def test_of_a_log(self) -> None:
        log = (
            "0: (b7) r0 = 0\n1: (95) exit\nverification time 36 usec\nstack depth 40+8+0\n"
            "processed 19 insns (limit 1000000) max_states_per_insn 3 total_states 7 peak_states 5 mark_read 2\n"
        )
        found = verifier_stats(log)
        assert found == VerifierStats(36, 19, 7, 5, 3, 2, (40, 8, 0))
        assert found.stack_depth == 48

    def test_of_a_kernel_that_leaves_numbers_out(self) -> None:
        log = "verification time 1 usec\nstack depth 8 max 16\nprocessed 4 insns (limit 1000000) total_states 2\n"
        assert verifier_stats(log) == VerifierStats(1, 4, 2, 0, 0, 0, (8,))

    @pytest.mark.parametrize(
        "log",
        [
            "",
            "processed 4 insns",
            "verification time 3 usec",
            "verification time x usec\nprocessed y insns",
            "\0\n" * 9,
        ],
    )
    def test_of_a_log_without(self, log: str) -> None:
        assert verifier_stats(log) is None

    @pytest.mark.kernel
    def test_of_a_loaded_program(self, mixed: Path) -> None:
        wanted = {"newer": False, "bad": False}
        with bpf2py.load(mixed, autoload=wanted, log_level=4) as obj:
            stats = obj.programs["calls"].verifier_stats
            assert stats is not None
            assert stats.stack_depths == (0, 64)
            # The kernel's own count, from another command.
            assert stats.instructions == obj.programs["calls"].info.verified_instructions
            assert "0: (" not in obj.programs["calls"].verifier_log
        with bpf2py.load(mixed, autoload=wanted, log_level=2) as obj:
            assert re.search(r"^\d+: \([0-9a-f]{2}\) ", obj.programs["good"].verifier_log, re.M)
            assert obj.programs["good"].verifier_stats is None
        with bpf2py.load(mixed, autoload=wanted) as obj:
            assert obj.programs["good"].verifier_log == ""
            assert obj.programs["good"].verifier_stats is None

    @pytest.mark.kernel
    def test_with_statistics_alone_a_refusal_is_explained_all_the_same(self, mixed: Path) -> None:
        with pytest.raises(bpf2py.VerifierError) as caught:
            bpf2py.load(mixed, autoload={"newer": False}, log_level=4)
        assert "map_value_or_null" in caught.value.summary
        assert caught.value.source_line is not None
        assert "return *value" in caught.value.source_line
        assert verifier_stats(caught.value.log) is not None

    def test_the_engine_writes_no_log(self) -> None:
        obj = bpf2py.load(
            compiled('char L[] SEC("license") = "GPL"; SEC("xdp") int f(void *c) { return 2; }'), "engine", log_level=4
        )
        with obj:
            assert obj.programs["f"].verifier_log == ""
            assert obj.programs["f"].verifier_stats is None

    @pytest.mark.parametrize("level", [-1, 8, 1 << 32])
    def test_levels_there_are_not(self, level: int) -> None:
        with pytest.raises(EncodeError, match="log_level"):
            bpf2py.load(compiled(""), "engine", log_level=level)


def compiled(text: str) -> bytes:
    return bpf2py.compile(f"#include <vmlinux.h>\n#include <bpf/bpf_helpers.h>\n#include <bpf/bpf_tracing.h>\n{text}")


class TestNeeds:
    def test_of_maps_helpers_kfuncs_and_instructions(self) -> None:
        data = compiled(
            """
            struct { __uint(type, BPF_MAP_TYPE_ARENA); __uint(map_flags, 1024); __uint(max_entries, 1); } arena SEC(".maps");
            extern void bpf_preempt_disable(void) __ksym;
            extern void bpf_preempt_enable(void) __ksym;
            extern int bpf_strcmp(const char *a, const char *b) __ksym __weak;
            static int round(__u32 i, void *c) { return 0; }
            __u64 word;
            SEC("fentry/do_unlinkat") int one(void *c) { bpf_loop(3, round, (void *)0, 0); return 0; }
            SEC("xdp") int two(void *c) { __sync_val_compare_and_swap(&word, 1, 2); return 2; }
            SEC("tc") int three(void *c)
            {
                bpf_preempt_disable(); bpf_preempt_enable();
                if (bpf_strcmp) bpf_strcmp("a", "b");
                return 0;
            }
            char LICENSE[] SEC("license") = "GPL";
            """
        )
        found = needs(bpf2py.ObjectSpec.from_bytes(data))
        assert Need("6.9", "BPF_MAP_TYPE_ARENA", "map arena") in found
        assert Need("5.17", "bpf_loop()", "program one") in found
        assert Need("5.13", "a function as an argument", "program one") in found
        assert Need("5.5", "SEC('fentry')", "program one") in found
        assert Need("5.12", "an atomic operation that is not an addition", "program two") in found
        assert Need("6.10", "bpf_preempt_disable()", "program three") in found
        assert not [need for need in found if "strcmp" in need.what]  # weak: the program does without
        releases = [release_key(need.since) for need in found]
        assert releases == sorted(releases, reverse=True)

    def test_of_global_functions(self) -> None:
        """The verifier looks at them by their types alone, and came to know pointers other than the context's late."""
        data = compiled(
            """
            struct pair { int a, b; };
            __noinline int plain(int a) { asm volatile(""); return a + 1; }
            __noinline int context(struct xdp_md *ctx) { asm volatile(""); return ctx->ingress_ifindex; }
            __noinline int pointer(const struct pair *p) { asm volatile(""); return p ? p->a : 0; }
            static __noinline int own(struct pair *p) { asm volatile(""); return p->b; }
            SEC("xdp") int one(struct xdp_md *ctx) { return plain(2) + context(ctx); }
            SEC("xdp") int two(struct xdp_md *ctx) { struct pair p = {1, 2}; return pointer(&p); }
            SEC("xdp") int three(struct xdp_md *ctx) { struct pair p = {1, 2}; return own(&p); }
            """
        )
        found = [need for need in needs(bpf2py.ObjectSpec.from_bytes(data)) if "function" in need.what]
        assert found == [
            Need("5.12", "a pointer as an argument of a global function", "program two"),
            Need("5.6", "a global function", "program one"),
            Need("5.6", "a global function", "program two"),
        ]

    def test_of_newer_instructions(self) -> None:
        data = bpf2py.compile(
            "#include <vmlinux.h>\n#include <bpf/bpf_helpers.h>\n"
            'SEC("xdp") int f(struct xdp_md *c) { signed char a = c->data; return (int)a / (int)c->data_end; }\n'
            'char LICENSE[] SEC("license") = "GPL";',
            cflags=("-mcpu=v4",),
        )
        assert Need("6.6", "ISA v4", "program f") in needs(bpf2py.ObjectSpec.from_bytes(data))

    @pytest.mark.parametrize(
        ("release", "key"),
        [("6.12.117+deb12-amd64", (6, 12)), ("6.18-rc1", (6, 18)), ("5.4", (5, 4)), ("7.0.0", (7, 0))],
    )
    def test_releases(self, release: str, key: tuple[int, int]) -> None:
        assert release_key(release) == key

    @pytest.mark.kernel
    def test_kfuncs_the_table_says_this_kernel_has_are_in_its_types(self) -> None:
        """As far as its configuration goes: whole families may be left out, single functions are not."""
        here = release_key(platform.release())
        known = {name for name, since in KFUNC_SINCE.items() if release_key(since) <= here}
        core = {
            name
            for name in known
            if re.match(r"bpf_(task|cpumask|rcu|obj|list|rbtree|iter_num|dynptr|preempt|arena|str)", name)
        }
        later = {name for name, since in KFUNC_SINCE.items() if release_key(since) > here}
        assert [name for name in sorted(core) if bpf2py.features.kfunc(name) is False] in ([], ["bpf_stream_vprintk"])
        assert [name for name in sorted(later) if bpf2py.features.kfunc(name)] == []


@pytest.mark.kernel
class TestVerify:
    def test_each_program_has_a_verdict_of_its_own(self, mixed: Path) -> None:
        found = {each.program: each for each in verify(mixed, attach=True)}
        newer = release_key(platform.release()) >= (6, 10)
        assert {name: each.verdict for name, each in found.items()} == {
            "good": "success", "newer": "success" if newer else "failure", "bad": "failure", "asked_for": "success",
            "no_hook": "success", "calls": "success",
        }  # fmt: skip
        assert found["good"].attached is True
        assert found["no_hook"].attached is False
        assert "nothing_such" in found["no_hook"].attach_error
        assert "map_value_or_null" in found["bad"].error
        assert found["bad"].stats is not None
        assert [each.program for each in found.values() if each.optional] == ["asked_for"]
        spec = read_spec(mixed)
        assert found["good"].size == len(spec.programs["good"].function.code) // 8
        assert found["calls"].size > len(spec.programs["calls"].function.code) // 8  # with the function it calls
        assert found["good"].jited_size > 0
        assert found["bad"].jited_size == 0

    def test_nothing_stays_loaded(self, mixed: Path) -> None:
        before = len(os.listdir("/proc/self/fd"))
        verify(mixed, attach=True)
        assert len(os.listdir("/proc/self/fd")) == before

    def test_a_map_that_cannot_be_made_refuses_all_of_the_object(self) -> None:
        data = compiled(
            'struct { __uint(type, BPF_MAP_TYPE_HASH); __type(key, int); __type(value, int); } m SEC(".maps");'
            'SEC("xdp") int f(void *c) { return 2; } char LICENSE[] SEC("license") = "GPL";'
        )
        (report,) = verify(data)
        assert report.verdict == "failure"
        assert "max_entries" in report.error
        assert report.stats is None

    def test_programs_of_a_kernel_interface_are_loaded_with_it(self) -> None:
        data = compiled(
            'SEC("struct_ops") __u32 BPF_PROG(threshold, struct sock *sk) { return 2; }'
            'SEC("struct_ops") __u32 BPF_PROG(undo, struct sock *sk) { return 2; }'
            'SEC("struct_ops") void BPF_PROG(avoid, struct sock *sk, __u32 ack, __u32 acked) {}'
            'SEC("xdp") int bad(struct xdp_md *c) { return *(int *)(long)c->data; }'
            'SEC(".struct_ops") struct tcp_congestion_ops ops = { .ssthresh = (void *)threshold, .undo_cwnd = (void *)undo, '
            '.cong_avoid = (void *)avoid, .name = "bpf2py_v" };'
            'char LICENSE[] SEC("license") = "GPL";'
        )
        found = {each.program: each for each in verify(data)}
        assert {name: each.loads for name, each in found.items()} == {
            "threshold": True, "undo": True, "avoid": True, "bad": False,
        }, [each.error for each in found.values()]  # fmt: skip

    def test_reports_survive_json(self, mixed: Path) -> None:
        for each in verify(mixed):
            assert from_json(json.loads(json.dumps(to_json(each)))) == each

    def test_damaged_objects_are_refused_as_a_whole(self, tmp_path: Path) -> None:
        for data in (b"", b"\x7fELF" + bytes(60), bpf2py.compile(MIXED)[:900]):
            with pytest.raises(ObjectError):
                verify(data)


@pytest.mark.kernel
class TestCommand:
    def test_the_table_and_the_reasons(self, mixed: Path) -> None:
        text = command(mixed, "--attach", status=1)
        assert re.search(r"^mixed +bad +\S+ +failure", text, re.M)
        assert re.search(r"^mixed +good +\S+ +success +yes", text, re.M)
        assert "map_value_or_null" in text
        assert "no tracepoint syscalls/nothing_such" in text

    def test_json_csv_and_filters(self, mixed: Path) -> None:
        rows = json.loads(command(mixed, "--json", status=1))
        assert {row["program"] for row in rows} == {"good", "newer", "bad", "asked_for", "no_hook", "calls"}
        assert {row["kernel_name"] for row in rows} == {"host"}
        assert rows[0]["stats"]["instructions"] > 0
        (row,) = csv.DictReader(io.StringIO(command(mixed, "--csv", "--program", "c*")))
        assert row["program"] == "calls"
        assert int(row["stack"]) == 64
        by_work = list(csv.DictReader(io.StringIO(command(mixed, "--csv", "--sort", "insns", status=1))))
        numbers = [int(row["insns"]) for row in by_work]
        assert numbers == sorted(numbers, reverse=True)
        assert command(mixed, "--failures", "--program", "good") == "nothing to show\n"

    def test_a_baseline_forgives_what_was_there_before(self, mixed: Path, tmp_path: Path) -> None:
        kept, source = tmp_path / "kept.json", tmp_path / "mixed.bpf.c"
        source.write_text(MIXED)
        command(source, "--save", kept, status=1)
        assert "nothing changed" in command(source, "--baseline", kept)
        source.write_text(MIXED.replace("return n * 2", "for (int i = 0; i < 50; i++) n += room[i];\n    return n * 2"))
        assert re.search(r"calls .*\d+ -> \d+ \(\+", command(source, "--baseline", kept))
        assert re.search(r"calls: .* over 5 % more", command(source, "--baseline", kept, "--max-growth", "5", status=1))
        assert "over" not in command(source, "--baseline", kept, "--max-growth", "100000")
        source.write_text(MIXED.replace("__u64 value = 2;", "__u64 value; return *(int *)1;"))
        text = command(source, "--baseline", kept, status=1)
        assert "success -> failure" in text
        assert "good: refused by" in text

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            (["--sort", "nothing"], "no column 'nothing'"),
            (["--kernels", ","], "names none"),
            (["--kernels", "/nothing/here"], "neither a series"),
            (["--arch", "aarch64"], "not of aarch64: name another kernel"),
            (["--kernels", "6.12", "--arch", "riscv64"], "x86_64 or aarch64"),
            (["--baseline", "/nothing/here"], "No such file"),
            (["--baseline", __file__], "not a file that --save wrote"),
            (["--save", "/nothing/here"], "No such file"),
            (["--logs", "/proc/nothing"], "/proc/nothing"),
        ],
    )
    def test_wrong_options(self, mixed: Path, arguments: list[str], said: str) -> None:
        text = command(mixed, *arguments, status=1)
        assert said in text
        assert "Traceback" not in text

    def test_logs_are_kept(self, mixed: Path, tmp_path: Path) -> None:
        command(mixed, "--logs", tmp_path / "logs", status=1)
        names = sorted(path.name for path in (tmp_path / "logs").iterdir())
        assert len(names) == 6
        assert names[0].startswith("mixed.asked_for.")
        assert re.search(r"^0: \(", (tmp_path / "logs" / names[-3]).read_text(), re.M)

    def test_needs_load_nothing(self, tmp_path: Path) -> None:
        path = tmp_path / "old.bpf.o"
        path.write_bytes(compiled('SEC("xdp") int f(void *c) { return 2; } char LICENSE[] SEC("license") = "GPL";'))
        assert command(path, "--needs") == "old needs Linux 5.10 or older\n"
        rows = json.loads(command(path, "--needs", "--json"))
        assert {"file": "old", "needs": "4.8", "for": "SEC('xdp')", "by": "program f"} in rows


class TestDifferences:
    OURS = "; if (!v)\n5: (15) if r0 == 0x0 goto pc+1   ; R0_w=map_value\n6: (b7) r0 = 1 ; R0=1\n7: (95) exit\nprocessed 4 insns\n"

    def test_states_and_numbers_do_not_count(self) -> None:
        theirs = self.OURS.replace("R0_w=map_value", "R0=map_value(id=3)").replace("processed 4", "processed 9")
        assert first_difference(self.OURS, theirs) is None

    def test_where_they_part(self) -> None:
        theirs = self.OURS.replace("6: (b7) r0 = 1 ; R0=1\n7: (95) exit", "R0 invalid mem access 'scalar'")
        found = first_difference(self.OURS, theirs)
        assert found is not None
        assert found.source == "if (!v)"
        assert (found.ours, found.theirs) == ("6: (b7) r0 = 1 ; R0=1", "R0 invalid mem access 'scalar'")

    def test_one_ends_before_the_other(self) -> None:
        found = first_difference(self.OURS, self.OURS.replace("7: (95) exit\n", ""))
        assert found is not None
        assert found.theirs == ""
