"""Build the students' repository from the solution."""
