"""The networks by name: what builds each."""

from robustprune.registry import Entry

PLUGINS = {
    **dict.fromkeys(
        (f"resnet{depth}" for depth in (20, 32, 44, 56, 110)),
        Entry("robustprune.models.resnet:build_resnet", "Build resnet20, resnet32, resnet44, resnet56 or resnet110."),
    ),
    **dict.fromkeys(
        (f"wrn-{shape}" for shape in ("16-4", "16-8", "28-4", "28-10", "34-10", "34-20", "40-2", "40-4", "70-16")),
        Entry(
            "robustprune.models.resnet:build_wide_resnet",
            "Build wrn-DEPTH-WIDENING, a pre-activation wide ResNet; any depth 6n + 4 as wrn:DEPTH-WIDENING.",
        ),
    ),
    "wrn": Entry(
        "robustprune.models.resnet:build_wide_resnet",
        "Build wrn-DEPTH-WIDENING, a pre-activation wide ResNet; any depth 6n + 4 as wrn:DEPTH-WIDENING.",
        "DEPTH-WIDENING",
    ),
    "torchvision": Entry(
        "robustprune.models.libraries:build_torchvision",
        "Build torchvision:NAME with random weights, its first convolution fitted to the channels.",
        "NAME",
    ),
    "timm": Entry(
        "robustprune.models.libraries:build_timm",
        "Build timm:NAME with random weights for the channels, classes and image size of the data.",
        "NAME",
    ),
    "robustbench": Entry(
        "robustprune.models.libraries:build_robustbench",
        "Build robustbench:NAME; random weights unless weights_file=PATH or download=1 gives the published ones.",
        "NAME",
    ),
    "file": Entry(
        "robustprune.models.user_file:build_from_file",
        "Build file:PATH:NAME: a class, a function, or a ready nn.Module in a Python file.",
        "PATH:NAME",
    ),
}
