# Everything a user or a developer runs. Each target does its own set-up.
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
SOURCES := $(shell find ckpt parasite proto man scripts -type f -not -name '*.pyc' 2>/dev/null) meson.build pyproject.toml

.PHONY: demo test stress bench venv install lint format clean

demo: install
	$(PY) scripts/demo.py

test: install
	scripts/debian-packages test
	$(PY) -m pytest -m "not stress" tests

stress: install
	scripts/debian-packages test
	CKPT_STRESS=1 $(PY) -m pytest --timeout=3600 tests

bench: install
	$(PY) -m tests.bench
	$(PY) -m tests.bench.tracking
	$(PY) -m tests.bench.increment
	$(PY) -m tests.bench.chain
	$(PY) -m tests.bench.lazy
	$(PY) -m tests.bench.lazyfaults
	$(PY) -m tests.bench.migrate
	$(PY) -m tests.bench.gaps
	$(PY) -m tests.bench.live
	$(PY) -m tests.bench.live_chain
	$(PY) -m tests.bench.redis_live
	$(PY) -m tests.bench.pause

lint: install
	$(PY) -m pytest tests/unit/test_linters.py

format: venv
	$(VENV)/bin/ruff check --fix -q ckpt tests scripts
	$(VENV)/bin/ruff format -q ckpt tests scripts
	find parasite ckpt tests -name '*.[ch]' | xargs $(VENV)/bin/clang-format -i

venv: $(STAMP)
install: $(STAMP)

$(VENV)/.tools: pyproject.toml scripts/build-requires.py
	scripts/debian-packages build
	test -x $(PY) || python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q --upgrade pip
	$(PY) scripts/build-requires.py | xargs -d '\n' $(VENV)/bin/pip install -q
	touch $@

$(STAMP): $(VENV)/.tools $(SOURCES)
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/pip install -q --no-build-isolation --no-deps -Cbuild-dir=build/wheel .
	touch $@

clean:
	rm -rf build $(VENV)
