# make setup, make test: the environment, the tests; `make` alone lists the rest
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
# the tests' tensors are small: more threads only wait for each other, and beside other work they wait long
ONE_THREAD := OMP_NUM_THREADS=1
TESTS := $(BIN)/python -m pytest
# BEGIN STAFF
TESTS += -n 2 --dist loadscope
# END STAFF

.PHONY: help setup demo theory notebooks test submission tensorboard clean

help:
	@echo "make setup        the virtual environment in $(VENV) (PYTHON=python3.12 chooses the interpreter)"
	@echo "make demo         fetch MNIST, train VAE, AAE (2 epochs each) and GPT (1) on the CPU, let it write"
	@echo "make theory       run the demos of the written questions; their figures are in theory/figures/"
	@echo "make notebooks    the same demos as notebooks, in build/notebooks/"
	@echo "make test         the tests, with the points that they give"
	@echo "make submission   say what is missing, and build the zip to hand in"
	@echo "make tensorboard  look at the runs in logs/"
# BEGIN STAFF
	@echo "make test-all     the slow tests too"
	@echo "make bench        measure speed and memory; results in bench/"
	@echo "make check        do rubric, blanks, graded tests and handout agree?"
	@echo "make handout      build the handout as a site and a PDF: build/handout"
	@echo "make autograder   build the zip for Gradescope: build/autograder.zip"
	@echo "make release      write what students get into OUT (build/release), EDITION=2026 stamps it"
# END STAFF
	@echo "make clean        remove what the commands above made, except data/ and logs/"

setup: $(INSTALLED)

# The mark holds the folder that it was made in: the environment's scripts have that path in them, so that a folder which
# was moved or copied gets a new environment. (A mark that is empty is an older one.)
ifneq ($(shell test ! -s $(INSTALLED) || test "$$(cat $(INSTALLED))" = "$(CURDIR)" || echo moved),)
.PHONY: $(INSTALLED)
CLEAR := --clear
endif

# The last step makes the mark, so that an interrupted installation is taken up again.
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is `$(PYTHON) --version`; name another: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(CLEAR) $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[dev]' -c constraints.txt
	@echo '$(CURDIR)' > $@

demo: setup
	@echo "1/5: MNIST, unless it is there (seconds)"
	@$(BIN)/python -m course.data mnist
	@echo "2/5: a VAE learns to draw digits (2 epochs, about a minute)"
	@$(BIN)/python part1_vae/train.py --epochs 2 --accelerator cpu
	@echo "3/5: an adversarial autoencoder learns to copy them (2 epochs, about a minute)"
	@$(BIN)/python part2_aae/train.py --epochs 2 --accelerator cpu
	@echo "4/5: a small GPT learns to write (1 epoch, about a minute and a half)"
	@$(BIN)/python part3_gpt/train.py --epochs 1 --accelerator cpu
	@echo "5/5: it writes (seconds)"
	@$(BIN)/python part3_gpt/generate.py --checkpoint last --prompt 'The "assert" statement' --do_sample --temperature 0.8
	@echo
	@echo "Open the newest report.html in logs/vae/, logs/aae/ and logs/gpt/, or run: make tensorboard"

theory: setup
	@failed=0; for script in theory/*.py; do echo "--- $$script"; $(BIN)/python $$script || failed=1; done; exit $$failed

notebooks: setup
	$(BIN)/python -m pip install --disable-pip-version-check -e '.[notebooks]' -c constraints.txt
	@mkdir -p build/notebooks
	@for script in theory/*.py; do \
	  $(BIN)/jupytext --to ipynb --output build/notebooks/$$(basename $$script .py).ipynb $$script || exit 1; done

test: setup
# BEGIN STAFF
	$(BIN)/ruff check .
# END STAFF
	$(BIN)/python -m course.data mnist
	$(ONE_THREAD) $(TESTS)

submission: setup
	$(BIN)/python -m course submission

# by itself TensorBoard keeps ten pictures or texts of a kind and a thousand points of a curve
SHOW := --samples_per_plugin scalars=100000,images=1000,text=1000,histograms=1000

tensorboard: setup
	$(BIN)/tensorboard --logdir logs $(SHOW)

# BEGIN STAFF
.PHONY: test-slow test-all bench check release handout autograder

test-slow: setup
	$(BIN)/python -m course.data mnist
	$(ONE_THREAD) $(BIN)/python -m pytest -m slow

test-all: test test-slow

bench: setup
	$(BIN)/python -m course.data mnist
	$(BIN)/python -m bench

OUT ?= build/release

check: setup
	$(BIN)/python -m staff check

release: setup
	$(BIN)/python -m staff release $(OUT) $(if $(EDITION),--edition $(EDITION))

handout: setup
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[dev,handout]' -c constraints.txt
	$(BIN)/python -m staff handout build/handout

autograder: setup
	$(BIN)/python -m staff.grading.gradescope --build build/autograder.zip
# END STAFF

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
