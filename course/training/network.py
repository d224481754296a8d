"""Options that change a network's memory layout and execution."""

import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor


def channels_last(model: torch.nn.Module) -> torch.nn.Module:
    """Use the channels-last memory format, which makes convolutions faster.

    On CPUs, GELU is slower with this format unless its input has the shape of the memory layout, [B, H, W, C].
    """
    for module in model.to(memory_format=torch.channels_last).modules():
        if isinstance(module, torch.nn.GELU):
            module.register_forward_pre_hook(lambda _, inputs: (_moved(inputs[0], 1, -1),))
            module.register_forward_hook(lambda _, inputs, output: _moved(output, -1, 1))
    return model


def _moved(x: Tensor, source: int, destination: int) -> Tensor:
    return x.movedim(source, destination) if x.dim() == 4 and x.is_cpu else x


class ChannelsLast(Callback):
    """Implements --channels_last."""

    def setup(self, trainer, pl_module, stage):
        if stage == "fit":
            channels_last(pl_module)


class Compile(Callback):
    """Implements --compile: torch.compile, with CUDA graphs on a GPU, replacing hundreds of kernel launches per step.

    Only for training: evaluation would compile the network again, without gradients and for its smaller last batch.
    """

    def setup(self, trainer, pl_module, stage):
        if stage == "fit":
            mode = "reduce-overhead" if trainer.strategy.root_device.type == "cuda" else None
            getattr(pl_module, "model", pl_module).compile(mode=mode)

    def on_validation_start(self, trainer, pl_module):
        torch.compiler.set_stance("force_eager")

    def on_validation_end(self, trainer, pl_module):
        torch.compiler.set_stance("default")

    def on_test_start(self, trainer, pl_module):
        self.on_validation_start(trainer, pl_module)

    def on_test_end(self, trainer, pl_module):
        self.on_validation_end(trainer, pl_module)
