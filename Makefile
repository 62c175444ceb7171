# make app | test | check | bench | serve. Everything lives in .venv, made from whatever python3 there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One retry: where PyTorch's CPU index cannot be reached, pip asks it about every package before going on without it.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 1
HOST ?= 0.0.0.0
PORT ?= 8501

.PHONY: app serve test check bench docs warm clean

app: $(VENV)/app warm
	$(BIN)/python -m streamlit run app.py --server.address 127.0.0.1 --server.port $(PORT)

# A link for the team: hub models and the demo only, no local folders, no error details.
serve: $(VENV)/app warm
	RLVIZ_MODE=hosted $(BIN)/python -m streamlit run asgi.py --server.address $(HOST) --server.port $(PORT) \
		--server.headless true --client.showErrorDetails none

test: $(VENV)/dev warm
	@sh tests/install_chromium.sh
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

check: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

bench: $(VENV)/dev warm
	$(BIN)/python -m bench

docs: $(VENV)/app
	$(BIN)/python -m bench.readme

# Compile the kernels now, so that nobody waits for them later.
warm: $(VENV)/app
	@$(BIN)/python -c "from rlviz.probes.coordinate import warm; warm()"

$(VENV)/app: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	touch $@

$(VENV)/dev: $(VENV)/app requirements-dev.txt requirements-ray.txt
	$(PIP) -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV)
