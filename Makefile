# make demo               run the whole pipeline on a synthetic sample (or on the tables in data/)
# make demo TABLES=DIR    run it on the tables in DIR
# make test               lint, format check, types, import rules, tests
# make install            create .venv
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
TABLES ?=

.PHONY: demo test install clean

install: $(VENV)/installed

$(VENV)/installed: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "patentCL needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

demo: $(VENV)/installed
	$(RUN) training_scripts/demo.py $(if $(TABLES),--tables "$(TABLES)")

test: $(VENV)/installed
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports --no-logo
	$(RUN) -m pytest

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache
