"""Rewrites the table of docs/architectures.md: what can be removed from which family of networks.

Each network is built with random weights for ten classes at the smallest multiple of 32 pixels that it takes (to 256),
its blocks are found by behaviour and their share of the multiply-accumulates counted.

    python docs/make_architectures.py [--only timm:resnet18]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from robustprune.cost import measure_block_macs, measure_cost
from robustprune.errors import ModelError, PruningError
from robustprune.models import build_model
from robustprune.pruning import eligible_blocks, find_blocks, removable_together

PAGE = Path(__file__).with_name("architectures.md")
BEGIN, END = "<!-- table: make_architectures.py -->", "<!-- end of table -->"

CONCATENATES = "none: concatenates features, adds nothing to them"
CHAIN = "none: a plain chain"

# Family → its representative, and what is to be said of it.
FAMILIES: dict[str, tuple[str, str]] = {
    "CIFAR ResNet": ("resnet32", ""),
    "WideResNet, pre-activation": ("wrn-28-10", ""),
    "ResNet, basic": ("torchvision:resnet18", ""),
    "ResNet, bottleneck": ("torchvision:resnet50", ""),
    "ResNeXt": ("torchvision:resnext50_32x4d", ""),
    "Wide ResNet, bottleneck": ("torchvision:wide_resnet50_2", ""),
    "MobileNetV2": ("torchvision:mobilenet_v2", ""),
    "MobileNetV3": ("torchvision:mobilenet_v3_small", ""),
    "MNASNet": ("torchvision:mnasnet0_5", ""),
    "EfficientNet": ("torchvision:efficientnet_b0", ""),
    "EfficientNetV2": ("timm:tf_efficientnetv2_b0", ""),
    "RegNet": ("torchvision:regnet_y_400mf", ""),
    "ConvNeXt": ("torchvision:convnext_tiny", ""),
    "ViT": ("torchvision:vit_b_16", ""),
    "Swin": ("torchvision:swin_t", ""),
    "SE-ResNet": ("timm:seresnet18", ""),
    "ResNetV2, pre-activation": ("timm:resnetv2_50", ""),
    "ResNeSt": ("timm:resnest26d", ""),
    "SKNet": ("timm:skresnet18", ""),
    "Res2Net": ("timm:res2net50_26w_4s", ""),
    "TResNet": ("timm:tresnet_m", ""),
    "DLA": ("timm:dla34", "trees of two blocks each: nothing goes under `paper`"),
    "HRNet": ("timm:hrnet_w18_small", "the blocks of the branches; fusions stay"),
    "Darknet": ("timm:darknet53", ""),
    "GhostNet": ("timm:ghostnet_100", ""),
    "MobileNetV4": ("timm:mobilenetv4_conv_small", ""),
    "MixNet": ("timm:mixnet_s", ""),
    "Xception": ("timm:xception41", ""),
    "Inception-ResNet": ("timm:inception_resnet_v2", ""),
    "ConvNeXt V2": ("timm:convnextv2_atto", ""),
    "InceptionNeXt": ("timm:inception_next_tiny", ""),
    "NFNet": ("timm:nfnet_f0", "scaled weights; kept blocks keep the scale they had in the full depth"),
    "PoolFormer": ("timm:poolformer_s12", ""),
    "CAFormer": ("timm:caformer_s18", "stages 3 and 4 scale their shortcuts by learned weights: not the identity"),
    "ConvMixer": ("timm:convmixer_768_32", "only the depthwise half is residual"),
    "DeiT III": ("timm:deit3_small_patch16_224", ""),
    "BEiT": ("timm:beit_base_patch16_224", ""),
    "EVA-02": ("timm:eva02_tiny_patch14_224", ""),
    "CaiT": ("timm:cait_xxs24_224", "the two blocks of the class token alone are a stage of their own"),
    "XCiT": ("timm:xcit_nano_12_p16_224", ""),
    "PiT": ("timm:pit_ti_224", ""),
    "LeViT": ("timm:levit_128s", ""),
    "VOLO": ("timm:volo_d1_224", ""),
    "Swin V2": ("timm:swinv2_tiny_window8_256", ""),
    "Twins": ("timm:twins_svt_small", "positional encodings are residual, and found, too"),
    "PVT v2": ("timm:pvt_v2_b0", ""),
    "DaViT": ("timm:davit_tiny", "two kinds of block alternate, so every stage has one: use `identity`"),
    "GC ViT": ("timm:gcvit_xxtiny", "residual convolutions between the stages are found too"),
    "MaxViT": ("timm:maxvit_nano_rw_256", "convolution, block and grid attention go one by one"),
    "CoAtNet": ("timm:coatnet_nano_rw_224", ""),
    "MobileViT": ("timm:mobilevit_xxs", ""),
    "EdgeNeXt": ("timm:edgenext_xx_small", ""),
    "FastViT": ("timm:fastvit_t8", ""),
    "Hiera": ("timm:hiera_tiny_224", ""),
    "MLP-Mixer": ("timm:mixer_s32_224", ""),
    "ResMLP": ("timm:resmlp_12_224", ""),
    "gMLP": ("timm:gmlp_s16_224", ""),
    "AlexNet": ("torchvision:alexnet", CHAIN),
    "VGG": ("torchvision:vgg11", CHAIN),
    "SqueezeNet": ("torchvision:squeezenet1_1", CONCATENATES),
    "GoogLeNet": ("torchvision:googlenet", CONCATENATES),
    "Inception v3": ("torchvision:inception_v3", CONCATENATES),
    "DenseNet": ("torchvision:densenet121", CONCATENATES),
    "ShuffleNet V2": ("torchvision:shufflenet_v2_x0_5", "none: half of the channels bypasses, then all are shuffled"),
    "VoVNet": ("timm:vovnet39a", CONCATENATES),
    "DPN": ("timm:dpn48b", "none: part of the features is concatenated"),
    "CSPResNet": ("timm:cspresnet50", "none: blocks end in a leaky ReLU; only ReLU can remain of a block"),
    "RepVGG": ("timm:repvgg_a0", "none: the bypass is a batch normalization, no identity"),
    "RepViT": (
        "timm:repvit_m0_9",
        "the channel mixers; a token mixer's bypass is in a normalization",
    ),
    "ReXNet": ("timm:rexnet_100", "none: channels grow with every block, shortcuts carry a part of them"),
    "LCNet": ("timm:lcnet_050", "none: depthwise separable convolutions without shortcuts"),
    "TinyViT": ("timm:tiny_vit_5m_224", "none: a convolution without shortcut within each block"),
    "TNT": ("timm:tnt_s_patch16_224", "blocks take and return two tensors"),
    "MViT v2": ("timm:mvitv2_tiny", "blocks return a tuple"),
}


@dataclass(frozen=True)
class Images:
    """Ten classes of square colour images."""

    side: int
    num_classes: int = 10
    channels: int = 3
    mean: tuple[float, ...] = (0.5,) * 3
    std: tuple[float, ...] = (0.25,) * 3

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width."""
        return self.side, self.side


