"""Check that a SLURM job matches the flags of a training run; imported only in a SLURM job."""

import os

from pytorch_lightning.plugins.environments import SLURMEnvironment

from course.training.problems import Problem


def environment(devices: int, nodes: int) -> SLURMEnvironment:
    """Return the Trainer's plugin for SLURM; check that SLURM starts as many processes as the flags request.

    With too few, Lightning would train on fewer devices than requested; with too many, each would train its own model.

    Raises:
        Problem: SLURM starts a different number of processes.
    """
    tasks, per_node = os.environ["SLURM_NTASKS"], os.environ.get("SLURM_NTASKS_PER_NODE")
    if devices * nodes == 1:
        fits = tasks == "1"
    else:
        fits = (per_node, os.environ.get("SLURM_NNODES", "1")) == (str(devices), str(nodes))
    if not fits:
        raise Problem(
            f"--devices {devices} --num_nodes {nodes}: the SLURM job has {tasks} task(s), and --ntasks-per-node is"
            f" {per_node or 'not given'}. For these flags, call sbatch with --nodes={nodes} --ntasks-per-node={devices}"
            f" --gpus-per-node={devices}",
            status=2,
        )
    return SLURMEnvironment(auto_requeue=False)  # `train.job` requeues
