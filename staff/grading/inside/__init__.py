"""What runs beside a submission, in the sandbox."""
