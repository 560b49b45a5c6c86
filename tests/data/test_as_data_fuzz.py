"""Whatever shapes, types, ranges and label forms come: the images and labels they are, or a clean refusal."""

import warnings

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.utils.data import DataLoader, TensorDataset

from robustprune import DataError, DataWarning, as_data

SIDES = st.integers(1, 7)
MEAN, STD = np.array([0.3, 0.5, 0.7]), np.array([0.2, 0.3, 0.25])


def read(form, **settings):
    """Return the split that a form becomes, or why it is refused, in one line; nothing else may be raised."""
    found, why = None, ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            found = as_data(form, "test", **settings).test
    except DataError as error:
        why = str(error)
    assert (found is None) == bool(why.strip())
    assert "\n" not in why
    return found, why


@st.composite
def image_sets(draw):
    """Draw uint8 images (N, C, H, W), labels and how many classes there are."""
    shape = draw(st.tuples(st.integers(1, 9), st.sampled_from((1, 3)), SIDES, SIDES))
    classes = draw(st.integers(2, 5))
    labels = draw(arrays.arrays(np.int64, shape[0], elements=st.integers(0, classes - 1)))
    return draw(arrays.arrays(np.uint8, shape)), labels, classes


def label_forms(labels, classes):
    names = [f"class {number}" for number in range(classes)]
    one_hot = np.eye(classes)[labels]
    return {
        "integers": labels,
        "column": labels[:, None],
        "small": torch.from_numpy(labels.astype(np.int8)),
        "list": labels.tolist(),
        "one-hot": one_hot.astype(bool),
        "one-hot tensor": torch.from_numpy(one_hot),
        "nested lists": one_hot.astype(int).tolist(),
        "texts": [names[label] for label in labels],
        "array of texts": np.array(names)[labels],
    }, names


PIXEL_FORMS = {
    "bytes": lambda images: images,
    "float": lambda images: (images / 255).astype(np.float32),
    "double": lambda images: images / 255,
    "half": lambda images: (images / 255).astype(np.float16),
    "big-endian": lambda images: (images / 255).astype(">f4"),
    "tensor": torch.from_numpy,
    "float tensor": lambda images: torch.from_numpy(images).float() / 255,
}
CONTAINERS = {
    "pair": lambda images, labels: (images, labels),
    "mapping": lambda images, labels: {"img": images, "target": labels},
    "samples": lambda images, labels: list(zip(images, labels, strict=True)),
    "loader": lambda images, labels: DataLoader(list(zip(images, labels, strict=True)), batch_size=4),
    "batches": lambda images, labels: ((images[at : at + 3], labels[at : at + 3]) for at in range(0, len(images), 3)),
}


@settings(max_examples=150)
@given(image_sets(), st.data())
def test_one_set_in_any_form_has_one_content(drawn, data):
    images, labels, classes = drawn
    layout = data.draw(st.sampled_from(("first", "last", "none") if images.shape[1] == 1 else ("first", "last")))
    laid = {"first": images, "last": images.transpose(0, 2, 3, 1), "none": images[:, 0]}[layout]
    kind = data.draw(st.sampled_from([*PIXEL_FORMS]))
    forms, names = label_forms(labels, classes)
    container = data.draw(st.sampled_from([*CONTAINERS]))
    # Collating turns lists by item into lists by column, which are refused, and big-endian arrays it does not know.
    how = data.draw(st.sampled_from([form for form in forms if (form, container) != ("nested lists", "loader")]))
    given_images = PIXEL_FORMS["double" if (kind, container) == ("big-endian", "loader") else kind](laid)
    found, why = read(CONTAINERS[container](given_images, forms[how]), classes=names)
    is_ambiguous = layout != "none" and laid.shape[1] in (1, 3) and laid.shape[3] in (1, 3)
    if is_ambiguous:
        assert "second or the last axis" in why
    elif images.max() == 1:
        assert "the brightest value is 1" in why
    else:
        assert found is not None, why
        np.testing.assert_array_equal(found.images.numpy(), images)
        np.testing.assert_array_equal(found.labels.numpy(), labels)


