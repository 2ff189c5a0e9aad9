# Every target but help and clean first brings the virtual environment up to date; that is free when it is.

VENV    ?= .venv
PYTHON  ?= python3.11
GPU     ?= $(or $(NIGHTJAR_GPU),none)
ARGS    ?=
JOBS    ?= 2
RATINGS ?= ../shared/data/movietweetings
CENSUS  ?= ../shared/data/adult
CLICKS  ?= ../shared/data/criteo/train.txt

PY       := $(VENV)/bin/python
NIGHTJAR := $(VENV)/bin/nightjar
STAMP    := $(VENV)/.nightjar-setup
FOLDERS  := features training serving jobs nightjar

# Spark starts its Python workers by this name, and would otherwise take the first python3 of the PATH.
export PYSPARK_PYTHON := $(abspath $(PY))

# Spark finds java by itself when it is on the PATH; Debian keeps further ones here.
ifndef JAVA_HOME
ifeq ($(shell command -v java 2>/dev/null),)
JAVA_HOME := $(firstword $(wildcard /usr/lib/jvm/java-17-* /usr/lib/jvm/java-21-*))
ifneq ($(JAVA_HOME),)
export JAVA_HOME
endif
endif
endif

# python3 of any version is enough to say which prerequisites are missing, Python 3.11 among them.
define SETUP
@python=$$(command -v $(PYTHON) || command -v python3) || \
	{ echo "Python 3.11 is missing: sudo apt-get install -y python3.11-dev python3.11-venv" >&2; exit 1; }; \
	"$$python" .ci/setup_environment.py --python $(PYTHON) --venv $(VENV) --gpu $(GPU)
endef

.PHONY: help setup nightly movietweetings adult criteo test check bench docs compat hdfs zip clean

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  VENV=.venv  PYTHON=python3.11  GPU=none|nccl  JOBS=2 (test)  ARGS='...' (test, bench, compat, hdfs)"

setup: ## Check the prerequisites, make the virtual environment, build Horovod once
	$(SETUP)

$(STAMP): requirements.lock requirements.cuda.lock pyproject.toml .ci/setup_environment.py .ci/horovod_wheel.py
	$(SETUP)

# $(call NIGHT,config,dates). A model that the gate rejects (3) and nothing left to do (4) are results, not failures.
define NIGHT
	$(NIGHTJAR) night --config conf/$(1).yaml --logs $(2)/logs --output $(2) $(3) \
		|| { status=$$?; [ $$status -eq 3 ] || [ $$status -eq 4 ] || exit $$status; }
endef

nightly: $(STAMP) ## Generate logs and run three nights on them; says where models and pages are, under build/nightly
	$(NIGHTJAR) generate-logs --output build/nightly/logs --start-date 2026-01-01 --days 6 --rows-per-day 100000
	$(call NIGHT,app_store,build/nightly,--from 2026-01-04 --to 2026-01-06)

build/movietweetings/logs/_splits.json: | $(STAMP)
	$(NIGHTJAR) import movietweetings --source $(RATINGS) --output $(@D)

movietweetings: $(STAMP) build/movietweetings/logs/_splits.json ## A night on MovieTweetings (RATINGS=its folder), under build/movietweetings
	$(call NIGHT,movietweetings,build/movietweetings,--date 2013-08-27)

build/adult/logs: | $(STAMP)
	$(NIGHTJAR) import adult --source $(CENSUS) --output $@

adult: $(STAMP) | build/adult/logs ## A night on the Adult census (CENSUS=its folder), under build/adult
	$(call NIGHT,adult,build/adult,--date 1994-01-06)

build/criteo/logs: | $(STAMP)
	$(NIGHTJAR) import criteo --source $(CLICKS) --days 7 --output $@

criteo: $(STAMP) | build/criteo/logs ## A night on Criteo's Kaggle log (CLICKS=its train.txt), under build/criteo
	$(call NIGHT,criteo,build/criteo,--date 2014-06-07)

# A file's tests stay together, since they share what they have built; the long files come first. Idle threads sleep: others
# want the cores.
test: export OMP_WAIT_POLICY ?= passive
test: $(STAMP) ## Run the tests in JOBS processes; ARGS='tests/single -k ftrl' narrows them
	$(PY) -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: $(STAMP) ## Lint, formatting, types
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy -p nightjar
	$(PY) -m mypy benchmarks --exclude benchmarks/train/
	$(PY) -m mypy docs

bench: $(STAMP) ## Measure; RATINGS=folder of MovieTweetings' two files
	$(PY) -m benchmarks.movietweetings --source $(RATINGS) --work build/bench $(ARGS)

compat: $(STAMP) ## Score a champion under every Python found, with the newest libraries; ARGS='--output build/nightly'
	$(PY) .ci/compat.py $(ARGS)

hdfs: $(STAMP) ## Run the tests of the storage contract on a real HDFS, made of packages of the Python index, under build/hdfs
	$(PY) .ci/real_hdfs.py $(ARGS)

docs: $(STAMP) ## Write docs/configuration.md from the models of the config
	$(PY) -m docs.configuration

zip: $(STAMP) ## Write dist/nightjar.zip, the code archive for spark-submit --py-files
	$(PY) .ci/code_archive.py dist/nightjar.zip

clean: ## Remove what runs and checks have left; the virtual environment stays
	rm -rf build dist spark-warehouse metastore_db derby.log .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(FOLDERS) tests benchmarks .ci -name __pycache__ -type d -prune -exec rm -rf {} +
