"""The image sets by name: what loads each, and what it holds."""

from robustprune.registry import Entry

PLUGINS = {
    "cifar10": Entry(
        "robustprune.data.published:load_cifar10", "CIFAR-10: 60,000 colour 32×32 photographs, 10 classes."
    ),
    "cifar100": Entry(
        "robustprune.data.published:load_cifar100", "CIFAR-100: 60,000 colour 32×32 photographs, 100 classes."
    ),
    "constant": Entry(
        "robustprune.data.embedded:load_constant",
        "Images of a single random colour each, 2,000 images, test only, synthetic.",
    ),
    "digits": Entry(
        "robustprune.data.embedded:load_digits",
        "Handwritten digits of scikit-learn: 1,797 grey 8×8 images, 10 classes, embedded.",
    ),
    "fashion-mnist": Entry(
        "robustprune.data.published:load_fashion_mnist",
        "Fashion-MNIST: 70,000 grey 28×28 photographs of clothing, 10 classes.",
    ),
    "imagefolder": Entry(
        "robustprune.data.image_folders:load_image_folder",
        "Your own image files: DIR/train/CLASS/*.png with DIR/test or DIR/val, or DIR/CLASS/* as a test set.",
        "DIR",
    ),
    "noise": Entry(
        "robustprune.data.embedded:load_noise",
        "Gaussian noise around mid grey (deviation 64 of 255), 2,000 images, test only, synthetic.",
    ),
    "npz": Entry(
        "robustprune.data.npz:load_npz",
        "One .npz file of train_images, train_labels, test_images, test_labels (val_…), or images, labels.",
        "FILE",
    ),
    "photo-patches": Entry(
        "robustprune.data.embedded:load_photo_patches",
        "Crops of scikit-learn's two sample photographs: 2,000 colour 32×32 images, test only, embedded.",
    ),
    "svhn": Entry(
        "robustprune.data.published:load_svhn",
        "SVHN: 99,289 colour 32×32 photographs of house number digits, 10 classes.",
    ),
    "tiny-imagenet": Entry(
        "robustprune.data.published:load_tiny_imagenet",
        "Tiny ImageNet: 110,000 colour 64×64 photographs, 200 classes (published validation images as test).",
    ),
    "uniform": Entry(
        "robustprune.data.embedded:load_uniform",
        "Uniform noise, every pixel and channel on its own, 2,000 images, test only, synthetic.",
    ),
}
