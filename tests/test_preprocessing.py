"""ImageScaler, ImageFlattener and ConvFeatures: what they compute, and scikit-learn's contract."""

import pickle

import numpy as np
import pytest
from scipy import ndimage
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from cyconv import ConvFeatures, ConvNetClassifier, ImageFlattener, ImageScaler, filters
from cyconv.selftest.arrays import KINDS, assert_same_bits, in_layout

X, Y = load_digits(return_X_y=True)
TRANSFORMERS = [ImageScaler(), ImageFlattener(), ConvFeatures(random_state=0)]
BY_NAME = pytest.mark.parametrize("transformer", TRANSFORMERS, ids=lambda t: type(t).__name__)


@parametrize_with_checks([
    *TRANSFORMERS,
    ImageScaler(with_std=False, n_jobs=2),
    ConvFeatures([[1.0, -1], [1, 1]], activation="identity", pool="max", data_format="channels_last"),
], xfail_strict=True)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def images(rng, dtype=np.float32, shape=(20, 3, 6, 7)):
    return (rng.standard_normal(shape) * 5 + np.arange(3).reshape(-1, *(1,) * (len(shape) - 2)) * 100).astype(dtype)


# ---------------------------------------------------------------- ImageScaler


@pytest.mark.parametrize("shape", [(20, 3, 9), (20, 3, 6, 7), (10, 3, 4, 5, 6)])
def test_scaler_gives_every_channel_mean_0_and_deviation_1(rng, dtype, data_format, shape):
    x = in_layout(images(rng, dtype, shape), data_format)
    scaler = ImageScaler(data_format=data_format, spatial_dims=len(shape) - 2).fit(x)
    y = scaler.transform(x)
    axes = tuple(i for i in range(x.ndim) if i != (x.ndim - 1 if data_format == "channels_last" else 1))
    assert y.shape == x.shape and y.dtype == dtype
    np.testing.assert_allclose(scaler.mean_, x.mean(axis=axes, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(scaler.scale_, x.std(axis=axes, dtype=float), rtol=1e-12)
    np.testing.assert_allclose(y.mean(axis=axes, dtype=float), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(axis=axes, dtype=float), 1, atol=1e-6)
    np.testing.assert_allclose(scaler.inverse_transform(y), x, rtol=1e-5 if dtype is np.float32 else 1e-13, atol=1e-4)


def test_scaler_of_rows_is_that_of_images(rng):
    x = images(rng)
    rows = x.reshape(len(x), -1)
    scaler = ImageScaler(input_shape=(3, 6, 7)).fit(rows)
    expected = ImageScaler().fit_transform(x)
    assert_same_bits(scaler.transform(rows), expected.reshape(rows.shape))
    assert_same_bits(scaler.transform(x), expected)
    assert_same_bits(scaler.inverse_transform(expected).reshape(rows.shape), scaler.inverse_transform(
        expected.reshape(rows.shape)))


def test_scaler_learns_in_parts_what_it_learns_at_once(rng):
    x = images(rng, np.float64)
    whole, parts = ImageScaler().fit(x), ImageScaler()
    for part in (x[:1], x[1:7], x[7:]):
        parts.partial_fit(part)
    assert parts.n_samples_seen_ == whole.n_samples_seen_ == 20
    np.testing.assert_allclose(parts.mean_, whole.mean_, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(parts.var_, whole.var_, rtol=1e-12)
    assert parts.fit(x[:5]).n_samples_seen_ == 5


def test_scaler_does_not_divide_channels_without_deviation(rng):
    x = images(rng, np.float64)
    x[:, 1] = 0.1
    y = ImageScaler().fit_transform(x)
    np.testing.assert_allclose(y[:, 1], 0, atol=1e-15)
    assert ImageScaler().fit(x).scale_[1] == 1


def test_scaler_with_one_of_its_two_parts(rng):
    x = images(rng, np.float64)
    mean, std = (f(axis=(0, 2, 3), keepdims=True) for f in (x.mean, x.std))
    np.testing.assert_allclose(ImageScaler(with_std=False).fit_transform(x), x - mean, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(ImageScaler(with_mean=False).fit_transform(x), x / std, rtol=1e-12)
    for how in ({"with_std": False}, {"with_mean": False}):
        scaler = ImageScaler(**how).fit(x)
        np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(x)), x, rtol=1e-12)


# ---------------------------------------------------------------- ImageFlattener


@pytest.mark.parametrize("shape", [(4, 3, 9), (4, 6, 7), (4, 3, 6, 7), (2, 3, 4, 5, 6)])
def test_flattener_and_back(rng, dtype, shape):
    x = rng.standard_normal(shape).astype(dtype)
    flattener = ImageFlattener().fit(x)
    rows = flattener.transform(x)
    np.testing.assert_array_equal(rows, x.reshape(len(x), -1))
    assert_same_bits(flattener.inverse_transform(rows), x)
    assert_same_bits(flattener.transform(rows), rows)


@pytest.mark.parametrize("shape, how, first, last", [
    ((3, 6, 7), {}, "c0_h0_w0", "c2_h5_w6"),
    ((6, 7, 3), {"data_format": "channels_last"}, "h0_w0_c0", "h5_w6_c2"),
    ((6, 7), {}, "h0_w0", "h5_w6"),
    ((3, 8), {"spatial_dims": 1}, "c0_l0", "c2_l7"),
    ((4, 5, 6), {"spatial_dims": 3}, "d0_h0_w0", "d3_h4_w5"),
    ((8,), {}, "x0", "x7"),
])
def test_flattener_names_places(shape, how, first, last):
    names = ImageFlattener(**how).fit(np.zeros((2, *shape))).get_feature_names_out()
    assert (names[0], names[-1], len(names)) == (first, last, np.prod(shape))


def test_flattener_puts_images_into_a_data_frame(rng):
    x = images(rng)
    frame = ImageFlattener().set_output(transform="pandas").fit_transform(x)
    np.testing.assert_array_equal(frame["c1_h2_w3"], x[:, 1, 2, 3])


def test_flattener_refuses_other_shapes(rng):
    flattener = ImageFlattener().fit(np.zeros((2, 4, 6)))
    with pytest.raises(ValueError, match=r"samples of X have shape \(6, 4\), expected \(4, 6\) as in fit"):
        flattener.transform(np.zeros((2, 6, 4)))
    with pytest.raises(ValueError, match=r"X has 23 features, samples of shape \(4, 6\) have 24"):
        flattener.inverse_transform(np.zeros((2, 23)))


# ---------------------------------------------------------------- ConvFeatures


def test_features_are_pooled_responses_of_the_filters(rng, dtype, data_format):
    x = images(rng, dtype)[:4] / 100
    bank = np.stack([filters.sobel(0), filters.sobel(1), filters.gaussian(3)])
    features = ConvFeatures(bank, n_bins=1, data_format=data_format).fit_transform(in_layout(x, data_format))
    expected = [np.maximum(ndimage.correlate(channel.astype(float), kernel, mode="constant"), 0).mean()
                for sample in x for channel in sample for kernel in bank]
    assert features.dtype == dtype
    np.testing.assert_allclose(features.ravel(), expected, rtol=1e-4)


def test_filters_over_all_channels(rng):
    x = images(rng, np.float64)[:4]
    bank = rng.standard_normal((5, 3, 3, 3))
    features = ConvFeatures(bank, activation="identity", pool="max", n_bins=2).fit_transform(x)
    maps = np.array([[ndimage.correlate(sample, kernels, mode="constant")[1]
                      for kernels in bank] for sample in x])
    bins = [maps[:, :, rows, columns].max(axis=(2, 3)) for rows in (slice(0, 3), slice(3, 6))
            for columns in (slice(0, 4), slice(3, 7))]
    np.testing.assert_allclose(features, np.stack(bins, axis=2).reshape(4, -1), rtol=1e-12)


def test_random_filters_have_mean_0_and_length_1_and_a_seed():
    a, b, c = (ConvFeatures(n_filters=6, kernel_size=(3, 5), random_state=seed).fit(np.zeros((2, 3, 9, 9))).filters_
               for seed in (0, 0, 1))
    assert a.shape == (6, 3, 3, 5)
    np.testing.assert_allclose(a.sum(axis=(1, 2, 3)), 0, atol=1e-14)
    np.testing.assert_allclose(np.square(a).sum(axis=(1, 2, 3)), 1)
    assert_same_bits(a, b)
    assert not np.array_equal(a, c)


def test_features_have_names():
    features = ConvFeatures(n_filters=4, kernel_size=3, n_bins=2).fit(np.zeros((2, 3, 9, 9)))
    names = features.get_feature_names_out()
    assert (names[0], names[1], names[-1], len(names)) == ("filter0_h0_w0", "filter0_h0_w1", "filter3_h1_w1", 16)
    frame = clone(features).set_output(transform="pandas").fit_transform(np.zeros((2, 3, 9, 9)))
    assert list(frame.columns) == list(names)


def test_features_make_digits_easier_than_pixels():
    features = ConvFeatures(n_filters=64, input_shape=(8, 8), random_state=0)
    plain, convolved = (make_pipeline(*steps, RidgeClassifier()).fit(X[::2], Y[::2]).score(X[1::2], Y[1::2])
                        for steps in ((), (features,)))
    assert convolved > 0.98 and plain < 0.94


@pytest.mark.parametrize("bank", [np.zeros((2, 2, 3, 3)), np.zeros(3), np.zeros((2, 3, 3, 3, 3))])
def test_filters_must_fit_the_samples(bank):
    with pytest.raises(ValueError, match=r"filters must have shape \(K, \*kernel\) or \(K, 3, \*kernel\)"):
        ConvFeatures(bank).fit(np.zeros((2, 3, 9, 9)))
    with pytest.raises(ValueError, match="ConvFeatures: filters must be finite, got NaN or infinity"):
        ConvFeatures(np.full((2, 3, 3), np.nan)).fit(np.zeros((2, 3, 9, 9)))


# ---------------------------------------------------------------- all of them


@BY_NAME
@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_array_gives_the_same(rng, transformer, kind):
    x = images(rng)
    expected = clone(transformer).fit_transform(x)
    given = KINDS[kind](x)
    assert_same_bits(clone(transformer).fit(given).transform(given), expected)
    np.testing.assert_array_equal(given, x)


@BY_NAME
def test_memory_mapped_images(rng, transformer, tmp_path):
    x = images(rng)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert_same_bits(clone(transformer).fit_transform(mapped), clone(transformer).fit_transform(x))


@BY_NAME
def test_pickles_and_leaves_out_other_shapes(rng, transformer):
    x = images(rng)
    fitted = clone(transformer).fit(x)
    assert_same_bits(pickle.loads(pickle.dumps(fitted)).transform(x), fitted.transform(x))
    with pytest.raises(ValueError, match="samples of X have shape"):
        fitted.transform(np.zeros((2, 3, 7, 6)))
    with pytest.raises(ValueError, match="features"):
        fitted.transform(np.zeros((2, 5)))


@pytest.mark.parametrize("wrong", [ImageScaler(with_mean="yes"), ImageScaler(data_format="NCHW"),
                                   ImageScaler(spatial_dims=4), ImageFlattener(data_format=1),
                                   ConvFeatures(n_bins=0), ConvFeatures(activation="rel"), ConvFeatures("gabor")])
def test_parameters_that_break_a_rule(wrong):
    with pytest.raises(ValueError, match=f"parameter of {type(wrong).__name__} must be"):
        wrong.fit(np.zeros((2, 3, 9, 9)))


def test_in_pipelines_of_images():
    images_of_digits = X.reshape(-1, 1, 8, 8).astype(np.float32)
    network = make_pipeline(ImageScaler(), ConvNetClassifier((8, 12), max_iter=6, tol=0, n_iter_no_change=np.inf,
                                                             learning_rate_init=0.01, random_state=0))
    assert network.fit(images_of_digits[::2], Y[::2]).score(images_of_digits[1::2], Y[1::2]) > 0.9
    machine = GridSearchCV(make_pipeline(ConvFeatures(n_filters=8, random_state=0), ImageFlattener(), SVC()),
                           {"convfeatures__n_bins": [1, 3]}, cv=3).fit(images_of_digits[:500], Y[:500])
    assert machine.best_params_ == {"convfeatures__n_bins": 3}
