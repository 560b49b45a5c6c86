"""Memory of a network: its weights, and what its activations take in training and at inference.

Activations are counted as tensors that exist, not estimated from shapes of layers. In training they are what
autograd saves for the backward pass; at inference, the most that is alive at any moment. A storage counts once,
however many views share it; scratch memory within an operation, gradients and the optimizer's state do not count.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from robustprune.cost.counts import noise_images, percent_saved
from robustprune.errors import ModelError
from robustprune.models import as_network, copy_network, network_name, run_uncompiled, to_evaluation
from robustprune.runtime.arrays import Array
from robustprune.runtime.free_memory import saved_bytes, storages
from robustprune.runtime.randomness import isolated_generators

_PROBES = (2, 3, 4)  # images; not one, which batch normalization cannot train on


@dataclass(frozen=True)
class Memory:
    """Memory in bytes.

    Attributes:
        batch_size: Images per batch; the activations are for so many.
        parameters: Trainable and frozen parameters.
        buffers: Running statistics and other constants.
        activations: What autograd saves between the images and the logits for the backward pass of a training
            step, without parameters and buffers.
        inference_activations: The most that is alive at once in a forward pass without gradients, the images
            among it, without parameters and buffers.
    """

    batch_size: int
    parameters: int
    buffers: int
    activations: int
    inference_activations: int

    @property
    def training(self) -> int:
        """Parameters, buffers and activations in training."""
        return self.parameters + self.buffers + self.activations

    @property
    def inference(self) -> int:
        """Parameters, buffers and activations at inference."""
        return self.parameters + self.buffers + self.inference_activations

    def to_dict(self) -> dict[str, int]:
        """Return all by name."""
        return asdict(self)

    def saved_percent(self, dense: Memory) -> dict[str, float]:
        """Return how much less this is than ``dense``: in training (``memory``), its activations, at inference."""
        return {
            "memory": percent_saved(self.training, dense.training),
            "activations": percent_saved(self.activations, dense.activations),
            "inference_memory": percent_saved(self.inference, dense.inference),
        }


def measure_memory(model: nn.Module, batch_size: int = 128, example: Array | None = None) -> Memory:
    """Measure the memory of a network; it is left as it was.

    Activations are measured on two, three and four images. Where they grow evenly, as in every network that
    handles images alike, the line is followed to ``batch_size``; where not, so many images are sent through.

    Args:
        model: A network, measured on the CPU.
        batch_size: Images per batch.
        example: Images (N, …) whose shape is taken, for a network that was not built by this package.

    Raises:
        ModelError: The network does not run on such images.
    """
    if batch_size < 1:
        raise ModelError(f"memory is that of at least 1 image per batch, got batch_size {batch_size}")

    def at(measure: Callable[[nn.Module, Tensor], int], network: nn.Module) -> int:
        return _at_size(lambda count: measure(network, noise_images(model, count, example)), batch_size)

    try:
        with torch.inference_mode(False), isolated_generators(0):
            network = copy_network(as_network(model)).cpu()
            with run_uncompiled(network):
                for parameter in network.parameters():
                    if parameter.is_floating_point():
                        parameter.requires_grad_(True)
                activations, at_inference = at(_saved_bytes, network), at(_peak_bytes, network)
    except ModelError:  # it does not say what images it takes
        raise
    except Exception as error:
        raise ModelError(f"the memory of this {network_name(model)} cannot be measured: {error}") from error
    return Memory(
        batch_size=batch_size,
        parameters=_storage_bytes(network.parameters()),
        buffers=_storage_bytes(network.buffers()),
        activations=activations,
        inference_activations=at_inference,
    )


def _at_size(measure: Callable[[int], int], batch_size: int) -> int:
    first, middle, last = (measure(count) for count in _PROBES)
    if last - middle == middle - first:
        return first + (batch_size - _PROBES[0]) * (middle - first)
    return measure(batch_size)


def _saved_bytes(network: nn.Module, images: Tensor) -> int:
    """Return the bytes that autograd saves in a forward pass in training mode."""
    network.train()
    return saved_bytes(lambda: network(images), (*network.parameters(), *network.buffers()))


def _peak_bytes(network: nn.Module, images: Tensor) -> int:
    """Return the most bytes alive at once in a forward pass in evaluation mode."""
    live = _LiveStorages(storages((*network.parameters(), *network.buffers())))
    live.add(images)
    to_evaluation(network)
    with torch.no_grad(), live:
        network(images)
    return live.peak


class _LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the storages that operations return until they are freed."""

    def __init__(self, constants: Iterable[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = set(constants)
        self._now = self.peak = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Nothing is compiled here, and keeping the compiler off would begin with a second of importing it.
        return False

    def add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self._now += size
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size

    def __torch_dispatch__(
        self, operation: Any, _types: Any, arguments: tuple[Any, ...] = (), keywords: Mapping[str, Any] | None = None
    ) -> Any:
        outputs = operation(*arguments, **(keywords or {}))
        for output in tree_leaves(outputs):
            if isinstance(output, Tensor):
                self.add(output)
        return outputs


def _storage_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(storages(tensors).values())
