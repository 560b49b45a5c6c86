"""Small transformers of every writing, from scratch, for 3×32×32 images of three classes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from support import shaken
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from robustprune.models.libraries import import_quietly

WIDTH, HIDDEN, HEADS = 32, 48, 2


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        queries, keys, values = self.qkv(tokens).chunk(3, dim=-1)
        return self.out((queries @ keys.mT / WIDTH**0.5).softmax(dim=-1) @ values)


class Mlp(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(WIDTH, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, WIDTH))


class PreNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = nn.LayerNorm(WIDTH), Attention(), nn.LayerNorm(WIDTH), Mlp()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class BranchNorm(PreNorm):
    """The normalization behind the branch, as in Swin v2."""

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.norm1(self.attn(tokens))
        return tokens + self.norm2(self.mlp(tokens))


class InBlock(PreNorm):
    """Layers of the branches that the block calls itself; attention returns its weights, too."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.mlp = nn.Identity()
        self.first, self.second = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        given = self.norm1(tokens)
        attended, _weights = self.attn(given, given, given)
        tokens = tokens + attended
        return tokens + self.second(nn.functional.gelu(self.first(self.norm2(tokens))))


class Parallel(PreNorm):
    """Both branches of one normalization, as in ViT-22B."""

    def forward(self, tokens: Tensor) -> Tensor:
        given = self.norm1(tokens)
        return tokens + self.attn(given) + self.mlp(given)


class Transformer(nn.Module):
    """For images of 4 × 4 patches."""

    def __init__(
        self,
        block: Callable[[], nn.Module] = PreNorm,
        depth: int = 3,
        num_classes: int = 3,
        channels: int = 3,
        patch: int = 8,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, WIDTH, patch, stride=patch)
        self.positions = nn.Parameter(torch.zeros(16, WIDTH))
        self.blocks = nn.Sequential(*(block() for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).mT + self.positions
        return self.head(self.norm(self.blocks(tokens)).mean(dim=1))


class Added(nn.Module):
    """A whole network whose root adds what normalization and layer return together, as in vit-pytorch."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, WIDTH, 8, stride=8), nn.Linear(WIDTH, 3)
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.Sequential(nn.LayerNorm(WIDTH), part()) for part in (Attention, Mlp)) for _ in range(3)
        )

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).mT
        for attend, transform in self.layers:
            tokens = attend(tokens) + tokens
            tokens = transform(tokens) + tokens
        return self.head(tokens.mean(dim=1))


def torchvision_vit() -> nn.Module:
    sizes = {"num_heads": HEADS, "hidden_dim": WIDTH, "mlp_dim": HIDDEN}
    return VisionTransformer(image_size=32, patch_size=8, num_layers=3, num_classes=3, **sizes)


def timm_vit(**options: float) -> nn.Module:
    timm = import_quietly("timm", "this test")
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": WIDTH, "depth": 3, "num_heads": HEADS}
    return timm.models.VisionTransformer(**sizes, mlp_ratio=HIDDEN / WIDTH, num_classes=3, **options)


# Network, and by unit the modules by whose output it is silenced, `{}` being the number of the block.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], dict[str, str]]] = {
    "torchvision": (
        torchvision_vit,
        {
            "attention": "encoder.layers.encoder_layer_{}.self_attention",
            "mlp": "encoder.layers.encoder_layer_{}.mlp",
        },
    ),
    "timm:vit": (timm_vit, {"attention": "blocks.{}.attn", "mlp": "blocks.{}.mlp"}),
    "timm:layer-scale": (
        lambda: timm_vit(init_values=0.5),
        {"attention": "blocks.{}.ls1", "mlp": "blocks.{}.ls2"},
    ),
    "own": (Transformer, {"attention": "blocks.{}.attn", "mlp": "blocks.{}.mlp"}),
    "branch-norm": (lambda: Transformer(BranchNorm), {"attention": "blocks.{}.norm1", "mlp": "blocks.{}.norm2"}),
    "in-block": (lambda: Transformer(InBlock), {"attention": "blocks.{}.attn", "mlp": "blocks.{}.second"}),
    "added": (Added, {"attention": "layers.{}.0", "mlp": "layers.{}.1"}),
}


def transformer(name: str) -> nn.Module:
    torch.manual_seed(0)
    return shaken(NETWORKS[name][0]()).eval()
