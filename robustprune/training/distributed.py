"""One network trained by several processes: averaged gradients, and what becomes of batch statistics."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from robustprune.errors import TrainingError
from robustprune.models import evaluation_mode, run_model, to_unit_range
from robustprune.runtime.kernels import sound_gradients
from robustprune.runtime.process_group import SINGLE, ProcessGroup, exchanging


def describe_processes(network: nn.Module, processes: ProcessGroup, device: torch.device) -> dict[str, Any]:
    """Return what several processes make of a training, for its identity and its record; nothing for one.

    ``processes`` is their number. ``batch_statistics`` are those of batch normalization in training: ``none`` where
    the network has no such layer, ``per process`` on processors (each normalizes its own share of a batch, and running
    statistics are averaged after every epoch), ``synchronized`` on GPUs (those of the whole batch).
    """
    if processes.is_single:
        return {}
    normalizes = any(isinstance(module, _BatchNorm) for module in network.modules())
    kind = "synchronized" if device.type == "cuda" else "per process"
    return {"processes": processes.count, "batch_statistics": kind if normalizes else "none"}


def check_batch(batch: int, processes: ProcessGroup) -> None:
    """Check that every process gets some of a batch.

    Raises:
        TrainingError: One would get fewer than two images, of which there are no batch statistics.
    """
    if not processes.is_single and batch < 2 * processes.count:
        raise TrainingError(
            f"a batch of {batch} images is too small for {processes.count} processes, each of which needs two at "
            f"least; give --batch-size {2 * processes.count} or more, or start fewer processes"
        )


class SharedNetwork:
    """A network whose gradients are those of all processes together.

    Attributes:
        trained: What training passes go through: the network, or the wrapper that averages its gradients.
    """

    def __init__(
        self,
        network: nn.Module,
        processes: ProcessGroup = SINGLE,
        example: Tensor | None = None,
        *,
        compiled: bool = False,
    ) -> None:
        """Share a network, on its device, which takes the weights and buffers that it has in the main process.

        Several processes need an example (n, C, H, W) uint8: a few images on that device. ``compiled`` has
        ``torch.compile`` run training passes, from the first on.
        """
        self.network, self.processes = network, processes
        self.trained: nn.Module = network
        self._own: dict[str, nn.Module] = {}
        if not processes.is_single:
            assert example is not None
            self._distribute(example)
        if compiled:
            self.trained = cast(nn.Module, torch.compile(self.trained))

    def _distribute(self, example: Tensor) -> None:
        options: dict[str, Any] = {"find_unused_parameters": _leaves_out_parameters(self.network, example)}
        # Running statistics are not the main process's alone, see `even_out`; torch renamed the option.
        known = inspect.signature(DistributedDataParallel).parameters
        options["forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"] = False
        if example.device.type == "cuda":
            self._synchronize_statistics()
            options["device_ids"] = [torch.cuda.current_device()]
        with exchanging():
            self.trained = DistributedDataParallel(self.network, **options)

    def _synchronize_statistics(self) -> None:
        """Let batch normalization see the whole batch; `undo` puts the layers back, which share all tensors."""
        # Unlike torch's own, timm's keeps the activations that its layers have built in. None are there unless it is.
        timm = sys.modules.get("timm.layers")
        convert = nn.SyncBatchNorm.convert_sync_batchnorm if timm is None else timm.convert_sync_batchnorm
        self._own = {name: module for name, module in self.network.named_modules() if isinstance(module, _BatchNorm)}
        convert(self.network)

    def undo(self) -> None:
        """Give the network the layers back that it came with, and let go of what was compiled."""
        if hasattr(self.trained, "_orig_mod"):
            torch.compiler.reset()  # torch compiles few networks of one class, and then runs others as they are
        for name, module in self._own.items():
            module.training = self.network.get_submodule(name).training
            parent, _, child = name.rpartition(".")
            setattr(self.network.get_submodule(parent), child, module)
        self.trained, self._own = self.network, {}

    @contextmanager
    def exchanging(self) -> Iterator[None]:
        """Run a backward pass, in which gradients are averaged over the processes."""
        if self.processes.is_single:
            yield
            return
        with exchanging(), warnings.catch_warnings():
            # It costs a copy, and how a 1×1 convolution lies in memory is not a user's concern.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            yield

    def even_out(self) -> None:
        """Average the running statistics of batch normalization; other buffers become the main process's."""
        if self.processes.is_single:
            return
        averaged = {
            id(value)
            for module in self.network.modules()
            if isinstance(module, _BatchNorm)
            for value in (module.running_mean, module.running_var)
            if value is not None
        }
        with exchanging(), torch.no_grad():
            for buffer in self.network.buffers():
                if id(buffer) in averaged:
                    distributed.all_reduce(buffer)
                    buffer /= self.processes.count
                else:
                    distributed.broadcast(buffer, src=0)


def _leaves_out_parameters(network: nn.Module, images: Tensor) -> bool:
    """Return whether some parameters do not enter the logits, so that gradients of them are not to be waited for."""
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    with evaluation_mode(network), torch.enable_grad(), sound_gradients(network):
        logits = run_model(network, to_unit_range(images))
        return any(found is None for found in torch.autograd.grad(logits.sum(), parameters, allow_unused=True))
