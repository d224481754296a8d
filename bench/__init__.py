"""The measurements behind the numbers in the READMEs: `make bench`."""
