"""Sequential: whole-network gradients, parameters in and out, reproducibility, summary, errors."""

import pickle
import re

import numpy as np
import pytest

from cyconv import Sequential
from cyconv.layers import (
    AdaptivePool,
    AvgPool,
    BatchNorm,
    Conv,
    ConvTranspose,
    Dense,
    DepthwiseConv,
    Dropout,
    Flatten,
    GlobalPool,
    LocalConv,
    LpPool,
    MaxPool,
    MinPool,
    ReLU,
    SeparableConv,
    TiledConv,
)
from cyconv.losses import softmax_cross_entropy, squared_error
from cyconv.optimizers import Adam
from cyconv.selftest.arrays import assert_same_bits, in_layout
from cyconv.selftest.differences import assert_same_gradient, central_differences

SHAPES = [(2, 11), (2, 8, 7), (1, 6, 5, 6)]
all_ranks = pytest.mark.parametrize("shape", SHAPES, ids=["1D", "2D", "3D"])


def every_layer():
    return [Conv(4, 3, padding="same"), ReLU(), MaxPool(2), Conv(4, 2, padding=((1, 0),), groups=2, bias=False), ReLU(),
            AvgPool(2, stride=1), Dropout(0.3), Flatten(), Dense(5), ReLU(), Dense(3)]


def stored(x, data_format):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1)) if data_format == "channels_last" else x


def network_of(shape, data_format="channels_first", dtype=np.float64, layers=None, seed=3):
    first, *spatial = shape
    shape = (*spatial, first) if data_format == "channels_last" else shape
    return Sequential(layers or every_layer(), shape, dtype=dtype, data_format=data_format, random_state=seed)


def data(shape, n=6, dtype=np.float64):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, *shape)).astype(dtype), rng.integers(0, 3, n), rng.random(n)


@all_ranks
def test_gradient_of_a_whole_network_agrees_with_central_differences(shape, data_format):
    network = network_of(shape, data_format)
    x, labels, weight = data(shape)
    x = stored(x, data_format)

    def loss():
        return network.loss_and_gradient(x, labels, weight, step=7)[0]

    gradient = network.loss_and_gradient(x, labels, weight, step=7)[1]
    assert np.abs(gradient).min() < np.abs(gradient).max()
    assert_same_gradient(gradient, central_differences(loss, network.vector))


@all_ranks
def test_gradient_with_respect_to_the_input_agrees_with_central_differences(shape, data_format):
    network = network_of(shape, data_format)
    x, labels, _ = data(shape)
    x = stored(x, data_format)

    def loss():
        return softmax_cross_entropy(network.forward(x, training=True)[0], labels)[0]

    logits, backward = network.forward(x, training=True, needs_input_grad=True)
    dx, _ = backward(softmax_cross_entropy(logits, labels)[1])
    assert_same_gradient(dx, central_differences(loss, x))


@all_ranks
def test_both_layouts_are_the_same_network(shape):
    x, labels, _ = data(shape, dtype=np.float32)
    layers = [layer for layer in every_layer() if not isinstance(layer, Flatten)]
    for chosen in (every_layer(), layers):
        results = [network_of(shape, data_format, np.float32, chosen).loss_and_gradient(stored(x, data_format), labels)
                   for data_format in ("channels_first", "channels_last")]
        assert results[0][0] == results[1][0]
        np.testing.assert_array_equal(results[0][1], results[1][1])


def test_a_sample_does_not_depend_on_its_batch():
    network = network_of((2, 8, 7), dtype=np.float32)
    x, _, _ = data((2, 8, 7), n=23)
    whole = network.forward(x)[0]
    for rows in (slice(0, 1), slice(5, 12), slice(22, 23), slice(None, None, -2)):
        np.testing.assert_array_equal(network.forward(x[rows])[0], whole[rows])


@pytest.mark.usefixtures("threads_at_any_size")
def test_threads_and_instruction_sets_do_not_change_a_bit(every_isa):
    from cyconv import _kernels
    network = network_of((2, 8, 7), dtype=np.float32)
    x, labels, weight = data((2, 8, 7), n=23)
    results = []
    for name in (name for name in every_isa if name != "baseline"):
        _kernels.use(name)
        results += [network.loss_and_gradient(x, labels, weight, n_threads=n) for n in (1, 2, 3, 7)]
    for loss, gradient in results:
        assert loss == results[0][0]
        np.testing.assert_array_equal(gradient, results[0][1])


