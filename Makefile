# SPDX-License-Identifier: Apache-2.0
# The front door; the work is done by cmake --preset, ctest and the scripts.
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
PREFIX ?= /usr/local
PEERS ?= build/peers

.PHONY: run all setup test test-ray test-page test-clients asan tsan fuzz model mutants bench bench-ray bench-executors bench-peers soak install wheel deb lint fmt clean
all: build-release

setup:
	@scripts/setup.sh

build-%: setup
	@cmake --preset $* >/dev/null
	@cmake --build build/$* -j$(JOBS)

run: ## install what is missing, build the command, fetch a real model, generate on 2 workers
	@./run

test: build-release ## every test of the short tier
	@scripts/fetch_model.sh >/dev/null || echo "no real model: its test will be skipped"
	@scripts/setup.sh fish groff-base zsh || echo "without these, their tests are skipped"
	ctest --test-dir build/release --output-on-failure -j$(JOBS)
	@scripts/check_requirements.py build/release

test-page: build-release ## the status page, in a headless browser that is installed for it
	@scripts/setup.sh chromium
	ctest --test-dir build/release --output-on-failure -R page_test

test-clients: build-release ## clients that others wrote: openai's package, 16 more, schemathesis, vllm's bench client; installed for it
	@scripts/test_clients.sh build/release $(PEERS)

test-ray: build-release ## real Ray, on one node and on three, installed for it
	@scripts/test_ray.sh build/release

asan: build-dev ## the same tests under ASan and UBSan
	ctest --test-dir build/dev --output-on-failure -j$(JOBS)

tsan: build-tsan ## the same tests under TSan
	ctest --test-dir build/tsan --output-on-failure -j$(JOBS)

fuzz: build-fuzz ## every fuzz target for FUZZ_SECONDS
	@scripts/fuzz.sh build/fuzz $(FUZZ_SECONDS)

model: ## the spin models of ring, pipe and board, with and without each memory order
	@scripts/setup.sh spin
	@scripts/model.sh build/model

mutants: setup ## FOLDER="queue link" COUNT=20 SEED=1: plants faults, says which no test notices
	@scripts/mutants.py --folder $(FOLDER) --count $(or $(COUNT),20) --seed $(or $(SEED),1)

bench: build-release ## what the README's figures come from; a quiet machine, please
	@scripts/bench.sh build/release bench serve recover

bench-ray: build-release ## the executor on Ray beside Ray itself, which is installed for it
	@scripts/bench.sh build/release ray

bench-executors: build-release ## processes, Ray and Ray's compiled graph, ours and vLLM's (those in PEERS, if any)
	@COHORT_PEERS=$(PEERS) scripts/bench.sh build/release executors

bench-peers: build-release ## the server beside vLLM's and llama.cpp's, which are installed (7 GB)
	@COHORT_PEERS=$(PEERS) scripts/bench.sh build/release peers

soak: build-release ## the full counts, for hours; what came of it goes to bench/results/
	@scripts/soak.sh build/release

install: build-release ## DESTDIR and PREFIX as usual
	cmake --install build/release --prefix $(PREFIX)

wheel: build-release ## all that a node of a Ray cluster needs, for pip install
	@scripts/wheel.sh build/release

deb: setup ## Debian packages in build/deb; scripts/deb.sh --test installs and runs them in a clean Debian
	@scripts/setup.sh dpkg-dev
	@scripts/deb.sh

lint: ## clang-format, shellcheck, layers, headers
	@scripts/lint.sh

fmt:
	clang-format -i $$(git ls-files '*.[ch]')

clean:
	rm -rf build
