"""Augmentation of whole batches: random flips and shifts, and AugMix.

AugMix mixes images with chains of augmentations of themselves (Hendrycks et al. 2020, arXiv:1912.02781). Its operations
are the paper's nine, none of which is a test corruption: contrast, colour, brightness and sharpness are left out, as
there. What changes grey levels is a table per image and channel, what moves pixels one affine map per image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from robustprune.runtime.randomness import BatchGenerator, as_batch_generator

_TABLES = ("autocontrast", "equalize", "posterize", "solarize")
_MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
OPERATIONS = _TABLES + _MOVES
# Of ten: what a level of ten stands for.
_POSTERIZE_BITS, _SOLARIZE, _DEGREES, _SHEAR, _TRANSLATE = 4, 256, 30, 0.3, 1 / 3


def default_shift(image_size: int | tuple[int, int]) -> int:
    """Return the customary shift in pixels: an eighth of the shorter side (4 for 32×32, 1 for 8×8)."""
    return (image_size if isinstance(image_size, int) else min(image_size)) // 8


def augment(images: Tensor, generator: torch.Generator | BatchGenerator, *, flip: bool, shift: int) -> Tensor:
    """Return the images, each flipped left to right with probability 1/2 and shifted by whole pixels.

    The shift is uniform over -shift … shift in both directions, drawn for every image; what comes in at the
    border is zero. This is the usual "pad and crop" of CIFAR training.

    Images are (N, C, H, W) of any type, in contiguous or channels-last layout, which is kept. Flips are drawn even when
    they are not wanted, so the shifts are the same with and without them.
    """
    if not flip and shift == 0:
        return images
    count, channels, height, width = images.shape
    device = images.device
    draws = as_batch_generator(generator)
    # Draws are the processor's; to bring them to a device takes no wait for what it is doing.
    flipped = draws.rand(count, 1).to(device, non_blocking=True) < (0.5 * flip)
    offsets = draws.randint(2 * shift + 1, count, 2).to(device, non_blocking=True)
    down, right = offsets[:, :1], offsets[:, 1:]  # (N, 1) each

    columns = torch.arange(width, device=device).expand(count, width)
    columns = torch.where(flipped, columns.flip(1), columns) + right  # (N, W) of the padded image
    rows = torch.arange(height, device=device) + down  # (N, H)
    pixels = rows[:, :, None] * (width + 2 * shift) + columns[:, None, :]  # (N, H, W)

    padded = F.pad(images, (shift, shift, shift, shift)).reshape(count, channels, -1)
    chosen = padded.gather(2, pixels.view(count, 1, -1).expand(-1, channels, -1))
    # A grey batch is in both layouts at once; the plain one is then the cheaper to keep.
    is_last = not images.is_contiguous() and images.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if is_last else torch.contiguous_format
    return chosen.view(count, channels, height, width).contiguous(memory_format=layout)


def augmix(
    images: Tensor,
    generator: torch.Generator | BatchGenerator,
    *,
    severity: float = 3,
    width: int = 3,
    most_steps: int = 3,
) -> Tensor:
    """Return each image mixed with ``width`` chains of 1 … ``most_steps`` random operations on it.

    From uint8 (N, C, H, W) to float32 in [0, 1]. The chains' weights are Dirichlet(1), the share of the image itself is
    uniform (Beta(1, 1)), both per image. Operations have a level between 0.1 and ``severity``, of 10.
    """
    count, draws = len(images), as_batch_generator(generator)

    def draw(*shape: int) -> Tensor:
        return draws.rand(count, *shape)

    exponential = -torch.log1p(-draw(width))
    weights = (exponential / exponential.sum(dim=1, keepdim=True)).to(images.device, non_blocking=True)
    kept = draw(1, 1, 1).to(images.device, non_blocking=True)
    mixed = torch.zeros(images.shape, device=images.device)
    for chain in range(width):
        steps = ((draw() * most_steps).long() + 1).to(images.device, non_blocking=True)
        changed = images
        for step in range(most_steps):
            operation = (draw() * len(OPERATIONS)).long()
            level = 0.1 + (severity - 0.1) * draw()
            sign = (draw() < 0.5).float() * 2 - 1
            applied = apply_operations(changed, operation, level, sign)
            changed = torch.where((step < steps)[:, None, None, None], applied, changed)
        mixed += weights[:, chain, None, None, None] * changed.float()
    return (kept * images.float() + (1 - kept) * mixed) / 255


def apply_operations(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    """Return uint8 images (N, C, H, W), each under its own operation, a place in ``OPERATIONS`` (N,).

    Levels (N,) are 0 to 10, signs (N,) 1 or −1: which way pixels move. All three are best on the processor, which
    then knows without waiting for a device which images go which way.
    """
    result = images.clone()
    is_by_table = operation < len(_TABLES)
    for chosen, change in ((is_by_table, _look_up), (~is_by_table, _move)):
        places = chosen.nonzero().flatten()
        if len(places):
            own = [each[places].to(images.device, non_blocking=True) for each in (operation, level, sign)]
            places = places.to(images.device, non_blocking=True)
            result[places] = change(images[places], *own)
    return result


def _look_up(images: Tensor, operation: Tensor, level: Tensor, _sign: Tensor) -> Tensor:
    tables = _tables(images, operation, level)
    return tables.gather(2, images.flatten(2).long()).to(torch.uint8).view_as(images)


def _move(images: Tensor, operation: Tensor, level: Tensor, sign: Tensor) -> Tensor:
    maps = _maps(operation - len(_TABLES), level, sign, images.shape[2], images.shape[3])
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    pixels = F.grid_sample(images.float(), grid, align_corners=False)
    return pixels.round_().clamp_(0, 255).to(torch.uint8)


def _tables(images: Tensor, operation: Tensor, level: Tensor) -> Tensor:
    """Return what each grey level becomes, (N, C, 256), as Pillow computes it."""
    levels = torch.arange(256, device=images.device).expand(*images.shape[:2], 256)
    bits = _POSTERIZE_BITS - (level * _POSTERIZE_BITS / 10).long()
    posterized = levels & (256 - 2 ** (8 - bits.clamp(1)))[:, None, None]
    threshold = _SOLARIZE - (level * _SOLARIZE / 10).long()
    solarized = torch.where(levels < threshold[:, None, None], levels, 255 - levels)
    found = torch.stack([_autocontrast(images, levels), _equalize(images, levels), posterized, solarized])
    return found[operation, torch.arange(len(images), device=images.device)]


def _autocontrast(images: Tensor, levels: Tensor) -> Tensor:
    lowest, highest = (value[..., None].long() for value in torch.aminmax(images.flatten(2), dim=2))
    spread = (highest - lowest).clamp(min=1)
    stretched = ((levels - lowest) * 255).div(spread, rounding_mode="floor").clamp(0, 255)
    return torch.where(highest > lowest, stretched, levels)


def _equalize(images: Tensor, levels: Tensor) -> Tensor:
    flat = images.flatten(2).long()
    histogram = torch.zeros(levels.shape, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(2, flat, torch.ones_like(flat))
    highest = flat.amax(dim=2, keepdim=True)
    step = (flat.shape[2] - histogram.gather(2, highest)) // 255
    before = histogram.cumsum(dim=2) - histogram
    spread = (before + step // 2).div(step.clamp(min=1), rounding_mode="floor").clamp(0, 255)
    return torch.where(step > 0, spread, levels)


def _maps(operation: Tensor, level: Tensor, sign: Tensor, height: int, width: int) -> Tensor:
    """Return the affine maps (N, 2, 3) from places in the result to places in the image, on the scale −1 … 1."""
    maps = torch.zeros(len(operation), 2, 3, device=level.device)
    angle = torch.deg2rad((level * _DEGREES / 10).floor()) * sign * (operation == 0)
    shear = level * _SHEAR / 10 * sign
    pixels = (level / 10 * _TRANSLATE * min(height, width)).floor() * sign
    # A rotation is one of pixels: on the scale of −1 … 1 the sides of the image count.
    maps[:, 0, 0], maps[:, 1, 1] = angle.cos(), angle.cos()
    maps[:, 0, 1] = -angle.sin() * height / width + shear * (operation == 1) * height / width
    maps[:, 1, 0] = angle.sin() * width / height + shear * (operation == 2) * width / height
    maps[:, 0, 2] = 2 * pixels / width * (operation == 3)
    maps[:, 1, 2] = 2 * pixels / height * (operation == 4)
    return maps
