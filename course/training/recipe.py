"""`--recipe fast`: train the same networks to the same quality in fewer epochs; the default is the assignment's recipe.

Differences: Muon updates the convolution kernels and Adam the discriminator, higher learning rates warm up and decay
to 0, batches may be smaller, and the adversarial loss may have more weight. Each part defines its values next to its
flags.
"""

import math
from collections.abc import Callable

import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

WARM_UP = 0.02  # fraction of all steps
KERNEL_LR = 0.015  # Muon's learning rate: about the largest singular value of a kernel's update


def orthogonalize(matrix: Tensor, steps: int = 5) -> Tensor:
    """Approximate the nearest orthogonal matrix: U S V^T -> U V^T, but with singular values from 0.7 to 1.2.

    This is the Newton-Schulz iteration with the coefficients of Jordan et al. (2024). With these, small singular values
    grow fast, but do not converge to exactly 1.

    Args:
        matrix: [M, N]; a zero matrix remains zero.
    """
    wide = matrix.T if matrix.size(0) > matrix.size(1) else matrix
    x = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (2.0315 * square @ square - 4.7750 * square) @ x
    return x.T if matrix.size(0) > matrix.size(1) else x


class Muon(torch.optim.Adam):
    """Adam, except for groups marked with `kernels`, which use Muon (Jordan et al. 2024) for convolutions.

    A kernel [M, N, H, W] is treated as a matrix [M, N H W]. A step follows the orthogonal matrix nearest to its
    Nesterov momentum, so all directions on which the gradients agree have the same weight. PyTorch's own Muon supports
    only matrices. Groups marked with `kernels` have a `momentum`; a step clears their gradients.
    """

    def step(self, closure: Callable | None = None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group.get("kernels"):
                for kernel in group["params"]:
                    if kernel.grad is not None:
                        self._move(kernel, group["lr"], group["momentum"])
                        kernel.grad = None  # so that Adam skips it
        super().step()
        return loss

    @torch.no_grad()
    def _move(self, kernel: Tensor, lr: float, momentum: float) -> None:
        state = self.state[kernel]
        if not state:
            state.update(step=torch.tensor(0.0), momentum=torch.zeros_like(kernel))  # loading needs `step`, as in Adam
        state["step"] += 1
        average = state["momentum"].lerp_(kernel.grad, 1 - momentum)
        ahead = kernel.grad.lerp(average, momentum).flatten(1)  # [M, N H W]
        rows, columns = ahead.shape
        step = lr * math.sqrt(max(1, rows / columns))
        kernel.add_(orthogonalize(ahead).view(kernel.shape), alpha=-step)


def with_muon(adam: torch.optim.Adam) -> Muon:
    """Return an optimizer for the same parameters: Muon for kernels between hidden layers, the given Adam elsewhere."""
    groups = []
    for group in adam.param_groups:
        kernels = [p for p in group["params"] if p.dim() == 4 and min(p.shape[:2]) > 1]
        others = [p for p in group["params"] if not any(p is kernel for kernel in kernels)]
        settings = {name: value for name, value in group.items() if name not in ("params", "lr", "fused")}
        groups.append({**settings, "params": others, "lr": group["lr"], "peak_lr": group["lr"]})
        if kernels:
            rates = {"lr": KERNEL_LR, "peak_lr": KERNEL_LR, "momentum": 0.95}
            groups.append({**settings, **rates, "params": kernels, "kernels": True})
    return Muon(groups)


def share(step: int, steps: int) -> float:
    """Return the learning-rate factor at a step (counted from 0): linear warm-up to 1, then linear decay to 0."""
    warm_up = max(1, int(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 1 - (step - warm_up) / (steps - warm_up)


def replaced(optimizers):
    """Replace Adam with Muon, and a discriminator's SGD with Adam, in one optimizer or a list of optimizers."""
    if isinstance(optimizers, list | tuple):
        return [replaced(optimizer) for optimizer in optimizers]
    if type(optimizers) is torch.optim.SGD:
        groups = [{"params": group["params"], "lr": group["lr"]} for group in optimizers.param_groups]
        optimizers = torch.optim.Adam(groups, betas=(0.5, 0.999))
    return with_muon(optimizers)


class Fast(Callback):
    """Replaces a module's optimizers, and sets the learning rates for each step."""

    def setup(self, trainer, pl_module, stage):
        if stage == "fit":
            configure = pl_module.configure_optimizers
            pl_module.configure_optimizers = lambda: replaced(configure())

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        epoch = trainer.num_training_batches
        now = share(trainer.current_epoch * epoch + batch_idx, trainer.max_epochs * epoch)
        for optimizer in trainer.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = now * group["peak_lr"]
