# The commands for working on channelbox; `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BUILD := build
VENV := $(BUILD)/venv
BIN := $(VENV)/bin
PYTHON ?= python3
# One lock file for each Debian release, told apart by its Python: 3.11 is bookworm's, 3.13 trixie's.
RELEASE := $(shell $(PYTHON) -c 'import sys; print({(3, 11): "deb12", (3, 13): "deb13"}.get(sys.version_info[:2], "unsupported"))')
LOCK := packaging/locks/$(RELEASE)-dev.txt

SCENARIO ?= preflight slow single cluster
RELEASE_OF_SINGLE ?= bookworm trixie

# What is missing is installed for root, and named to anybody else: $(call need,command,package)
need = command -v $(1) >/dev/null || { test "$$(id -u)" = 0 || { echo "$(1) is missing: sudo apt-get install $(2)" >&2; exit 1; }; \
	echo "== apt-get install $(2)"; apt-get update -qq; \
	DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $(2) >/dev/null; }

# What a folder's package-lock.json pins, without the packages' own scripts: $(call npm_ci,folder,destination)
npm_ci = mkdir -p $(2); cp $(addprefix $(1)/,package.json package-lock.json .npmrc) $(2); \
	npm ci --prefix $(2) --ignore-scripts --prefer-offline --fetch-retries=1 --no-audit --no-fund --loglevel=error || { \
	echo "$(1)/package-lock.json: npm cannot install these packages; it needs the npm registry, or has to have them in its cache" >&2; exit 1; }

# --- Setup

.PHONY: help
help: ## list these commands
	@awk -F ':.*## ' '/^# --- / { printf "\n%s\n", substr($$0, 7) } /^[a-z0-9-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

.PHONY: venv
venv: $(VENV)/.made-from $(BIN)/channelbox ## create the Python environment of the tools in build/venv

packaging/locks/unsupported-dev.txt:
	@echo "channelbox needs Python 3.11 or 3.13; set PYTHON=..." >&2; exit 1

$(VENV)/.made-from: $(LOCK)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(call need,ensurepip,python3-venv) }
	@echo "== Python environment from $(LOCK)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --only-binary :all: -r $(LOCK)
	$(BIN)/python -c 'import sysconfig, pathlib; pathlib.Path(sysconfig.get_path("purelib"), "channelbox-checkout.pth").write_text(str(pathlib.Path("app").resolve()) + "\n")'
	@sha256sum $(LOCK) > $@

$(BIN)/channelbox: Makefile $(VENV)/.made-from
	@printf '#!/bin/sh\nexec "$$(dirname "$$0")/python" -m channelbox.cli.main "$$@"\n' > $@ && chmod +x $@

# --- Try it

.PHONY: run
run: venv vendor ## run the application alone on this machine until Ctrl-C (ARGS="--port 9000 --workers 2"; ARGS=--help)
	@$(call need,redis-server,redis-server)
	@exec $(BIN)/channelbox run $(ARGS)

# --- Package

VENDORED := $(BUILD)/vendor/uplot/uPlot.esm.js