@settings(max_examples=60)
@given(image_sets().filter(lambda drawn: drawn[0].shape[1] == 3 and drawn[0].shape[3] not in (1, 3)), st.data())
def test_normalized_images_are_undone_or_refused(drawn, data):
    images, labels, classes = drawn
    kind = data.draw(st.sampled_from((np.float64, np.float32, np.float16)))
    mean, std = MEAN[:, None, None], STD[:, None, None]
    normalized = (((images / 255) - mean) / std).astype(kind)
    form = TensorDataset(torch.from_numpy(normalized), torch.from_numpy(labels))
    found, why = read(form, classes=classes, mean=MEAN, std=STD)
    assert found is not None, why
    if kind != np.float16:
        np.testing.assert_array_equal(found.images.numpy(), images)
    else:
        np.testing.assert_allclose(found.images.numpy().astype(int), images, atol=1)
    left, why = read(form, classes=classes)
    if normalized.min() < -0.01:
        assert left is None
        assert "rp.normalized(model, mean, std)" in why


ANY_KIND = st.one_of(
    arrays.floating_dtypes(sizes=(16, 32, 64)), arrays.integer_dtypes(), arrays.unsigned_integer_dtypes(),
    arrays.boolean_dtypes(), arrays.complex_number_dtypes(), arrays.unicode_string_dtypes(), arrays.datetime64_dtypes(),
)  # fmt: skip
ANY_ARRAY = ANY_KIND.flatmap(
    lambda kind: arrays.arrays(kind, arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4))
)
UNIT = arrays.arrays(
    np.float32, st.tuples(st.just(3), st.integers(1, 5), SIDES, SIDES), elements=st.floats(0, 1, width=32)
)
ANY_LABELS = st.one_of(
    ANY_ARRAY,
    arrays.arrays(np.int64, 3, elements=st.integers(-1, 4)),
    arrays.arrays(np.float64, (3, 3), elements=st.sampled_from((0.0, 1.0, 0.5))),
    st.lists(st.one_of(st.integers(-1, 3), st.text(max_size=2), st.none(), st.floats()), max_size=4),
)


@settings(max_examples=200)
@given(st.one_of(UNIT, ANY_ARRAY), ANY_LABELS)
def test_anything_else_is_what_it_says_or_refused(images, labels):
    found, _ = read((images, labels))
    if found is None:
        return
    shown = images if images.ndim == 4 else images[:, None]
    shown = shown if shown.shape[1] in (1, 3) else shown.transpose(0, 3, 1, 2)
    values = shown / 255 if shown.dtype == np.uint8 else shown.astype(np.float64)
    assert shown.dtype.kind == "f" or shown.dtype == np.uint8
    assert np.abs(found.images.numpy() / 255 - values).max() <= 0.502 / 255
    expected = np.asarray(labels)
    if expected.dtype.kind in "UO":
        assert len(found) == len(expected)
        assert [sorted(set(labels)).index(each) for each in labels] == found.labels.tolist()
    elif expected.ndim == 2 and expected.shape[1] > 1:
        np.testing.assert_array_equal(np.eye(expected.shape[1])[found.labels.numpy()], expected)
    else:
        assert expected.dtype.kind in "iub"
        np.testing.assert_array_equal(found.labels.numpy(), expected.reshape(-1))


KEYS = st.sampled_from(("image", "label", "z"))
NESTED = st.recursive(
    st.one_of(st.none(), st.integers(), st.text(max_size=3), UNIT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.tuples(inner, inner), st.dictionaries(KEYS, inner)),
    max_leaves=6,
)


@settings(max_examples=100)
@given(NESTED)
def test_nested_nonsense_never_ends_in_another_error(form):
    read(form)
