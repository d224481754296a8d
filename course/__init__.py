"""What the staff provides around the assignment: data, trainer, figures. It knows nothing of any part."""
