"""The image sets by name: what loads each, and what it holds."""

from robustprune.registry import Entry

_DESCRIPTIONS = {
    "embedded": {
        "constant": "Images of a single random colour each, 2,000 images, test only, synthetic.",
        "digits": "Handwritten digits of scikit-learn: 1,797 grey 8×8 images, 10 classes, embedded.",
        "noise": "Gaussian noise around mid grey (deviation 64 of 255), 2,000 images, test only, synthetic.",
        "photo-patches": (
            "Crops of scikit-learn's two sample photographs: 2,000 colour 32×32 images, test only, embedded."
        ),
        "uniform": "Uniform noise, every pixel and channel on its own, 2,000 images, test only, synthetic.",
    },
    "image_folders": {
        "imagefolder": (
            "Your own image files: DIR/train/CLASS/*.png with DIR/test or DIR/val, or DIR/CLASS/* as a test set."
        ),
    },
    "npz": {
        "npz": "One .npz file of train_images, train_labels, test_images, test_labels (val_…), or images, labels.",
    },
    "published": {
        "cifar10": "CIFAR-10: 60,000 colour 32×32 photographs, 10 classes.",
        "cifar100": "CIFAR-100: 60,000 colour 32×32 photographs, 100 classes.",
        "fashion-mnist": "Fashion-MNIST: 70,000 grey 28×28 photographs of clothing, 10 classes.",
        "svhn": "SVHN: 99,289 colour 32×32 photographs of house number digits, 10 classes.",
        "tiny-imagenet": (
            "Tiny ImageNet: 110,000 colour 64×64 photographs, 200 classes (published validation images as test)."
        ),
    },
}
_ARGUMENTS = {"imagefolder": "DIR", "npz": "FILE"}

PLUGINS = {
    name: Entry(f"robustprune.data.{home}:load_{name.replace('-', '_')}", description, _ARGUMENTS.get(name, ""))
    for home, descriptions in _DESCRIPTIONS.items()
    for name, description in descriptions.items()
}
