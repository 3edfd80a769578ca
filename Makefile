# What a developer runs. Needs Python >= 3.11, pip and make; everything else is set up in .venv on first use.
.DELETE_ON_ERROR:
.PHONY: help test check coverage test-pythons lint ruff ruff-format mypy format pytest fuzz demo test-vm soak bench docs venv clean
.DEFAULT_GOAL := help

VENV    ?= .venv
BIN     := $(VENV)/bin
# The first Python that is new enough; name another with PYTHON=...
PYTHON  ?= $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
KERNEL  ?= 6.12
# --hooks leaves out the tests of maps.
VM_FLAGS ?=
PYTEST_ARGS ?=
# One cache of compiled programs for the tests on this machine and in virtual machines, which compile slowly.
export BPF2PY_CACHE_DIR ?= $(CURDIR)/.vm/cache
# And one place for the kernels they boot.
export BPF2PY_KERNEL_DIR ?= $(CURDIR)/.vm

help:
	@echo 'make test      lint, type check and test (kernel tests run where bpf() is permitted)'
	@echo 'make check     lint, type check, and the quick tests that need no rights: about a minute'
	@echo 'make coverage  which lines of src the tests run: with rights, without, and in the virtual machine'
	@echo 'make test-pythons   the tests on every Python >= 3.11 found here'
	@echo 'make test-vm   the kernel tests in an emulated Debian kernel: KERNEL=6.12 (default) or another from 5.10 on; ARCH=aarch64 for the tests of that'
	@echo 'make demo      count program executions with eBPF: examples/exec_counts.bpf.c'
	@echo 'make fuzz      damaged objects, types, links (100,000 each) and other input (10,000 each): typed errors only'
	@echo 'make soak      random map operations (OPERATIONS=1000000) and programs (PROGRAMS=50000, in Python LANG_PROGRAMS=100000), compared'
	@echo 'make bench     benchmarks: ratios to C and to the kernel'"'"'s JIT; writes the page "How fast"'
	@echo 'make docs      the documentation, as pages in site/; every code block in it is run by make test'
	@echo 'make lint      ruff and mypy        make format   let ruff rewrite the sources'
	@echo 'make clean     remove .venv, caches and virtual machine images'

# Stamps: set-up runs again only when what it depends on changed.
$(VENV)/.installed: pyproject.toml tools/venv.py
	@test -n "$(PYTHON)" || { echo 'make: no Python >= 3.11 found; install one or name it: make PYTHON=/path/to/python3' >&2; exit 1; }
	@echo 'setting up $(VENV) with $(PYTHON)'
	@$(PYTHON) tools/venv.py $(VENV) --extras cc,dev
	@touch $@

$(VENV)/.installed-vm: $(VENV)/.installed
	@$(PYTHON) tools/venv.py $(VENV) --extras cc,dev,vm
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@$(PYTHON) tools/venv.py $(VENV) --extras cc,dev,docs
	@touch $@

venv: $(VENV)/.installed

test: lint pytest

# Targets of their own, so that make --keep-going reports on all of them.
lint: ruff ruff-format mypy

ruff: venv
	$(BIN)/ruff check .

ruff-format: venv
	$(BIN)/ruff format --check .

mypy: venv
	$(BIN)/mypy

format: venv
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Two processes, of which one takes all that looks at the kernel (tests/conftest.py).
pytest: venv
	@$(BIN)/python tools/fetch.py
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

# The same tests with more damage; BPF2PY_FUZZ_SEED=N damages otherwise.
# What a change is checked with before each commit; no test of these needs rights.
CHECKED := tests/btf tests/isa tests/spec tests/uapi tests/linker tests/codegen/test_types.py tests/engine/test_engine.py \
	tests/engine/test_check.py tests/engine/test_ringbuf.py tests/test_api.py tests/test_floors.py tests/test_plugin.py
check: lint
	$(BIN)/python -m pytest -n 2 -q -m 'not kernel' $(CHECKED)

# Everything pytest runs, on each Python from 3.11 on that is found, in an environment of its own.
PYTHONS ?= $(shell for p in /usr/bin/python3 python3.11 python3.12 python3.13 python3.14 $(HOME)/.pyenv/versions/3.1[1-9].*/bin/python; do \
	$$p -c 'import sys; assert sys.version_info >= (3, 11); import os; print(os.path.realpath(sys.executable))' 2>/dev/null; done | sort -u)
