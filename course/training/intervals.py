"""How often a training run logs single steps, and updates its progress bar."""

LOG_EVERY_N_STEPS = 50
BAR_EVERY_N_STEPS = 10


def is_logged(step: int) -> bool:
    """Whether the numbers of this step are read, for which the CPU has to wait until a GPU has come that far."""
    return step % LOG_EVERY_N_STEPS == 0