def test_kept_plans_follow_the_instruction_set_in_use(every_isa):
    """A network that has computed with one set computes with the next one that is chosen."""
    from cyconv import _kernels
    x, labels, _ = data((2, 8, 7), n=5)
    used = network_of((2, 8, 7), dtype=np.float32)
    for name in every_isa:
        _kernels.use(name)
        fresh = network_of((2, 8, 7), dtype=np.float32)
        np.testing.assert_array_equal(used.forward(x)[0], fresh.forward(x)[0])
        np.testing.assert_array_equal(used.loss_and_gradient(x, labels)[1], fresh.loss_and_gradient(x, labels)[1])


def test_dropout_depends_on_seed_and_step_only():
    x = np.ones((4, 30))
    network = Sequential([Dropout(0.5), Dense(2)], (30,), random_state=1)
    same = Sequential([Dropout(0.5), Dense(2)], (30,), random_state=1)
    first = network.forward(x, training=True, step=3)[0]
    assert (network.forward(x, training=True, step=4)[0] != first).any()
    np.testing.assert_array_equal(network.forward(x, training=True, step=3)[0], first)
    np.testing.assert_array_equal(same.forward(x, training=True, step=3)[0], first)


def test_dropout_is_off_when_not_training():
    network = Sequential([Dropout(0.5), Dense(2)], (30,), random_state=1)
    x = np.ones((4, 30))
    y, backward = network.forward(x)
    assert backward is None
    np.testing.assert_array_equal(y[0], y[1])


def test_parameters_make_the_round_trip():
    network, other = network_of((2, 8, 7)), network_of((2, 8, 7), seed=4)
    x, _, _ = data((2, 8, 7))
    assert (network.forward(x)[0] != other.forward(x)[0]).any()
    other.load_parameters(network.parameters())
    np.testing.assert_array_equal(network.forward(x)[0], other.forward(x)[0])
    third = Sequential(every_layer(), (2, 8, 7), dtype=np.float64, parameters=network.parameters())
    np.testing.assert_array_equal(network.vector, third.vector)


def test_parameters_have_stable_names_and_pytorch_layouts():
    shapes = {name: value.shape for name, value in network_of((2, 8, 7)).parameters().items()}
    assert shapes == {
        "conv1.weight": (4, 2, 3, 3), "conv1.bias": (4,), "conv2.weight": (4, 2, 2, 2),
        "dense1.weight": (5, 4 * 3 * 2), "dense1.bias": (5,), "dense2.weight": (3, 5), "dense2.bias": (3,),
    }


def test_parameters_are_copies_and_the_vector_is_not():
    network = network_of((2, 8, 7))
    x, _, _ = data((2, 8, 7))
    before = network.forward(x)[0]
    for value in network.parameters().values():
        value[...] = 0
    np.testing.assert_array_equal(network.forward(x)[0], before)
    network.vector[...] = 0
    assert not network.forward(x)[0].any()


def test_the_vector_holds_weights_then_biases():
    network = network_of((2, 8, 7))
    parameters = network.parameters()
    expected = [value.ravel() for kind in ("weight", "bias") for name, value in parameters.items() if kind in name]
    np.testing.assert_array_equal(network.vector, np.concatenate(expected))
    assert network.weights.size == sum(value.size for name, value in parameters.items() if "weight" in name)
    assert np.shares_memory(network.weights, network.vector)


def test_loading_other_parameters_is_an_error_and_changes_nothing():
    network = network_of((2, 8, 7))
    before, parameters = network.vector.copy(), network.parameters()
    with pytest.raises(ValueError, match=r"missing \['conv1.bias'\], unknown \['extra'\]"):
        network.load_parameters({"extra": 1.0} | {k: v * 2 for k, v in parameters.items() if k != "conv1.bias"})
    with pytest.raises(ValueError, match=r"dense2.bias must have shape \(3,\), got \(1,\)"):
        network.load_parameters({k: v * 2 for k, v in parameters.items()} | {"dense2.bias": np.ones(1)})
    np.testing.assert_array_equal(network.vector, before)


def test_a_seed_gives_the_same_network_in_both_dtypes():
    single, double = (network_of((2, 8, 7), dtype=dtype).vector for dtype in (np.float32, np.float64))
    np.testing.assert_array_equal(single, double.astype(np.float32))
    assert (network_of((2, 8, 7), seed=4).vector != double).any()
    assert Sequential([Dense(3)], (4,)).seed != Sequential([Dense(3)], (4,)).seed


