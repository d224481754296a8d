"""What the training programs of all parts share."""
