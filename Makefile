# make run    installs into .venv, writes a demonstration configuration, starts the server on loopback
# make test   installs what the tests need, runs them all
# make help   says the rest

# Debian's own Python first: it is built with profile-guided optimisation, which a shim in PATH may not be
PYTHON ?= $(or $(wildcard /usr/bin/python3),python3)
VENV   ?= .venv
DEMO   ?= var/demo
TESTS  ?= tests

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
PACKAGING := setup.cfg pyproject.toml plugins/mta_build.py

.DELETE_ON_ERROR:
.PHONY: help run test bench bench-check bench-mailauth interop man dist deb pages clean

help:
	@echo 'make run     start the server on loopback with the demonstration in $(DEMO); no root, no DNS, no network'
	@echo 'make test    run all tests (TESTS=tests/unit for a part)'
	@echo 'make bench   measure messages per second beside the installed Postfix; see docs/testing.md'
	@echo 'make bench-check   count what the core does for a message, and compare'
	@echo 'make bench-mailauth   measure what signatures and checks cost'
	@echo 'make interop verify what others sign, and have them verify what we do; see docs/mailauth-interop.md'
	@echo 'make man     make the manual pages in build/man: man -l build/man/mta.1'
	@echo 'make dist    build wheel and source distribution in dist/: pipx install dist/*.whl'
	@echo 'make deb     build a Debian package in dist/, on a Debian: apt install ./dist/mta_*.deb'
	@echo 'make pages   type the commands of docs/first-hour.md and troubleshooting.md, and write what they print; needs root'
	@echo 'make clean   remove $(VENV) and what was built; var/ stays'
	@echo
	@echo 'PYTHON=$(PYTHON) (3.11 or later)'

run: $(VENV)/installed
	@$(BIN)/mta init --demo $(DEMO)
	@exec $(BIN)/twistd -n --pidfile= mta --config $(DEMO)/etc/mta.toml

test: $(VENV)/tested
	@$(BIN)/python -m pytest $(TESTS)

bench: $(VENV)/tested
	@$(BIN)/python -m tests.bench.bench $(BENCH)

bench-check: $(VENV)/tested
	@$(BIN)/python -m tests.bench.counts $(BENCH)

bench-mailauth: $(VENV)/tested
	@$(BIN)/python -m tests.bench.mailauth $(BENCH)

interop: $(VENV)/tested
	@$(BIN)/python -m tests.interop.mailauth --report docs/mailauth-interop.md $(INTEROP)

man: $(VENV)/installed
	@$(BIN)/python -m mta.cli.manual build/man

# What an earlier build left is no part of this one. A file's date is that of the last commit, where git knows it.
dist: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
dist: $(VENV)/tested man
	@rm -rf build/setuptools build/bdist.* mta.egg-info dist/mta-*.whl dist/mta-*.tar.gz
	@PYTHONPATH=plugins $(BIN)/python -c 'import mta_build as b; b.build_sdist("dist"); b.build_wheel("dist")' >build/dist.log 2>&1 || { cat build/dist.log; exit 1; }
	@ls dist/mta-*

deb: dist
	@VENV='$(VENV)' .ci/deb $(REVISION)

pages: $(VENV)/tested
	@MTA_WRITE_PAGES=1 $(BIN)/python -m pytest tests/live/test_pages.py

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	find mta plugins tests -name __pycache__ -prune -exec rm -rf {} +
	rm -f plugins/twisted/plugins/dropin.cache

# A stamp is newer than the files that decide what is installed, so a second `make` starts at once.
$(VENV)/installed: $(PACKAGING) | $(BIN)/python
	@echo 'Installing into $(VENV) …'
	@$(PIP) install --editable .
	@touch $@

$(VENV)/tested: $(PACKAGING) | $(BIN)/python
	@echo 'Installing into $(VENV), with what the tests need …'
	@$(PIP) install --editable '.[test]'
	@touch $(VENV)/installed $@

$(BIN)/python:
	@PYTHON='$(PYTHON)' .ci/venv '$(VENV)'
