"""Signal handling in processes that load data; imported only with --num_workers."""

import signal


def leave_signals_to_the_run(worker: int) -> None:
    """Ignore Ctrl-C and the first SIGTERM in a worker (a `worker_init_fn`): the run still needs its batches."""

    def ignore_once(signum, frame):  # DataLoader terminates a hung worker with a second SIGTERM
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, ignore_once)
