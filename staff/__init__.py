"""What stays with the staff: release, grading, marking, hidden tests, and the tests of all that is not graded."""