def build_smallest(name: str) -> tuple[nn.Module, int]:
    for side in range(32, 257, 32):
        try:
            return build_model(name, Images(side)), side
        except ModelError as error:
            reason = error
    raise reason


def row(family: str) -> str:
    name, remark = FAMILIES[family]
    network, side = build_smallest(name)
    try:
        blocks = find_blocks(network)
    except PruningError:
        if not remark.startswith("none"):
            raise
        return f"| {family} | `{name}` | {side} | 0 | 0 | 0 | 0 | | {remark} |"
    macs, total = measure_block_macs(network, blocks), measure_cost(network).macs
    shares = [100 * macs[block.name] / total for block in blocks if block.residue is not None]
    counts = (
        len(blocks),
        len(shares),
        len(eligible_blocks(blocks, "paper")),
        removable_together(blocks, "paper"),
    )
    numbers = " | ".join(map(str, counts))
    return f"| {family} | `{name}` | {side} | {numbers} | {min(shares):.2f}–{max(shares):.2f} | {remark} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="print the row of one network and change nothing")
    only = parser.parse_args().only
    torch.set_num_threads(1)
    if only is not None:
        print(*(row(family) for family, (name, _) in FAMILIES.items() if name == only), sep="\n")
        return
    head = [
        "| family | network | pixels | blocks | removable | eligible | together | % of MACs each | remarks |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    table = "\n".join([*head, *map(row, FAMILIES)])
    before, _, rest = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
