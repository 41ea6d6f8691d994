# make demo               run the whole pipeline on a synthetic sample (or on the tables in data/)
# make demo TABLES=DIR    run it on the tables in DIR
# make test               lint, format check, types, import rules, tests
# make install            create .venv
# make audit              look up known vulnerabilities of what .venv holds
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
AUDIT := .venv-audit
TABLES ?=

.PHONY: demo test install audit clean

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

# pip-audit in an environment of its own. --strict: what could not be looked up is not called clean.
audit: $(VENV)/installed
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	$(RUN) -m pip list --format=freeze --exclude-editable --disable-pip-version-check | sed 's/+.*//' > $(AUDIT)/installed.txt
	$(AUDIT)/bin/pip-audit --strict --no-deps --disable-pip --requirement $(AUDIT)/installed.txt

clean:
	rm -rf $(VENV) $(AUDIT) .mypy_cache .pytest_cache .ruff_cache
