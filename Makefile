# make demo, make train and make test need only Python 3.11 or later; they make .venv themselves.
PYTHON ?= python3
FAMILY ?= pocket
export FAMILY
RUN := .venv/bin/python
READY := .venv/.ready

.PHONY: demo train test test-all notebooks benchmark

demo: $(READY)  ## run demo.ipynb top to bottom, then serve the widget and print its address
	$(RUN) -m proxy_tuning.notebooks demo.ipynb
	$(RUN) -m proxy_tuning demo --family $(FAMILY)

train: $(READY)  ## run fine_tuning.ipynb top to bottom and replace fine_tuned_model/FAMILY
	$(RUN) -m proxy_tuning.notebooks fine_tuning.ipynb

test: $(READY)  ## what every change must pass
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	HF_HUB_OFFLINE=1 $(RUN) -m pytest -m "not slow"

test-all: $(READY)  ## and load, soak, statistics and JupyterLab
	HF_HUB_OFFLINE=1 $(RUN) -m pytest

notebooks: $(READY)  ## run all notebooks and keep their outputs
	$(RUN) -m proxy_tuning.notebooks fine_tuning.ipynb --save
	$(RUN) -m proxy_tuning.notebooks demo.ipynb --save
	$(RUN) -m proxy_tuning.notebooks analysis.ipynb --save

benchmark: $(READY)  ## how fast every way of decoding is here: results/benchmark.json
	HF_HUB_OFFLINE=1 $(RUN) benchmarks/speed.py

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install -q -r requirements.txt
	touch $(READY)
