"""The benchmarks behind the numbers in the READMEs: `make bench`."""
