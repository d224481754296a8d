"""What the runs that are handed in earn, by the rules under [[evidence]] in course/rubric.toml."""
