# Everything from a fresh clone with one command: `make demo`, `make test`. Each target sets up
# .venv by itself (tools/setup.sh) and again whenever setup.py or constraints.txt has changed.
.DEFAULT_GOAL := help
.PHONY: help demo test lint type bench colcon setup clean

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.setup-$(or $(and $(AMENT_PREFIX_PATH),$(ROS_DISTRO)),wheels)
# more than eight workers only fight for memory: each loads torch
WORKERS ?= auto --maxprocesses=8
# numeric libraries must not start a thread per core in each of the workers
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo: $(STAMP)  ## experts record, a policy trains, evaluation, plots: about ten minutes
	$(PY) -m il_robot demo

test: $(STAMP)  ## all tests; ARGS='test/data -k repair' chooses
	$(ONE_THREAD) $(PY) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

lint: $(STAMP)  ## ruff
	$(PY) -m ruff check .

type: $(STAMP)  ## mypy
	$(PY) -m mypy

bench: $(STAMP)  ## speed benchmarks, one after the other; results in benchmarks/results
	@set -e; for file in benchmarks/*_speed.py; do echo "== $$file"; $(PY) $$file; done

colcon: $(STAMP)  ## colcon build in a temporary workspace, and what it installed
	test/peers/colcon_build.sh $(PY)

setup: $(STAMP)  ## .venv with all dependencies

$(STAMP): setup.py constraints.txt tools/setup.sh
	@tools/setup.sh $@

clean:  ## remove .venv, caches and build products; data in outputs/ stay
	rm -rf $(VENV) build install log dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
