# make run: a working JMAP session.  make test: everything, green.  No other tool than python3 (with venv) is assumed.
SHELL := /bin/bash
PY := .venv/bin/python
STAMP := .venv/.installed

.PHONY: run test lint bench servers clean

run: $(STAMP)
	exec $(PY) -m jmapplug demo

test: $(STAMP) servers
	$(PY) -m pytest -q -n 2 --dist loadfile $(PYTEST)

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --strict jmapplug plugins/imap/jmapplug_imap

bench: $(STAMP) servers
	$(PY) -m bench $(BENCH)

servers:
	@bash tests/servers.sh

# The lock file pins what CI and make use; setup.py holds the ranges.
$(STAMP): setup.py requirements.lock
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 1; }
	@test -x $(PY) || python3 -m venv .venv || { echo "python3-venv is needed: apt-get install python3-venv"; exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@

clean:
	rm -rf .venv build *.egg-info
