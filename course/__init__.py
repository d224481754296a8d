"""What surrounds the parts of the assignment: data, training, figures, reports. It imports no part."""
