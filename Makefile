# SPDX-License-Identifier: GPL-2.0-only
#
# One line a target; the work is done by the scripts, whose --help tells which
# variables they take. BASE is one of ci/bases, for all of them.

# Who has written the series and signs it off. Whoever mails it overrides this.
export IDENTITY ?= Reclaim TLB Batching <tlb-batch@localhost.localdomain>
export BASE ARCH BUILD KERNEL_TREE KERNEL_BASE KERNELS SCENARIO SETTINGS CPUS PAIRS DURATION MIB ACCEL
export SUBMISSION REVISION TO ASSISTED_BY SIGNING_KEY CONFIG DIR ROUNDS MEMCG BASES

SHELL := /bin/bash
KERNEL ?= patched
# builds those that a benchmark compares
bench_kernels = kernels=$$(bench/pairs --check) && { [ -z "$$kernels" ] || ci/make/kernel $$kernels; }

.DEFAULT_GOAL := help
.PHONY: help reproduce evidence lost-writes setup source kernel check unit check-debug check-arch check-upstream bisect races \
	soak mutants bench bundle sweep instructions livepatch report walk shell mail refresh deb clean

help:
	@awk -F ':.*## ' '/^#@ / { printf "%s%s\n", n++ ? "\n" : "", substr($$0, 4) } \
		/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

#@ Try it

reproduce: ## does the kernel that runs here lose writes? DIR=, ROUNDS=, MEMCG=1 (a minute)
	@ci/reproduce

bench: setup ## compare KERNELS= (base, patched): SCENARIO=list|all|..., CPUS=, PAIRS=
	@$(if $(filter list,$(SCENARIO)),bench/run list,ci/make/guest & $(bench_kernels) && wait && bench/pairs)

check: setup ## run all tests; ends with "N passed, N failed"
	@ci/check

shell: kernel ## a prompt in the guest: KERNEL=base|patched, CPUS=
	@. ci/lib.sh && ci/vm-run -k "$$BUILD/$(KERNEL)/bzImage" $(if $(CPUS),-c $(CPUS)) --interactive

#@ Kernels

source: setup ## fetch Linux, or use KERNEL_TREE=DIR, and apply the series
	@ci/make/source

kernel: setup ## build base and patched, of BASE=7.3|6.12
	@ci/make/kernel

deb: setup ## Debian packages of base and patched for this machine, or CONFIG= (hours)
	@ci/make/deb

livepatch: setup ## the series loaded into the running base kernel: SCENARIO=, PAIRS=, CPUS=
	@ci/make/livepatch

#@ Tests

unit: setup ## one UNIT= of tests in a guest, or a TEST= of it, on KERNEL= (ci/unit --help)
	@export KERNEL=$(KERNEL); ci/unit --prepare $(UNIT) && ci/unit $(UNIT) $(TEST)

check-debug: setup ## the tests on kernels with lockdep, KASAN, KCSAN: FLAVOURS= (hours)
	@ci/long/check-debug

check-arch: setup ## the selftests and situations on ARCH=arm64|riscv64, on both (an hour)
	@FLAVOURS=plain ci/long/check-debug

check-upstream: setup ## tests of the kernel tree and stress-ng, on both: UNITS= (hours)
	@ci/make/kernel && ci/long/check-upstream

lost-writes: setup ## does the fix keep every write, on every base? BASES=, FS=, DRIVERS= (hours)
	@ci/long/lost-writes

bisect: setup ## build and boot every patch of the series on its own
	@ci/check ci/t/bisect.t

races: setup ## 10,000 rounds of each race test: ROUNDS= (hours)
	@ci/make/kernel && ci/long/races

soak: setup ## faults, pressure and reclaim together: MINUTES=, SEED=, KERNEL=
	@ci/make/kernel && ci/long/soak

mutants: setup ## break the series in many ways: the tests must notice (an hour)
	@ci/long/mutants

walk: setup ## run every command of the READMEs in a fresh clone (hours): BLOCKS=REGEX
	@ci/long/walk-readmes $(if $(BLOCKS),'$(BLOCKS)')

#@ Measurements

report: ## print the comparison of the last make bench again
	@bench/pairs --report

sweep: setup ## what the length of a batch does to IPIs and times (an hour)
	@bench/sweep

instructions: setup ## instructions per page of reclaim on one CPU
	@ci/make/kernel && bench/instructions

bundle: setup ## pack KERNELS=, guest and scenarios for a machine without build tools
	@$(bench_kernels) && bench/bundle

evidence: ## which runs in results/ are of older code; RENEW=all or names: run them again (hours)
	@ci/evidence $(if $(RENEW),--renew $(RENEW:all=))

#@ The series

# CC is a compiler unless the command line says who.
mail: setup ## prepare the messages, send nothing: SUBMISSION=fix|batch, REVISION=, TO=, CC=, ASSISTED_BY=, SIGNING_KEY=
	@$(if $(filter command,$(origin CC)),,env -u CC) ci/series/mail

refresh: ## turn the commits of BUILD/src, or TREE=, back into patches/
	@ci/series/refresh $(TREE)

#@ This tree

setup: ## install the Debian packages that are missing
	@ci/make/setup

clean: ## remove what BASE generated (7.3: everything), and work trees in KERNEL_TREE
	@ci/make/source clean