test-pythons:
	@test -n "$(PYTHONS)" || { echo 'make: no Python >= 3.11 found' >&2; exit 1; }
	@for python in $(PYTHONS); do \
		name=$$($$python -c 'import platform; print(platform.python_version())') && echo "make: tests on Python $$name ($$python)" && \
		$(MAKE) --no-print-directory pytest VENV=$(VENV)-$$name PYTHON=$$python || exit 1; done

# Line coverage of src over rooted, unrooted and emulated runs; 90 % is the least.
coverage: $(VENV)/.installed-vm
	$(BIN)/python tools/measure_coverage.py $(COVERAGE_ARGS)

fuzz: venv
	BPF2PY_FUZZ=$${BPF2PY_FUZZ:-100000} $(BIN)/python -m pytest --timeout 3600 tests/fuzz $(PYTEST_ARGS)

# The developer's environment where there is one, else another with what a user installs: a third of it.
DEMO := $(if $(wildcard $(VENV)/.installed),$(VENV),$(VENV)-demo)
$(VENV)-demo/.installed: pyproject.toml tools/venv.py
	@test -n "$(PYTHON)" || { echo 'make: no Python >= 3.11 found; install one or name it: make PYTHON=/path/to/python3' >&2; exit 1; }
	@echo 'setting up $(VENV)-demo with $(PYTHON): bpf2py and a compiler, 540 MB'
	@$(PYTHON) tools/venv.py $(VENV)-demo --extras cc --progress
	@touch $@

demo: $(DEMO)/.installed
	@echo 'bpf2py run counts the programs this shell starts; it says on the next line which backend it uses:'
	$(DEMO)/bin/bpf2py run examples/exec_counts.bpf.c -- sh -c 'for i in 1 2 3; do date; uname -r; done; ls examples; id -un'

ifeq ($(ARCH),aarch64)
test-vm: venv
	BPF2PY_ARM_KERNEL=$(KERNEL) $(BIN)/python -m pytest tests/verify/test_aarch64.py $(PYTEST_ARGS)
else
test-vm: $(VENV)/.installed-vm
	$(BIN)/python tools/vm.py --kernel $(KERNEL) $(VM_FLAGS) -- $(PYTEST_ARGS)
endif

# The theme warns of a version of mkdocs that pyproject.toml excludes.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

OPERATIONS ?= 1000000
PROGRAMS ?= 50000
LANG_PROGRAMS ?= 100000
soak: venv
	$(BIN)/python tests/engine/differential.py --operations $(OPERATIONS)
	BPF2PY_SOAK=$(PROGRAMS) $(BIN)/python -m pytest --timeout 36000 tests/engine/test_random_programs.py
	BPF2PY_LANG=$(LANG_PROGRAMS) $(BIN)/python -m pytest -s --timeout 36000 tests/lang/test_random_source.py

# Another Python binding to compare with, where it can be installed: an environment of its own, for it is no part of the project.
PEER := .venv-peer/bin/python
.venv-peer/.tried:
	@$(PYTHON) -m venv .venv-peer && { .venv-peer/bin/pip install --quiet pylibbpf || echo 'pylibbpf cannot be installed: its column stays empty'; }
	@touch $@

# The whole table in one run; the rest looks closer at parts of it. cilium/ebpf is measured where Debian's packages golang-go and
# golang-github-cilium-ebpf-dev are, and libbpf where libbpf-dev is.
bench: venv .venv-peer/.tried
	$(BIN)/python -m benchmarks.table --json benchmarks/results.json --page docs/reference/how-fast.md \
		$$(test -d .venv-peer/lib/python*/site-packages/pylibbpf && echo --peer $(PEER))
	$(BIN)/python -m benchmarks.bench_startup
	$(BIN)/python -m benchmarks.bench_load
	$(BIN)/python -m benchmarks.bench_maps
	$(BIN)/python -m benchmarks.bench_events
	$(BIN)/python -m benchmarks.bench_dump
	$(BIN)/python -m benchmarks.bench_export

clean:
	rm -rf $(VENV) $(VENV)-demo .venv-peer .vm site .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