def test_scaling_the_input_moves_into_the_first_weights():
    network = Sequential([MaxPool(2), Conv(3, 3), ReLU(), Dense(2)], (1, 8, 8), random_state=0)
    x, _, _ = data((1, 8, 8), dtype=np.float32)
    expected = network.forward(x / 8)[0]
    network.scale_input(1 / 8)
    np.testing.assert_array_equal(network.forward(x)[0], expected)


def test_names_may_be_given():
    network = Sequential([("stem", Conv(2, 3)), ReLU(), ("head", Dense(3))], (1, 5, 5))
    assert network.names == ("stem", "relu1", "head")
    assert list(network.parameters()) == ["stem.weight", "stem.bias", "head.weight", "head.bias"]
    with pytest.raises(ValueError, match=r"names of layers must differ, got \['a', 'a'\]"):
        Sequential([("a", ReLU()), ("a", ReLU())], (3,))


def test_summary_states_shapes_counts_and_receptive_fields():
    network = Sequential([Conv(16, 3, padding="same"), ReLU(), MaxPool(2), Conv(32, 3), Dense(10)], (1, 8, 8))
    rows = [re.split("  +", line) for line in network.summary().splitlines()]
    assert rows[0] == ["layer", "output shape", "parameters", "multiplications", "receptive field"]
    assert rows[1] == ["conv1", "Conv(out_channels=16, padding='same')", "16 x 8 x 8", "160", "9,216", "3 x 3"]
    assert rows[4] == ["conv2", "Conv(out_channels=32)", "32 x 2 x 2", "4,640", "18,432", "8 x 8"]
    assert rows[5] == ["dense1", "Dense(units=10)", "10", "1,290", "1,280", "8 x 8"]
    assert rows[6] == ["total", "6,090", "28,928"]


def test_summary_shows_shapes_as_they_are_stored():
    network = Sequential([Conv(16, 3), Dense(10)], (8, 9, 1), data_format="channels_last")
    assert "6 x 7 x 16" in network.summary()
    assert network.shapes == ((1, 8, 9), (16, 6, 7), (10,))


@pytest.mark.parametrize(("layers", "expected"), [
    ([Conv(1, 3)] * 3, [(3, 3), (5, 5), (7, 7)]),
    ([Conv(1, 3, stride=2), Conv(1, 3)], [(3, 3), (7, 7)]),
    ([Conv(1, (3, 1), dilation=2), AvgPool(2), Flatten(), Dense(1)], [(5, 1), (6, 2), (6, 2), (20, 20)]),
    ([Conv(1, (5, 15), padding="same")] * 3, [(5, 15), (9, 20), (13, 20)]),
])
def test_receptive_fields_worked_by_hand(layers, expected):
    assert Sequential(layers, (1, 20, 20)).receptive_fields() == expected


def test_a_layer_that_does_not_fit_is_named_with_its_shapes():
    message = (r"Sequential: layer 'conv2', Conv\(out_channels=4, kernel_size=5\), does not fit its input of shape "
               r"\(2, 4, 4\): Conv: effective kernel \(5, 5\) is larger than the padded input \(4, 4\)")
    with pytest.raises(ValueError, match=message):
        Sequential([Conv(2, 5), Conv(4, 5)], (1, 8, 8))


def test_input_of_another_shape_is_an_error():
    network = network_of((2, 8, 7))
    with pytest.raises(ValueError, match=r"x must have shape \(N, 2, 8, 7\), got \(3, 2, 7, 8\)"):
        network.forward(np.ones((3, 2, 7, 8)))


def test_other_dtypes_and_layouts_are_errors():
    with pytest.raises(TypeError, match="dtype must be float32 or float64, got int64"):
        Sequential([Dense(2)], (3,), dtype=np.int64)
    with pytest.raises(ValueError, match="data_format must be .* got 'NCHW'"):
        Sequential([Dense(2)], (3,), data_format="NCHW")


def test_an_empty_batch_gives_an_empty_output():
    assert network_of((2, 8, 7)).forward(np.empty((0, 2, 8, 7)))[0].shape == (0, 3)


