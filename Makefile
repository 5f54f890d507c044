# channelbox: the daily verbs. `make help` lists them.
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

.PHONY: help
help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{ printf "  make %-16s %s\n", $$1, $$2 }'

.PHONY: venv
venv: $(VENV)/.made-from ## the Python environment of the tools, in build/venv

$(VENV)/.made-from: $(LOCK)
	@test $(RELEASE) != unsupported || { echo "channelbox needs Python 3.11 or 3.13; set PYTHON=..." >&2; exit 1; }
	@echo "== Python environment from $(LOCK)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --only-binary :all: -r $(LOCK)
	$(BIN)/python -c 'import sysconfig, pathlib; pathlib.Path(sysconfig.get_path("purelib"), "channelbox-checkout.pth").write_text(str(pathlib.Path("app").resolve()) + "\n")'
	@printf '#!/bin/sh\nexec "$$(dirname "$$0")/python" -m channelbox.console.main "$$@"\n' > $(BIN)/channelbox && chmod +x $(BIN)/channelbox
	@sha256sum $(LOCK) > $@

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BUILD)
