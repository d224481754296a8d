"""Part 2: the training of the adversarial autoencoder, observed through Lightning's Trainer."""

import logging
import warnings

import torch
from torch import Tensor, nn

from adapters.stand_ins import (
    LinearDecoder,
    LinearDiscriminator,
    LinearEncoder,
    as_numbers,
    gradient_of,
    replace,
    to_be_replaced,
)  # fmt: skip


def run_aae_training(x: Tensor, lambda_: float, ae_lr: float, d_lr: float, weights: dict[str, Tensor]) -> list[dict]:
    """Train linear networks on the batches x [batches, B, 1, 28, 28], with Lightning's Trainer.

    The weights are reset before each batch, so that its steps do not depend on earlier batches.

    Args:
        weights: "encoder.weight" [D, 784], "decoder.weight" [1, 28, 28, D], "decoder.bias" [1, 28, 28],
            "discriminator.weight" [D], "discriminator.bias" [].

    Returns, for each batch, steps: the optimizers' steps, in order (class, lr, weight_decay, betas or None, amsgrad,
    maximize; before and after: the weights; gradients: of the parameters that the optimizer trains); seen: the codes
    that the discriminator received; logged: the values that the training step logged; training: whether all modules
    are in training mode afterwards.
    """
    import pytorch_lightning as pl
    from pytorch_lightning.callbacks import LambdaCallback

    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    lit = _linear_aae(lambda_, ae_lr, d_lr, weights)
    recorder = _Recorder(lit.model, weights)
    watch = LambdaCallback(
        on_train_start=recorder.on_train_start,
        on_train_batch_start=recorder.on_train_batch_start,
        on_train_batch_end=recorder.on_train_batch_end,
    )
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, callbacks=[watch],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    batches = [(batch, torch.zeros(len(batch), dtype=torch.int64)) for batch in x]
    trainer.fit(lit, torch.utils.data.DataLoader(batches, batch_size=None))
    return recorder.batches


def _linear_aae(lambda_: float, ae_lr: float, d_lr: float, weights: dict[str, Tensor]) -> nn.Module:
    """Return the submission's LitAAE with linear networks."""
    from part2_aae.models import ConvDecoder, ConvEncoder, Discriminator
    from part2_aae.train import LitAAE

    with to_be_replaced(ConvEncoder, ConvDecoder, Discriminator):
        lit = LitAAE(z_dim=len(weights["encoder.weight"]), lambda_=lambda_, ae_lr=ae_lr, d_lr=d_lr)
    replace(
        lit.model,
        encoder=LinearEncoder(weights["encoder.weight"]),
        decoder=LinearDecoder(weights["decoder.weight"], weights["decoder.bias"]),
        discriminator=LinearDiscriminator(weights["discriminator.weight"], weights["discriminator.bias"]),
    )
    return lit


class _Recorder:
    """Records how each batch and each optimizer step changes the parameters, which start from these weights."""

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]):
        self.seen = model.discriminator.seen
        self.no_codes = torch.zeros(0, len(model.encoder.weight))
        self.weights, self.parameters = weights, {name: model.get_parameter(name) for name in weights}
        self.batches: list[dict] = []

    def values(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.parameters.items()}

    def before_step(self, optimizer, *_) -> None:
        group = optimizer.param_groups[0]
        step = {"class": type(optimizer).__name__, "lr": group["lr"], "betas": group.get("betas")}
        step |= {"weight_decay": group["weight_decay"], "before": self.values()}
        step |= {name: group.get(name, False) for name in ("amsgrad", "maximize")}
        self.batches[-1]["steps"].append(step)

    def after_step(self, optimizer, *_) -> None:
        trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        # gradients are not read before the step, because a closure may compute them during the step
        gradients = {name: gradient_of(p).clone() for name, p in self.parameters.items() if id(p) in trained}
        self.batches[-1]["steps"][-1].update(gradients=gradients, after=self.values())

    def on_train_start(self, trainer, pl_module) -> None:
        for optimizer in trainer.optimizers:
            optimizer.register_step_pre_hook(self.before_step)
            optimizer.register_step_post_hook(self.after_step)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.seen.clear()
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.weights[name])
        self.batches.append({"steps": []})

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        metrics = trainer.callback_metrics.items()
        logged = {tag[len("train/") : -len("_step")]: value for tag, value in metrics if tag.endswith("_step")}
        seen = torch.cat(self.seen) if self.seen else self.no_codes
        training = all(module.training for module in pl_module.modules())
        self.batches[-1].update(logged=as_numbers(logged), seen=seen, training=training)