def test_training_agrees_with_pytorch():
    torch = pytest.importorskip("torch")
    layers = [Conv(6, 3, padding=1), ReLU(), MaxPool(2), Conv(8, 3), ReLU(), AvgPool(2, stride=1), Flatten(),
              Dense(5), ReLU(), Dense(3)]
    network = network_of((2, 9, 8), layers=layers)
    nn = torch.nn
    model = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3), nn.ReLU(),
                          nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        for tensor, value in zip(model.parameters(), network.parameters().values()):
            tensor.copy_(torch.tensor(value))
    x, labels, _ = data((2, 9, 8), n=16)
    optimizer, torch_optimizer = Adam(network.vector, 0.01), torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(10):
        loss, gradient = network.loss_and_gradient(x, labels)
        optimizer.step(gradient)
        torch_optimizer.zero_grad()
        torch_loss = nn.functional.cross_entropy(model(torch.tensor(x)), torch.tensor(labels))
        torch_loss.backward()
        torch_optimizer.step()
        assert loss == pytest.approx(torch_loss.item(), rel=1e-10)
    for tensor, value in zip(model.parameters(), network.parameters().values()):
        np.testing.assert_allclose(value, tensor.detach().numpy(), rtol=1e-8, atol=1e-10)


def test_a_copied_network_computes_and_learns_on_its_own():
    """The named parameters of the copy are views into its own vector."""
    network = Sequential([Conv(3, 3), ReLU(), Dense(4)], (1, 6, 6), random_state=0)
    x, labels = np.random.default_rng(0).standard_normal((5, 1, 6, 6)), np.arange(5) % 4
    network.training_step(network._batch(x), labels)
    copied = pickle.loads(pickle.dumps(network))
    expected = network.forward(x)[0]
    copied.vector *= 0.5
    np.testing.assert_array_equal(network.forward(x)[0], expected)
    assert not np.array_equal(copied.forward(x)[0], expected)
    copied.load_parameters(network.parameters())
    np.testing.assert_array_equal(copied.forward(x)[0], expected)
    np.testing.assert_array_equal(copied.loss_and_gradient(x, labels)[1], network.loss_and_gradient(x, labels)[1])


def test_results_are_not_overwritten_by_later_calls():
    network = Sequential([Conv(3, 3), ReLU(), MaxPool(2), Dense(4)], (1, 6, 6), random_state=0)
    x, labels = np.random.default_rng(0).standard_normal((2, 5, 1, 6, 6)), np.arange(5) % 4
    for call in (lambda x: network.forward(x)[0], lambda x: network.loss_and_gradient(x, labels)[1]):
        first = call(x[0])
        before = first.copy()
        call(x[1])
        np.testing.assert_array_equal(first, before)


@pytest.mark.parametrize("window", [{}, {"padding": 1}, {"kernel_size": 3, "stride": 1}])
def test_pooling_before_rectifying_changes_no_bit(window, dtype, data_format):
    """What `training_step` does against what the layers do one after the other, with ties, zeros and NaN."""
    x = np.random.default_rng(0).integers(-2, 3, (4, 2, 7, 6)).astype(dtype)
    x[0, 0, 0, 0], x[1, 1, 2, 2], x[2] = np.nan, -0.0, -1
    x = np.moveaxis(x, 1, -1).copy() if data_format == "channels_last" else x
    network = Sequential([Conv(3, 1), ReLU(), MaxPool(**window), ReLU(), Dense(4)], x.shape[1:], dtype=dtype,
                         data_format=data_format, random_state=0)
    network.vector[:] = np.random.default_rng(1).integers(-2, 3, network.vector.size)
    labels = np.arange(4)
    y, backward = network.forward(x, training=True)
    loss, dy = softmax_cross_entropy(y, labels)
    expected = backward(dy)[1]
    found, gradient = network.training_step(x, labels)
    np.testing.assert_array_equal(found, loss)
    np.testing.assert_array_equal(gradient, expected)
    np.testing.assert_array_equal(network.forward(x)[0], y)


@pytest.mark.parametrize("layer", [
    SeparableConv(4, multiplier=2), ConvTranspose(3, 2), DepthwiseConv(2), TiledConv(3), LocalConv(3), GlobalPool(),
    AdaptivePool(2), BatchNorm(), MinPool(2), LpPool(2)], ids=repr)
def test_planned_layers_compute_what_single_ones_do(layer, data_format):
    x = np.random.default_rng(0).standard_normal((4, 2, 7, 6))
    x = np.moveaxis(x, 1, -1).copy() if data_format == "channels_last" else x
    network = Sequential([Conv(2, 1), layer, ReLU(), Dense(3)], x.shape[1:], dtype=np.float64, data_format=data_format,
                         random_state=0)
    y, backward = network.forward(x, training=True)
    loss, dy = softmax_cross_entropy(y, np.arange(4) % 3)
    expected = backward(dy)[1]
    found, gradient = network.training_step(x, np.arange(4) % 3)
    np.testing.assert_array_equal(found, loss)
    np.testing.assert_array_equal(gradient, expected)
    assert network.forward(x)[0].shape == (4, 3)


