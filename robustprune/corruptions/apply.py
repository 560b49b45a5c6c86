"""Any corruption over any number of images, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from robustprune.corruptions.image_randomness import ImageRandomness, image_keys
from robustprune.corruptions.registry import SEVERITIES, corruption_options, get_corruption, named_options
from robustprune.corruptions.requests import Corruptions
from robustprune.errors import CorruptionError, RobustPruneError
from robustprune.registry import share_options
from robustprune.runtime.arrays import Array, to_numpy

# Elements worked on at once: enough to make the cost of a call small, few enough for the caches.
_CHUNK_ELEMENTS = 1 << 17
_SMALLEST_SIDE = 8


def corrupt(
    images: Array,
    name: str,
    severity: float,
    *,
    seed: int = 0,
    sample_ids: Sequence[int] | Array | None = None,
    **options: Any,
) -> Tensor:
    """Return the images under one corruption, with the constants of CIFAR-10-C.

    An image comes out the same for the same seed, corruption, severity and sample id, in any batch, order and
    process. Lengths in pixels are multiplied by `geometry_scale` of the image size.

    Args:
        images: uint8 (N, C, H, W), grey or colour, at least 8 pixels a side.
        name: Name of the corruption; `robustprune.corruptions.CORRUPTIONS` has them all.
        severity: 1 to 5, of any type of number.
        seed: Keys the random draws, together with name, severity and sample id.
        sample_ids: (N,) integers that say which image is which, so that a subset comes out as it would within
            the whole; 0…N−1 by default.
        **options: Those of the corruption, such as ``folder`` of frost; see `corruption_options`.

    Returns:
        uint8 (N, C, H, W), a new tensor on the device of the images (the work is done on the CPU).

    Raises:
        CorruptionError: Images of another type or shape, a severity that is not 1 to 5, unknown options, or a
            corruption of somebody's that fails.
        UnknownNameError: There is no corruption of that name.
    """
    corruption = get_corruption(name)
    share_options({name: corruption_options(name)}, options, CorruptionError)
    severity = _severity(severity)
    pixels = _pixels(images)
    keys = image_keys(seed, name, severity, _ids(sample_ids, len(pixels)))
    size = max(1, _CHUNK_ELEMENTS // int(np.prod(pixels.shape[1:])))
    result = np.empty_like(pixels)

    def work(start: int) -> None:
        part = slice(start, start + size)
        # A copy, as the pixels may be the caller's own and a corruption of somebody's may write into what it is given.
        given = pixels[part].copy(), severity, ImageRandomness(keys[part])
        result[part] = _run(name, lambda: corruption(*given, **options), given[0].shape)

    _in_parallel(work, range(0, len(pixels), size))
    tensor = torch.from_numpy(result)
    return tensor.to(images.device) if isinstance(images, Tensor) else tensor


def share_corruption_options(asked: Corruptions, images: Array) -> dict[str, dict[str, Any]]:
    """Return the corruptions asked for, each with those of the options that it takes, tried out on the first image.

    What does not work, such as a folder that is not there, is so found out before hours of work and not within.

    Raises:
        CorruptionError: Something is no name, an option that none of them takes, or a value that does not do.
        UnknownNameError: There is no corruption of a name.
    """
    found = options_of(asked)
    for name, own in found.items():
        if own:
            corrupt(images[:1], name, SEVERITIES[0], **own)
    return found


def options_of(asked: Corruptions) -> dict[str, dict[str, Any]]:
    """Return the corruptions asked for, each with its own options and those of all that it takes.

    Raises:
        CorruptionError: Something is no name, or an option that a corruption, or none of them, takes.
        UnknownNameError: There is no corruption of a name.
    """
    named = named_options(asked.names)
    takes = {name: corruption_options(name) for name in named}
    for name, own in named.items():
        share_options({name: takes[name]}, own, CorruptionError)
    shared = share_options(takes, asked.options, CorruptionError)
    return {name: shared[name] | own for name, own in named.items()}


def _in_parallel(work: Callable[[int], None], starts: Sequence[int]) -> None:
    """Call ``work`` with each start, on as many threads as torch has been given.

    Within one of them torch computes alone: threads that each start threads of their own wait for each other.
    """
    before = torch.get_num_threads()
    threads = min(before, len(starts))
    if threads < 2:
        list(map(work, starts))
        return
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        list(pool.map(work, starts))
    finally:
        pool.shutdown(cancel_futures=True)
        # A thread that sets its own number also sets the one that threads to come begin with.
        torch.set_num_threads(before)


def _severity(given: Any) -> int:
    """Return a severity as an integer: 2.0 and NumPy's 2 are the same one."""
    if isinstance(given, Real) and not isinstance(given, bool) and given in SEVERITIES:
        return int(given)  # type: ignore[call-overload,no-any-return]
    raise CorruptionError(f"a severity is 1, 2, 3, 4 or 5, got {given!r}")


def _pixels(images: Array) -> NDArray[np.uint8]:
    array = to_numpy(images, "images", CorruptionError)
    if array.dtype != np.uint8:
        raise CorruptionError(f"images to corrupt must be uint8, 0 to 255, got {array.dtype}")
    if array.ndim != 4 or array.shape[1] not in (1, 3) or min(array.shape[2:]) < _SMALLEST_SIDE:
        raise CorruptionError(
            f"images to corrupt have shape (N, C, H, W) with C of 1 or 3 and sides of at least {_SMALLEST_SIDE}, "
            f"got {tuple(array.shape)}"
        )
    return np.ascontiguousarray(array)


def _ids(sample_ids: Sequence[int] | Array | None, count: int) -> NDArray[np.int64]:
    if sample_ids is None:
        return np.arange(count)
    ids = to_numpy(sample_ids, "sample ids", CorruptionError)
    if ids.shape != (count,) or (count and ids.dtype.kind not in "iu"):
        raise CorruptionError(f"sample ids are one integer per image; got {ids.dtype} {ids.shape} for {count} images")
    return ids.astype(np.int64)


def _run(name: str, corruption: Callable[[], Any], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return what a corruption, which may be somebody's own, makes of images of a shape."""
    try:
        found: NDArray[np.uint8] = np.asarray(corruption())
    except RobustPruneError:
        raise
    except Exception as error:
        raise CorruptionError(
            f"the corruption {name!r} failed: {type(error).__name__}: {error}; leave it out, or mend it if it is yours"
        ) from error
    if found.dtype != np.uint8 or found.shape != shape:
        raise CorruptionError(
            f"the corruption {name!r} made {found.dtype} of shape {found.shape} from uint8 of shape {shape}; "
            "a corruption returns images of the type and shape it was given"
        )
    return found
