.PHONY: install demo proto lint test check chaos bench-install bench-advisors bench-advisors-live bench-candidates bench-control-plane bench-enas-workers bench-fashion-mnist bench-enas-rnn bench-parameters bench-sessions bench-supernet bench-torch-install
.NOTPARALLEL:

PYTHON ?= python3

# The tools of the virtual environment, also for the programs that they start.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

install: .venv/.installed

# `--group` needs pip 25.1; Debian keeps a part of `python3 -m venv` in python3-venv.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Rafiki needs Python 3.11 or later: make PYTHON=python3.11 install")'
	@echo "Installing into .venv (once; about a minute)"
	@$(PYTHON) -m venv .venv || { echo "Is the package python3-venv installed?" >&2; exit 1; }
	@.venv/bin/python -m pip install -qq --upgrade 'pip>=25.1'
	@.venv/bin/python -m pip install -qq -c constraints.txt -e '.[all]' --group dev
	@touch $@

demo: .venv/.installed
	@rafiki demo

proto: .venv/.installed
	rm -f client/rafiki/v1/*_pb2*
	buf generate
	for f in $$(grep -L '^class .*Stub' client/rafiki/v1/*_pb2_grpc.py); do rm $$f $${f}i; done

lint: .venv/.installed
	buf lint
	buf format --diff --exit-code
	ruff check
	ruff format --check
	mypy
	lint-imports

test: .venv/.installed
	pytest -n 2 --dist loadfile

# The stubs must be fresh, none of them untracked, and the protos compatible with
# those of the last tag, if there is one.
check: .venv/.installed lint proto
	git diff --exit-code -- client/rafiki/v1
	! git ls-files --others --exclude-standard -- client/rafiki/v1 | grep .
	if tag=$$(git describe --tags --abbrev=0 2>/dev/null); then buf breaking --against ".git#tag=$$tag"; fi
	pytest -n 2 --dist loadfile -m "not slow"

# Faults strike a working platform, then ledgers and server are compared. `make test` has a
# short form. Flags by ARGS, as in: make chaos ARGS='--faults 200 --seed 7'
chaos: .venv/.installed
	.venv/bin/python -m tests.chaos $(ARGS)

# The benchmarks, with tables and peers that nothing else needs. See docs/benchmarks.md.
bench-install: .venv-bench/.installed

.venv-bench/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install -qq --upgrade 'pip>=25.1'
	@.venv-bench/bin/python -m pip install -qq -c constraints.txt -e '.[all]' --group bench
	@touch $@

# Flags by ARGS, as in: make bench-advisors ARGS='--seeds 100 --workers 1 8'
bench-advisors: .venv-bench/.installed
	.venv-bench/bin/python benchmarks/advisors.py $(ARGS)

bench-advisors-live: .venv-bench/.installed
	.venv-bench/bin/python benchmarks/advisors_live.py $(ARGS)

bench-control-plane: .venv-bench/.installed
	.venv-bench/bin/python benchmarks/control_plane.py $(ARGS)

bench-sessions: .venv/.installed
	.venv/bin/python benchmarks/sessions.py $(ARGS)

bench-enas-workers: .venv/.installed
	.venv/bin/python benchmarks/enas_workers.py $(ARGS)

bench-fashion-mnist: .venv/.installed
	.venv/bin/python benchmarks/fashion_mnist.py $(ARGS)

bench-enas-rnn: .venv/.installed
	.venv/bin/python benchmarks/enas_rnn.py $(ARGS)

bench-parameters: .venv/.installed
	.venv/bin/python benchmarks/parameters.py $(ARGS)

bench-candidates: .venv/.installed
	.venv/bin/python benchmarks/candidates.py $(ARGS)

bench-supernet: .venv/.installed
	.venv/bin/python benchmarks/supernet.py $(ARGS)

# PyTorch, a peer of bench-supernet, has an environment of its own. Its usual build for Linux
# brings gigabytes for GPUs; pip can be set up to find the one for CPUs.
bench-torch-install: .venv-torch/.installed

.venv-torch/.installed: pyproject.toml
	@$(PYTHON) -m venv .venv-torch
	@.venv-torch/bin/python -m pip install -qq --upgrade 'pip>=25.1'
	@.venv-torch/bin/python -m pip install -qq --group bench-torch
	@touch $@
