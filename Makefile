# make setup, make test: the environment, the tests; `make` alone lists the rest. Without make, `python -m course setup`
# and the like do the same.
PYTHON ?= python3
BIN := .venv/bin
COURSE := $(BIN)/python -m course
# BEGIN STAFF
PYTEST_FLAGS := -n 2 --dist loadscope --max-worker-restart 0
# END STAFF

.PHONY: help setup demo theory notebooks runs test submission tensorboard clean

help:
	@echo "make setup        the virtual environment in .venv (PYTHON=python3.12 chooses the interpreter)"
	@echo "make demo         fetch MNIST, train the models of all parts on the CPU for one or two epochs"
	@echo "make theory       run the demos of the written questions; their figures are in theory/figures/"
	@echo "make notebooks    the same demos as notebooks, in build/notebooks/"
	@echo "make runs         all runs that the assignment asks for (hours); continues where it stopped"
	@echo "make test         the tests, with the points that they give"
	@echo "make submission   say what is missing, and build the zip to hand in"
	@echo "make tensorboard  look at the runs in logs/"
# BEGIN STAFF
	@echo "make test-all     the slow tests too"
	@echo "make bench        measure speed and memory; results in bench/"
	@echo "make check        do rubric, blanks, graded tests and handout agree, in both editions?"
	@echo "make handout      build the handout as a site and a PDF: build/handout (EDITION=2022: build/handout-2022)"
	@echo "make autograder   build the zip for Gradescope: build/autograder.zip"
	@echo "make release      write what students get into OUT (build/release), which make clean keeps;"
	@echo "                  EDITION=2022 for its questions, YEAR=2027 stamps it"
# END STAFF
	@echo "make clean        remove what the commands above made, except data/ and logs/"

setup:
	@$(PYTHON) -m course setup

demo: setup
	@$(COURSE) demo

theory: setup
	@$(COURSE) theory

notebooks: setup
	$(COURSE) notebooks

test: setup
# BEGIN STAFF
	$(BIN)/ruff check .
# END STAFF
	$(COURSE) test $(PYTEST_FLAGS)

runs: setup
	$(COURSE) runs

submission: setup
	$(COURSE) submission

tensorboard: setup
	$(COURSE) tensorboard

# BEGIN STAFF
.PHONY: test-slow test-all bench check release handout autograder

test-slow: setup
	$(COURSE) test -m slow -n 2 --dist loadfile

test-all: test test-slow

bench: setup
	$(BIN)/python -m course.data mnist
	$(BIN)/python -m bench

OUT ?= build/release

check: setup
	$(BIN)/python -m staff check

release: setup
	$(BIN)/python -m staff release "$(OUT)" $(if $(EDITION),--edition "$(EDITION)") $(if $(YEAR),--year "$(YEAR)")

handout: setup
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[dev,handout]' -c constraints.txt
	$(BIN)/python -m staff handout $(if $(EDITION),--edition "$(EDITION)")

autograder: setup
	$(BIN)/python -m staff.grading.gradescope --build build/autograder.zip
# END STAFF

clean:
	rm -rf .venv *.egg-info .pytest_cache .ruff_cache
	[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name release -exec rm -rf {} +
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