.PHONY: locks
locks: venv ## renew the lock files from pyproject.toml, keeping versions where possible (UPGRADE=1: the newest)
	@set -- deb12 3.11.2 deb13 3.13.5; while [ $$# -gt 0 ]; do \
		for kind in "" -dev; do \
			echo "== packaging/locks/$$1$$kind.txt"; \
			$(BIN)/uv pip compile --quiet --no-header --generate-hashes --only-binary :all: $(if $(UPGRADE),--upgrade) \
				--python-version "$$2" --python-platform x86_64-manylinux_2_28 --output-file packaging/locks/"$$1$$kind".txt \
				$${kind:+--extra dev --constraint packaging/locks/"$$1".txt} pyproject.toml; \
		done; \
		shift 2; \
	done

.PHONY: vendor
vendor: $(VENDORED) ## fetch the JavaScript libraries of the pages into build/vendor

$(VENDORED): packaging/vendor/package.json packaging/vendor/package-lock.json packaging/vendor/.npmrc
	@echo "== Scripts for the pages from packaging/vendor/package-lock.json"
	@$(call need,npm,npm)
	@$(call npm_ci,packaging/vendor,$(BUILD)/npm)
	@mkdir -p $(@D)
	@cp $(addprefix $(BUILD)/npm/node_modules/uplot/,dist/uPlot.esm.js dist/uPlot.min.css LICENSE) $(@D)

.PHONY: deb
deb: venv vendor ## build the Debian packages of both releases in build/deb
	$(BIN)/python packaging/make_deb.py

.PHONY: deb-lint
deb-lint: venv vendor ## run lintian on both packages
	$(BIN)/python packaging/make_deb.py --lintian

# --- Tests

# Debian keeps PostgreSQL's server programs out of the PATH: the cluster tool is what tells that they are there.
TEST_PACKAGES = $(call need,redis-server,redis-server); $(call need,pg_createcluster,postgresql); $(call need,nginx,nginx-light); \
	$(call need,chromium,chromium fonts-dejavu-core); $(call need,node,nodejs); \
	$(call need,faketime,faketime); $(call need,openssl,openssl)
PYTEST = $(BIN)/python -m pytest
# Most tests wait for something: more of them than processors run at a time. Those of one file run in order.
JOBS ?= 4
PARALLEL = --numprocesses $(JOBS) --dist loadfile
DATABASE ?= sqlite
MINUTES ?= 15
TESTS ?= tests

LINT_JAVASCRIPT := $(BUILD)/lint-javascript/.made-from

$(LINT_JAVASCRIPT): $(addprefix scripts/lint-javascript/,package.json package-lock.json .npmrc)
	@echo "== Linters for JavaScript from scripts/lint-javascript/package-lock.json"
	@$(call need,npm,npm)
	@$(call npm_ci,scripts/lint-javascript,$(@D))
	@sha256sum scripts/lint-javascript/package-lock.json > $@

.PHONY: test
test: venv vendor $(LINT_JAVASCRIPT) ## run everything that CI runs, and a part of test-long (DRAW=2026-11-30 RECORD=1: see CONTRIBUTING.md)
	@$(TEST_PACKAGES)
	@$(BIN)/python scripts/run_tests.py $(if $(DRAW),--draw $(DRAW)) $(if $(RECORD),--record)

.PHONY: test-long
test-long: venv vendor $(LINT_JAVASCRIPT) ## run the other combinations of release and database, a slow node, and more faults, in an hour and a half
	@$(TEST_PACKAGES)
	@$(BIN)/python scripts/run_tests.py --long

.PHONY: test-app
test-app: venv vendor $(LINT_JAVASCRIPT) ## run the application's tests with a real Redis and database (DATABASE=postgresql JOBS=4 TESTS=tests/chat)
	@$(TEST_PACKAGES)
	@$(PYTEST) $(TESTS) --ignore tests/browser --ignore tests/faults/test_broken.py --database $(DATABASE) $(PARALLEL) $(ARGS)

.PHONY: coverage
coverage: venv vendor $(LINT_JAVASCRIPT) ## measure which lines and branches the tests of the application and its pages reach, in build/coverage/html
	@$(TEST_PACKAGES)
	@mkdir -p $(BUILD)/coverage
	@status=0; \
	$(PYTEST) $(TESTS) --ignore tests/faults/test_broken.py --database $(DATABASE) $(PARALLEL) --cov --cov-report= $(ARGS) || status=$$?; \
	$(BIN)/coverage html --quiet --directory $(BUILD)/coverage/html; \
	$(BIN)/coverage report; \
	exit $$status

# Tests that start whole installations, and those of outages and floods, which wait for long.
NOT_QUICK = ansible browser cli clients faults integration nginx packaging postgresql test_sd_notify.py test_server.py \
	$(addprefix realtime/,test_bus_outages.py test_floods.py test_presence.py test_shared_floods.py)

.PHONY: test-quick
test-quick: venv vendor $(LINT_JAVASCRIPT) ## run what takes under two minutes: the linters, the clients, and most tests of single parts
	@$(TEST_PACKAGES)
	@$(BIN)/python scripts/lint.py > $(BUILD)/lint.log 2>&1 & lint=$$!; status=0; \
	$(MAKE) --no-print-directory test-clients || status=1; \
	$(PYTEST) tests $(PARALLEL) $(addprefix --ignore tests/,$(NOT_QUICK)) $(ARGS) || status=1; \
	wait $$lint || status=1; \
	cat $(BUILD)/lint.log; \
	exit $$status

.PHONY: test-clients
test-clients: venv ## test the client libraries in JavaScript and Python against scripted servers
	@$(TEST_PACKAGES)
	@timeout --verbose 300 "$$(command -v node || command -v nodejs)" --test tests/clients/js/*.test.js
	@$(PYTEST) tests/clients $(ARGS)

.PHONY: test-trixie
test-trixie: DATABASE := $(if $(filter command line environment,$(origin DATABASE)),$(DATABASE),postgresql)
test-trixie: venv vendor $(LINT_JAVASCRIPT) ## run test-app with the programs of Debian 13, in a container (DATABASE=sqlite TESTS=tests/chat)
	@$(BIN)/python scripts/test_debian13.py $(TESTS) --database $(DATABASE) $(PARALLEL) $(ARGS)

.PHONY: screenshots
screenshots: venv vendor ## renew the screenshots in docs/images (MINUTES=15: how long the dashboard has been running)
	@$(TEST_PACKAGES)
	@SCREENSHOTS=$(MINUTES) $(PYTEST) tests/browser/test_screenshots.py

.PHONY: test-browser
test-browser: venv vendor ## test the pages in Debian's Chromium
	@$(TEST_PACKAGES)
	@$(PYTEST) tests/browser $(PARALLEL) $(ARGS)

.PHONY: test-faults
test-faults: venv ## inject faults while people talk, and check the promises (SEED= LONG=1 DATABASE= TARGET=cluster REDIS_HOSTS=2 ONLY= BROKEN=)
	@$(call need,redis-server,redis-server); $(call need,pg_createcluster,postgresql); $(call need,nginx,nginx-light)
	@$(call need,faketime,faketime); $(call need,openssl,openssl)
	@$(BIN)/python -m tests.faults $(if $(SEED),--seed $(SEED)) $(if $(LONG),--long) $(if $(ONLY),--only "$(ONLY)") \
		$(if $(BROKEN),--broken $(BROKEN)) $(if $(TARGET),--target $(TARGET)) $(if $(REDIS_HOSTS),--redis-hosts $(REDIS_HOSTS)) \
		$(if $(filter command line environment,$(origin DATABASE)),--database $(DATABASE))
	@$(if $(LONG)$(ONLY)$(BROKEN)$(TARGET),,$(PYTEST) tests/faults/test_broken.py)

.PHONY: lint
lint: venv $(LINT_JAVASCRIPT) ## run every linter
	@$(BIN)/python scripts/lint.py

.PHONY: format
format: venv ## format Python and templates as `make lint` requires
	@$(BIN)/ruff check --quiet --select I --fix .
	@$(BIN)/ruff format .
	@$(BIN)/djlint --reformat --quiet $$(git ls-files 'app/*.html')

.PHONY: test-nodes
test-nodes: venv ## test the tool that creates nodes
	@$(BIN)/python -m pytest -c molecule/pytest.ini molecule/shared/tests

.PHONY: molecule
molecule: venv deb ## run scenarios on nodes that boot systemd (SCENARIO="preflight slow single cluster" RELEASE_OF_SINGLE="bookworm trixie")
	@$(PYTHON) molecule/shared/node check
	@export PATH="$(CURDIR)/$(BIN):$$PATH" MOLECULE_COMMAND_BORDERS=0; \
	failed=; \
	for scenario in $(SCENARIO); do \
		for release in $$(case $$scenario in single|slow) echo $(RELEASE_OF_SINGLE);; *) echo both;; esac); do \
			echo "== molecule: $$scenario ($$release)"; \
			started=$$SECONDS; NODES_RELEASE=$$release MOLECULE_EPHEMERAL_DIRECTORY="$(CURDIR)/$(BUILD)/molecule/$$scenario-$$release" \
				molecule test --scenario-name $$scenario && result=passed || { result=FAILED; failed="$$failed $$scenario ($$release)"; }; \
			echo "== molecule: $$scenario ($$release) $$result after $$((SECONDS - started)) s"; \
		done; \
	done; \
	if [ -n "$$failed" ]; then echo "== molecule: failed:$$failed" >&2; exit 1; fi

# --- Benchmarks

.PHONY: bench-overload
bench-overload: venv ## measure what others notice while some ask for too much (QUICK=1: a third of the time)
	@$(call need,redis-server,redis-server); $(call need,pg_createcluster,postgresql)
	@$(BIN)/python -m bench.overload $(if $(QUICK),--quick) $(ARGS)

.PHONY: bench-growth
bench-growth: venv $(if $(filter nodes spread,$(ARGS)),deb) ## measure how costs grow, in build/growth.html (QUICK=1; ARGS="nodes spread": on nodes)
	@$(call need,redis-server,redis-server); $(call need,pg_createcluster,postgresql)
	@$(BIN)/python -m bench.growth $(if $(QUICK),--quick) $(ARGS)

.PHONY: simulate
simulate: venv ## compare the cost model with the result of bench-growth, and predict the costs of more connections
	@$(BIN)/python -m bench.simulator

.PHONY: bench
bench: venv ## compare channelbox with the Channels tutorial and nchan, in build/bench.html (QUICK=1: under 5 minutes)
	@$(call need,redis-server,redis-server); $(call need,pg_createcluster,postgresql); $(call need,nginx,nginx-light)
	@test -e /usr/lib/nginx/modules/ngx_nchan_module.so || { $(call need,nchan-module,libnginx-mod-nchan) }
	@$(BIN)/python -m bench $(if $(QUICK),--quick) $(ARGS)

# --- Demo

.PHONY: demo
demo: ## create a cluster of six Debian nodes in containers, installed by site.yml
	@status=0; $(PYTHON) molecule/demo.py check || status=$$?; \
	case $$status in \
		0) ;; \
		1) $(MAKE) --no-print-directory venv deb && $(BIN)/python molecule/demo.py up ;; \
		*) exit 1 ;; \
	esac

.PHONY: demo-down
demo-down: ## remove the demo
	@$(PYTHON) molecule/demo.py down

# --- Clean up

.PHONY: clean
clean: ## remove what was built here, and the nodes that run from it
	@if [ -d $(BUILD)/nodes ] && command -v podman >/dev/null; then \
		find $(BUILD)/nodes -mindepth 1 -maxdepth 1 -type d -printf '%f\n' | xargs --no-run-if-empty $(PYTHON) molecule/shared/node down; fi
	rm -rf $(BUILD)

.PHONY: clean-images
clean-images: ## remove the container images, which other checkouts share
	@podman images --quiet --filter reference='localhost/channelbox-*' | sort --unique | xargs --no-run-if-empty podman rmi --force

# Former names of targets, until 0.3.0.

.PHONY: pictures growth overload
pictures: screenshots
growth: bench-growth
overload: bench-overload
