"""From the solution to the students' repository."""
