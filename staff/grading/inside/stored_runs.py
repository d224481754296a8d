"""Read the checkpoints and event files of submitted runs, inside the submission's process."""

import torch
from torch import Tensor, nn

COMPILED = "_orig_mod."  # the prefix that torch.compile adds to parameter names


def _stored(path: str, network: type[nn.Module], flags: dict[str, float]) -> nn.Module:
    """Load the network from a checkpoint, in evaluation mode. Only numbers, strings and tensors are unpickled.

    Args:
        flags: the arguments for the network, used if the checkpoint has no hyperparameters.
    """
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    model = network(**(checkpoint.get("hyper_parameters") or flags))
    state = {name.replace(COMPILED, ""): value for name, value in checkpoint["state_dict"].items()}
    model.load_state_dict(state, strict=True)
    return model.eval()


def _stored_vae(path: str, flags: dict[str, float]) -> nn.Module:
    from part1_vae.train import VAE

    return _stored(path, VAE, flags)


def _stored_aae(path: str, flags: dict[str, float]) -> nn.Module:
    from part2_aae.train import LitAAE

    return _stored(path, LitAAE, flags).model


@torch.no_grad()
def vae_encode(path: str, flags: dict[str, float], imgs: Tensor) -> tuple[Tensor, Tensor]:
    """Encode images with pixels 0..15 [B, 1, 28, 28] with a checkpoint's VAE -> mean and log_std, each [B, D]."""
    mean, log_std = _stored_vae(path, flags).encoder(imgs)
    return mean, log_std


@torch.no_grad()
def vae_decode(path: str, flags: dict[str, float], z: Tensor) -> Tensor:
    """Decode codes [B, D] with a checkpoint's VAE -> logits [B, 16, 28, 28]."""
    return _stored_vae(path, flags).decoder(z)


@torch.no_grad()
def aae_encode(path: str, flags: dict[str, float], imgs: Tensor) -> Tensor:
    """Encode images in -1..1 [B, 1, 28, 28] with a checkpoint's autoencoder -> codes [B, D]."""
    return _stored_aae(path, flags).encoder(imgs)


@torch.no_grad()
def aae_decode(path: str, flags: dict[str, float], z: Tensor) -> Tensor:
    """Decode codes [B, D] with a checkpoint's autoencoder -> images [B, 1, 28, 28]."""
    return _stored_aae(path, flags).decoder(z)


def event_curves(paths: list[str], most_tags: int = 200, most_points: int = 20_000) -> dict[str, tuple[Tensor, Tensor]]:
    """Read the scalars in event files -> tag: steps (int64 [N]) and values (float64 [N]), in the order written.

    Args:
        paths: the files of one run, in the order written.
        most_tags, most_points: the maximum number of tags, and of points per tag; the rest is left out.
    """
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    curves: dict[str, list[tuple[int, float]]] = {}
    for path in paths:
        for event in LegacyEventFileLoader(path).Load():
            for value in event.summary.value:
                if value.WhichOneof("value") != "simple_value":
                    continue
                if value.tag in curves or len(curves) < most_tags:
                    points = curves.setdefault(value.tag, [])
                    points += [(event.step, value.simple_value)] * (len(points) < most_points)
    return {
        tag[:200]: (torch.tensor([step for step, _ in points]), torch.tensor([y for _, y in points]).double())
        for tag, points in curves.items()
    }