def test_a_training_step_takes_any_array_of_samples_and_no_other():
    network = Sequential([Conv(3, 3), ReLU(), MaxPool(2), Dense(3)], (1, 8, 8), random_state=0)
    x, labels = np.random.default_rng(0).standard_normal((2, 1, 8, 8)), np.array([0, 1])
    loss = network.training_step(x.astype(np.float32), labels)[0]
    for same in (x, x.astype(">f4"), x.tolist()):
        assert network.training_step(same, labels)[0] == loss
    for other in (x[:, :, :4], x[:, 0], x.reshape(2, 64)):
        with pytest.raises(ValueError, match=r"Sequential: x must have shape \(N, 1, 8, 8\), got"):
            network.training_step(other, labels)
    for other in (np.ma.masked_all(x.shape), x * 1j):
        with pytest.raises(TypeError, match="^Sequential: "):
            network.forward(other)


@pytest.mark.parametrize("changes", [{"kernel_size": 5}, {"out_channels": 7}, {"padding": 1}])
def test_layers_that_were_changed_after_the_network_was_built_are_refused(changes):
    network = Sequential([Conv(3, 3), Dense(2)], (1, 8, 8))
    network.layers[0].set_params(**changes)
    with pytest.raises(ValueError, match="layer 'conv1', Conv.*, was changed after the network was built"):
        network.forward(np.ones((1, 1, 8, 8)))


def test_parameters_that_are_no_numbers_change_nothing():
    network = Sequential([Conv(3, 3), Dense(2)], (1, 8, 8), random_state=0)
    before = network.vector.copy()
    wrong = {name: 2 * value for name, value in network.parameters().items()}
    wrong["dense1.bias"] = np.array(["a", "b"])
    with pytest.raises(TypeError, match="load_parameters: unsupported dtype .* for dense1.bias"):
        network.load_parameters(wrong)
    np.testing.assert_array_equal(network.vector, before)


@pytest.mark.parametrize("data_format", ["channels_first", "channels_last"])
def test_outputs_are_those_of_each_layer_and_end_with_that_of_forward(data_format, rng):
    shape = (1, 8, 8) if data_format == "channels_first" else (8, 8, 1)
    network = Sequential([Conv(3, 3), ReLU(), MaxPool(2), Dense(2)], shape, data_format=data_format, random_state=0)
    x = rng.standard_normal((5, *shape)).astype(np.float32)
    outputs = dict(network.outputs(x))
    assert list(outputs) == list(network.names)
    np.testing.assert_array_equal(outputs["dense1"], network.forward(x)[0])
    np.testing.assert_array_equal(outputs["relu1"], np.maximum(outputs["conv1"], 0))


def test_training_step_takes_any_loss(rng):
    network = Sequential([Conv(3, 3), ReLU(), Dense(2)], (1, 8, 8), dtype=np.float64, random_state=0)
    x, targets = rng.standard_normal((5, 1, 8, 8)), rng.standard_normal((5, 2))
    value, gradient = network.loss_and_gradient(x, targets, loss=squared_error)
    y, backward = network.forward(x, training=True)
    expected, dy = squared_error(y, targets)
    assert value == expected
    np.testing.assert_array_equal(gradient, backward(dy)[1])


@pytest.mark.parametrize("shape, padding", [((2, 21), 0), ((2, 7, 9), 1), ((2, 5, 6, 7), 0)])
def test_predicted_maxima_are_rectified_like_those_of_single_layers(shape, padding, isa, dtype, data_format, rng):
    """NaN and zeros of either sign too: without a convolution in front nothing else changes them."""
    layers = [MaxPool(3, stride=2, padding=padding), ReLU(), MaxPool(2, stride=1), ReLU()]
    x = in_layout(rng.choice([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.5, -2.5], (5, *shape),
                             p=[0.02, 0.05, 0.2, 0.2, 0.1, 0.03, 0.4]).astype(dtype), data_format)
    network = Sequential(layers, x.shape[1:], dtype=dtype, data_format=data_format)
    *_, (_, expected) = network.outputs(x)
    assert_same_bits(network.forward(x)[0], expected)
    assert_same_bits(network.forward(x, training=True)[0], expected)
