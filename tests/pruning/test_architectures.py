"""A dozen families against counts taken from their papers, and the page that lists them all."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from support import Shape

from robustprune.models import build_model
from robustprune.pruning import eligible_blocks, find_blocks, removable_together

DOCS = Path(__file__).parents[2] / "docs"

# Network, pixels, blocks per stage as published, how many of them project, and what goes together under `paper`.
FAMILIES = [
    ("wrn-16-4", 32, (2, 2, 2), 3, 0),
    ("wrn-40-2", 32, (6, 6, 6), 3, 12),
    ("timm:resnetv2_50", 32, (3, 4, 6, 3), 4, 8),
    ("timm:seresnet18", 32, (2, 2, 2, 2), 3, 0),
    ("timm:darknet53", 32, (1, 2, 8, 8, 4), 0, 14),
    ("timm:convnextv2_atto", 32, (2, 2, 6, 2), 0, 4),
    ("timm:nfnet_f0", 64, (2, 6, 3), 3, 5),  # the one block of the first stage projects: a stage without a choice
    ("timm:coatnet_nano_rw_224", 32, (3, 4, 6, 3), 4, 8),
    ("timm:fastvit_t8", 32, (2, 2, 4, 2), 0, 2),
    ("timm:swin_tiny_patch4_window7_224", 32, (2, 2, 6, 2), 0, 4),
    ("timm:swinv2_tiny_window8_256", 64, (2, 2, 6, 2), 0, 4),
    ("timm:vit_tiny_patch16_224", 32, (12,), 0, 10),
    ("timm:cait_xxs24_224", 32, (24, 2), 0, 22),
    ("timm:xcit_nano_12_p16_224", 32, (12,), 0, 10),
    ("timm:mixer_s32_224", 32, (8,), 0, 6),
    ("timm:gmlp_s16_224", 32, (30,), 0, 28),
    ("timm:davit_tiny", 32, (1,) * 12, 0, 0),
    ("timm:maxvit_nano_rw_256", 32, (2, 2, 1, 2, 2, 1, 2, 1, 2, 2), 0, 0),
]


@pytest.mark.quick_cases(4)
@pytest.mark.parametrize(("name", "size", "stages", "projecting", "together"), FAMILIES, ids=[f[0] for f in FAMILIES])
def test_families(name: str, size: int, stages: tuple[int, ...], projecting: int, together: int) -> None:
    blocks = find_blocks(build_model(name, Shape(image_size=(size, size))))
    assert tuple(block.stage_size for block in blocks if block.position == 0) == stages
    assert sum(block.residue is None for block in blocks) == projecting
    assert len(eligible_blocks(blocks, "paper")) == sum(size - 1 for size in stages)
    assert removable_together(blocks, "paper") == together


def make_architectures() -> ModuleType:
    specification = importlib.util.spec_from_file_location("make_architectures", DOCS / "make_architectures.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    # Dataclasses look their module up.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "make_architectures", module)
        specification.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_page_lists_what_the_script_finds() -> None:
    script, page = make_architectures(), (DOCS / "architectures.md").read_text()
    assert all(f"| {family} | `{name}` |" in page for family, (name, _) in script.FAMILIES.items())
    for family in ("WideResNet, pre-activation", "FastViT", "RepVGG", "Swin V2", "PVT v2"):
        assert f"\n{script.row(family)}\n" in page
