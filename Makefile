# `make setup` creates the environment, `make test` runs the tests, and `make` lists all targets. Without make, use
# `python -m course setup` etc.
PYTHON ?= python3
BIN := .venv/bin
COURSE := $(BIN)/python -m course
# BEGIN STAFF
PYTEST_FLAGS := -n 2 --dist loadscope --max-worker-restart 0
# END STAFF

.PHONY: help setup demo theory notebooks runs test submission tensorboard clean

help:
	@echo "make setup        create the virtual environment .venv (PYTHON=python3.12 chooses the interpreter)"
	@echo "make demo         download MNIST, and train the models of all parts on the CPU for one or two epochs"
	@echo "make theory       run the demos for the written questions, which write figures to theory/figures/"
	@echo "make notebooks    convert these demos to notebooks in build/notebooks/"
	@echo "make runs         start or continue all runs that the assignment requires (hours)"
	@echo "make test         run the tests and show the points"
	@echo "make submission   list what is missing and build the zip to hand in"
	@echo "make tensorboard  show the runs in logs/ in TensorBoard"
# BEGIN STAFF
	@echo "make test-all     run all tests, including the slow ones"
	@echo "make bench        measure speed and memory; write the results to bench/"
	@echo "make check        check that rubric, blanks, graded tests and handout agree, in both editions"
	@echo "make handout      build the handout as a site and a PDF: build/handout (EDITION=2022: build/handout-2022)"
	@echo "make autograder   build the zip for Gradescope: build/autograder.zip"
	@echo "make release      write the students' repository to OUT (build/release), which make clean keeps;"
	@echo "                  EDITION=2022 selects that edition's questions, YEAR=2027 sets the printed year"
# END STAFF
	@echo "make clean        remove the output of the commands above, except data/ and logs/"

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
