"""Random starts belong to samples: each has one of its own, wherever it stands."""

import torch

from robustprune.attacks import run_attack


def test_copies_of_an_image_start_apart(network, test_images, test_labels):
    copies, labels = test_images[:1].repeat(6, 1, 1, 1), test_labels[:1].repeat(6)
    settings = {"attack": "rfgsm", "epsilon": 0.02, "early_stop": False, "selection": "last", "seed": 5}
    found = run_attack(network, copies, labels, sample_ids=torch.arange(6), **settings).adversarial
    assert len({tuple(image.flatten().tolist()) for image in found}) == 6
    order = torch.tensor([3, 0, 5, 4, 1, 2])
    again = run_attack(network, copies, labels, sample_ids=order, **settings).adversarial
    assert torch.equal(again, found[order])
