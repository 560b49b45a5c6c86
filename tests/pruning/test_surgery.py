"""Removal against an independent silencing: the last layers of each branch set to zero by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from support import Shape, shaken
from torch import nn

from robustprune.errors import PruningError
from robustprune.models import build_model
from robustprune.pruning import RemovedBlock, find_blocks, remove_blocks

ATTENTION = ("self_attention.out_proj", "mlp.3")


def silence(*layers: str) -> Callable[[nn.Module], None]:
    def apply(block: nn.Module) -> None:
        for layer in layers:
            for parameter in block.get_submodule(layer).parameters():
                parameter.detach().zero_()

    return apply


def silence_layer_scale(block: nn.Module) -> None:
    block.layer_scale.detach().zero_()


def last_norm(block: nn.Module) -> None:
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    norms[-1].weight.detach().zero_()
    norms[-1].bias.detach().zero_()


CASES = [
    ("resnet32", 32, silence("bn2")),
    ("torchvision:resnet18", 32, silence("bn2")),
    ("torchvision:resnet50", 32, silence("bn3")),
    ("torchvision:convnext_tiny", 32, silence_layer_scale),
    ("torchvision:mobilenet_v2", 32, last_norm),
    ("torchvision:vit_b_16", 32, silence(*ATTENTION)),
    ("wrn-16-4", 16, silence("conv2")),
    ("timm:resnetv2_50", 32, silence("conv3")),
    ("timm:nfnet_f0", 32, silence("conv3")),
    ("timm:convnext_atto", 32, silence("mlp.fc2")),
    ("timm:efficientnet_b0", 32, last_norm),
    ("timm:fastvit_t8", 32, silence("token_mixer.layer_scale", "mlp.fc2")),
    ("timm:vit_tiny_patch16_224", 32, silence("attn.proj", "mlp.fc2")),
    ("timm:swin_tiny_patch4_window7_224", 32, silence("attn.proj", "mlp.fc2")),
    ("timm:cait_xxs24_224", 32, silence("attn.proj", "mlp.fc2")),
    ("timm:mixer_s32_224", 32, silence("mlp_tokens.fc2", "mlp_channels.fc2")),
    ("timm:gmlp_s16_224", 32, silence("mlp_channels.fc2")),
    ("timm:tnt_s_patch16_224", 32, silence("attn_in.proj", "mlp_in.fc2", "proj", "attn_out.proj", "mlp.fc2")),
    ("timm:mvitv2_tiny", 32, silence("attn.proj", "mlp.fc2")),
    ("timm:repvit_m0_9", 32, last_norm),
    ("timm:dla34", 32, silence("bn2")),
]
QUICK = ("resnet32", "torchvision:resnet18", "wrn-16-4", "timm:convnext_atto", "timm:vit_tiny_patch16_224")


@pytest.mark.parametrize(
    ("name", "size", "silenced"),
    [pytest.param(*case, id=case[0], marks=[pytest.mark.slow] * (case[0] not in QUICK)) for case in CASES],
)
def test_removing_equals_silencing(name: str, size: int, silenced: Callable[[nn.Module], None]) -> None:
    dense = shaken(build_model(name, Shape(image_size=(size, size))))
    images = torch.rand(4, 3, size, size)
    candidates = [block for block in find_blocks(dense) if block.residue is not None]
    chosen = candidates[:: max(1, len(candidates) // 3)]
    by_hand = copy.deepcopy(dense)
    for block in chosen:
        silenced(by_hand.get_submodule(block.name))
    removed = remove_blocks(dense, {block.name: block.residue for block in chosen})
    with torch.inference_mode():
        expected, found, untouched = by_hand(images), removed(images), dense(images)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (found - untouched).abs().max() > 1e-4


def test_kept_names_and_weights_stay_and_the_rest_is_gone() -> None:
    dense = build_model("resnet32", Shape())
    pruned = remove_blocks(dense, {"layer1.2": "identity", "layer3.4": "identity"})
    kept = pruned.state_dict()
    gone = {name for name in dense.state_dict() if name not in kept}
    assert gone == {name for name in dense.state_dict() if name.startswith(("layer1.2.", "layer3.4."))}
    assert all(torch.equal(value, dense.state_dict()[name]) for name, value in kept.items())
    assert isinstance(pruned.layer1[2], RemovedBlock)
    assert sum(p.numel() for p in dense.layer1[2].parameters()) > 0


def test_residue_is_applied() -> None:
    features = torch.tensor([-1.0, 2.0])
    assert RemovedBlock("identity")(features, None, mask=1) is features
    assert RemovedBlock("relu")(features).tolist() == [0.0, 2.0]


def test_unknown_block() -> None:
    with pytest.raises(PruningError, match=r"no block 'layer1\.9'"):
        remove_blocks(build_model("resnet20", Shape()), {"layer1.9": "identity"})
