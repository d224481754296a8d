"""Reading a run's folder again."""
