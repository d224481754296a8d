"""The written answers."""
