"""Small networks that replace blanks, and helpers that the adapters share."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn


def replayed(function: Callable, *arguments) -> list:
    """Call a function on each argument, with the same noise each time; return the results."""
    seed, results = int(torch.randint(2**31, ())), []
    for argument in arguments:
        torch.default_generator.manual_seed(seed)
        np.random.seed(seed)
        results.append(function(argument))
    return results


def gradient_of(x: Tensor) -> Tensor:
    """Return the gradient that reached x, or zeros if none did."""
    return torch.zeros_like(x) if x.grad is None else x.grad


class Replacing(nn.Module):
    """A network that replaces another one and takes any missing attributes, such as z_dim, from it."""

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "replaced" not in vars(self):
                raise
            return getattr(vars(self)["replaced"][0], name)


def replace(model: nn.Module, **networks: Replacing) -> None:
    """Replace the model's networks with these names by the given ones."""
    for name, network in networks.items():
        vars(network)["replaced"] = (getattr(model, name),)  # in a tuple, so that it is not part of the model
        setattr(model, name, network)


class StandIn(Replacing):
    """A linear network that records the codes that it receives, if its inputs are codes."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None):
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.bias = None if bias is None else nn.Parameter(bias.clone())
        self.seen: list[Tensor] = []

    @property
    def device(self) -> torch.device:
        return self.weight.device

    def see(self, z: Tensor) -> None:
        """Record the codes z.

        Raises:
            RuntimeError: the codes are on another device.
        """
        if z.device != self.device:
            raise RuntimeError(f"z is on the device {z.device} {ELSEWHERE} {self.device}")
        self.seen.append(z.detach().clone())


def _never_failing(init: Callable) -> Callable:
    """Return a constructor that only stores its arguments, as attributes, if it fails to build the layers."""

    def __init__(self, *args, **kwargs) -> None:
        try:
            init(self, *args, **kwargs)
        except Exception:
            nn.Module.__init__(self)
            self.nothing = nn.Parameter(torch.zeros(()))
            given = inspect.signature(init).bind_partial(self, *args, **kwargs)
            given.apply_defaults()
            vars(self).update(list(given.arguments.items())[1:])

    return __init__


@contextmanager
def to_be_replaced(*networks: type[nn.Module]) -> Iterator[None]:
    """Allow unfinished networks to be built in this context; stand-ins will replace them."""
    with ExitStack() as stack:
        for network in networks:
            stack.enter_context(mock.patch.object(network, "__init__", _never_failing(network.__init__)))
        yield


class LinearDecoder(StandIn):
    """A decoder whose logits are linear in z: weight [L, H, W, D], bias [L, H, W]. Records its inputs."""

    def forward(self, z: Tensor) -> Tensor:
        self.see(z)
        return torch.einsum("lhwd,bd->blhw", self.weight, z) + self.bias


class RowDecoder(StandIn):
    """A decoder that returns weight[i % N] for image i, regardless of z; counts across calls. Records its inputs."""

    def forward(self, z: Tensor) -> Tensor:
        first = sum(map(len, self.seen))
        self.see(z)
        return self.weight[torch.arange(first, first + len(z)) % len(self.weight)]


class FixedEncoder(Replacing):
    """An encoder that always returns the same mean and log_std."""

    def __init__(self, mean: Tensor, log_std: Tensor):
        super().__init__()
        self.answer = (mean, log_std)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.answer


class LinearEncoder(StandIn):
    """An encoder whose codes are linear in the image: weight [D, 784]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T


class LinearDiscriminator(StandIn):
    """A discriminator whose logit is linear in the code: weight [D], bias []. Records its inputs."""

    def forward(self, z: Tensor) -> Tensor:
        self.see(z)
        return (z @ self.weight + self.bias)[:, None]


class TableDiscriminator(StandIn):
    """A discriminator that knows some codes [B, D]: their logits are weight [B]; other codes get bias []."""

    def __init__(self, codes: Tensor, weight: Tensor, bias: Tensor):
        super().__init__(weight, bias)
        self.codes = codes

    def forward(self, z: Tensor) -> Tensor:
        self.see(z)
        same = (z[:, None] == self.codes).all(dim=2)  # [N, B]
        return torch.where(same.any(dim=1), self.weight[same.float().argmax(dim=1)], self.bias)[:, None]


@torch.no_grad()
def perturbed(network: nn.Module) -> nn.Module:
    """Perturb the parameters, as training would, because layers may be initialized with zeros."""
    for parameter in network.parameters():
        parameter.add_(torch.empty_like(parameter).normal_(std=0.03))
    return network


def gradient_sizes(module: nn.Module, loss: Tensor, *inputs: Tensor) -> dict[str, float]:
    """Return, by parameter name, the sum of the absolute values of the loss's gradient; 0 without a gradient.

    The key "" holds the number of tensors that get a gradient but are neither the module's parameters nor the inputs.
    """
    known = {id(x) for x in (*module.parameters(), *inputs)}
    unknown = {id(x) for x in leaves(loss)} - known
    loss.backward()
    sizes = {name: float(gradient_of(parameter).abs().sum()) for name, parameter in module.named_parameters()}
    return sizes | {"": float(len(unknown))}


def leaves(loss: Tensor) -> list[Tensor]:
    """Return the tensors that get a gradient in a backward pass."""
    nodes, seen, found = [loss.grad_fn], set(), []
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        found += [node.variable] if hasattr(node, "variable") else []
        nodes += [following for following, _ in node.next_functions]
    return found


def has_convolution(network: nn.Module) -> bool:
    """Return whether one of the parameters is the weight of a two-dimensional convolution."""
    return any(parameter.dim() == 4 for parameter in network.parameters())


@contextmanager
def left_alone(model: nn.Module | None = None, **inputs: Tensor) -> Iterator[None]:
    """Check that the inputs are not changed in place, and that the model keeps its mode."""
    before, training = {name: x.clone() for name, x in inputs.items()}, model is None or model.training
    yield
    for name, x in inputs.items():
        if not torch.equal(x.nan_to_num(), before[name].nan_to_num()):
            raise RuntimeError(f"{name} is changed in place, but the caller still needs it")
    if model is not None and model.training != training:
        raise RuntimeError(f"the mode was changed: model.training was {training}, but is now {model.training}")


def on_another_device(function: Callable[[], object]) -> None:
    """Run a function on the meta device, where tensors have no data; ignore all errors but those about mixed devices.

    Raises:
        RuntimeError: the function combines tensors on two devices.
    """
    try:
        function()
    except Exception as error:
        if any(words in str(error) for words in ("is not on the expected device", ELSEWHERE)):
            raise


ELSEWHERE = "while the network is on"


def as_numbers(logs: dict) -> dict[str, float]:
    """Convert logged values (numbers or tensors) to floats; a tensor still attached to its graph becomes NaN."""
    return {
        key: float("nan") if getattr(value, "requires_grad", False) else float(value) for key, value in logs.items()
    }


def sample_several_times(model: nn.Module, batch_size: int, calls: int) -> tuple[list[Tensor], list[Tensor]]:
    """Call sample() of a model whose decoder records its inputs -> the samples, and the decoder's inputs z."""
    samples, latents = [], []
    for _ in range(calls):
        model.decoder.seen.clear()
        samples.append(model.sample(batch_size).detach())
        latents.append(torch.cat(model.decoder.seen))
    return samples, latents
