"""Pictures show what the network computes, and follow scikit-learn's Display convention."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cyconv import ConvNetClassifier, ConvNetRegressor, Sequential, displays, layers, saliency
from cyconv.displays import ArchitectureDisplay, FeatureMapDisplay, FilterDisplay, HistoryDisplay, SaliencyDisplay

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
pyplot = pytest.importorskip("matplotlib.pyplot")

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
METHODS = {"gradient": saliency.input_gradient, "grad_cam": saliency.grad_cam, "occlusion": saliency.occlusion}
SHAPES = {"signal": (2, 30), "grey": (1, 9, 9), "colour": (3, 9, 10), "volume": (1, 6, 7, 8)}
LABELS = np.array(["left", "middle", "right"])


@pytest.fixture(autouse=True)
def close_figures():
    yield
    pyplot.close("all")


def trained(kind, **parameters):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((24, *SHAPES[kind])).astype(np.float32)
    how = {"conv_channels": (4, 5), "max_iter": 2, "n_iter_no_change": 9, "random_state": 0,
           "spatial_dims": len(SHAPES[kind]) - 1} | parameters
    return ConvNetClassifier(**how).fit(x, LABELS[np.arange(24) % 3]), x


@pytest.fixture(params=SHAPES)
def model_and_x(request):
    return trained(request.param)


def drawn(ax):
    """The array of the only image of axes, with NaN where it is empty."""
    image, = ax.get_images()
    return np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)


def middle(values):
    return values[len(values) // 2] if values.ndim == 3 else values


# ------------------------------------------------------------ what they show

def test_history_shows_the_columns_of_history():
    model, _ = trained("grey", early_stopping=True, validation_fraction=0.25, learning_rate="cosine", max_iter=6)
    display = HistoryDisplay.from_estimator(model)
    loss, score, rate = display.axes_
    assert [ax.get_ylabel() for ax in display.axes_] == ["loss", "validation score", "learning rate"]
    history = model.history_
    training, validation, lowest = loss.get_lines()
    for line, column in ((training, "loss"), (validation, "validation_loss"),
                         (score.get_lines()[0], "validation_score"), (rate.get_lines()[0], "learning_rate")):
        np.testing.assert_array_equal(line.get_xdata(), history["epoch"])
        np.testing.assert_array_equal(line.get_ydata(), history[column])
    assert lowest.get_ydata()[0] == min(history["validation_loss"])
    assert score.get_lines()[1].get_ydata()[0] == max(history["validation_score"])
    assert "6 epochs" in display.figure_.get_suptitle() and "ConvNetClassifier" in display.figure_.get_suptitle()


def test_history_without_validation_shows_the_loss_only():
    display = HistoryDisplay.from_estimator(trained("grey")[0])
    assert len(display.axes_) == 1 and len(display.ax_.get_lines()) == 1


def test_histories_share_axes():
    _, ax = pyplot.subplots()
    for name, kernel_size in (("small", 3), ("large", 5)):
        display = HistoryDisplay.from_estimator(trained("grey", kernel_size=kernel_size)[0], ax=ax, name=name)
        assert display.ax_ is ax and display.figure_ is ax.figure
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["small: training", "large: training"]


def test_history_takes_a_logarithm_when_losses_span_a_decade():
    for losses, scale in (([1, 0.2], "linear"), ([1, 0.05], "log"), ([1, -0.05], "linear")):
        display = HistoryDisplay({"epoch": [1, 2], "loss": losses}).plot()
        assert display.ax_.get_yscale() == scale


@pytest.mark.parametrize(("lowest", "ticks"), [(0.05, {"0.05", "0.1", "0.2", "0.5", "1"}),
                                               (1e-4, {"0.0001", "0.01", "1"})])
def test_history_has_plain_numbers_on_logarithmic_axes(lowest, ticks):
    ax = HistoryDisplay({"epoch": [1, 2], "loss": [1, lowest]}).plot().ax_
    ax.figure.canvas.draw()
    shown = {label.get_text() for label in ax.get_yticklabels()}
    assert shown >= ticks and len(shown) < 10


def test_history_of_one_epoch_is_a_visible_point():
    assert HistoryDisplay({"epoch": [1], "loss": [0.5]}).plot().ax_.get_lines()[0].get_marker() == "o"


def test_filters_are_the_weights(model_and_x):
    model, _ = model_and_x
    display, weight = FilterDisplay.from_estimator(model), model.parameters_["conv1.weight"]
    largest = np.abs(weight).max()
    for number, (ax, kernel) in enumerate(zip(display.axes_, weight)):
        assert ax.get_title() == str(number)
        if len(kernel) == 3:      # of a colour image
            np.testing.assert_allclose(drawn(ax), np.moveaxis((1 + kernel / largest) / 2, 0, -1), rtol=1e-6)
        else:
            np.testing.assert_array_equal(drawn(ax), kernel if kernel.ndim == 2 else middle(kernel[0]))
            assert ax.get_images()[0].get_clim() == (-largest, largest)
    assert len(display.axes_) == 4


def test_filters_of_many_channels_are_a_table(model_and_x):
    model, _ = model_and_x
    display, weight = FilterDisplay.from_estimator(model, layer="conv2"), model.parameters_["conv2.weight"]
    if weight.ndim == 3:
        np.testing.assert_array_equal([drawn(ax) for ax in display.axes_], weight)
        return
    table = drawn(display.axes_[0])
    for i, j in np.ndindex(5, 4):
        np.testing.assert_array_equal(table[4 * i:4 * i + 3, 4 * j:4 * j + 3], middle(weight[i, j]))
    assert np.isnan(table[3]).all() and np.isnan(table[:, 3]).all() and table.shape == (19, 15)


def test_filters_of_one_signal_are_bars():
    weight = np.array([[[1.0, -2, 3]], [[0, 0.5, -1]]])
    display = FilterDisplay(weight).plot()
    for ax, kernel in zip(display.axes_, weight):
        np.testing.assert_array_equal([bar.get_height() for bar in ax.patches], kernel[0])
        assert ax.get_ylim()[0] <= -3 and ax.get_ylim()[1] >= 3


def test_filters_are_as_many_as_asked_and_the_title_says_so():
    display = FilterDisplay(np.ones((40, 30, 2, 2)), name="big").plot(max_filters=3, max_channels=5)
    assert drawn(display.axes_[0]).shape == (8, 14)
    assert display.figure_.get_suptitle() == "big\n3 of 40 filters, 2 x 2 taps, 5 of 30 channels"
    assert len(FilterDisplay(np.ones((40, 1, 2, 2))).plot(max_filters=3).axes_) == 3


@pytest.mark.parametrize(("layer", "shape"), [
    (layers.Conv(4, groups=2), (4, 1, 3, 3)), (layers.ConvTranspose(4), (4, 2, 3, 3)),
    (layers.DepthwiseConv(3), (6, 1, 3, 3)), (layers.SeparableConv(4), (2, 1, 3, 3)),
    (layers.LocalConv(4), (64, 2, 3, 3)), (layers.TiledConv(4, tiles=2), (16, 2, 3, 3))])
def test_filters_of_every_kind_of_convolution(layer, shape):
    display = FilterDisplay.from_estimator(Sequential([layer], (2, 6, 6), random_state=0))
    assert display.filters.shape == shape


def test_feature_maps_are_the_outputs_of_the_layers(model_and_x):
    model, x = model_and_x
    display = FeatureMapDisplay.from_estimator(model, x[3:5], max_maps=3)
    outputs = dict(model.to_sequential().outputs(x[3:4]))
    assert list(display.maps) == list(outputs) == ["conv1", "relu1", "maxpool1", "conv2", "relu2", "maxpool2", "dense1"]
    np.testing.assert_array_equal(display.sample, x[3])
    for axes, (name, (values,)) in zip(display.axes_[1:], outputs.items()):
        assert axes[0].get_ylabel().startswith(name)
        if values.ndim == 1:
            np.testing.assert_array_equal([bar.get_height() for bar in axes[0].patches], values)
        elif values.ndim == 2:
            np.testing.assert_array_equal(drawn(axes[0]), values)
        else:
            np.testing.assert_array_equal([drawn(ax) for ax in axes], [middle(channel) for channel in values[:3]])
            assert axes[0].get_ylabel().endswith("3 shown")
    assert [text.get_text() for text in display.axes_[-1][0].get_xticklabels()] == LABELS.tolist()


def test_labels_stand_upright_where_they_would_overlap():
    for labels, rotation in ((["a", "b"], 0), ([f"class {i}" for i in range(20)], 90)):
        display = FeatureMapDisplay(np.ones((1, 4, 4)), {"dense": np.ones(len(labels))}, labels=labels).plot()
        assert {text.get_rotation() for text in display.axes_[-1][0].get_xticklabels()} == {rotation}


def test_feature_maps_have_one_scale_for_a_layer_with_zero_at_a_fixed_colour():
    model, x = trained("grey")
    display = FeatureMapDisplay.from_estimator(model, x[:1])
    conv1, relu1 = (np.abs(display.maps[name]).max() for name in ("conv1", "relu1"))
    assert {ax.get_images()[0].get_clim() for ax in display.axes_[1]} == {(-conv1, conv1)}
    assert {ax.get_images()[0].get_clim() for ax in display.axes_[2]} == {(0, relu1)}


def test_feature_maps_of_some_layers_and_channels_last():
    model, x = trained("colour")
    last = ConvNetClassifier((4, 5), data_format="channels_last", max_iter=2, n_iter_no_change=9, random_state=0)
    last.fit(np.moveaxis(x, 1, -1), LABELS[np.arange(24) % 3])
    first, second = (FeatureMapDisplay.from_estimator(estimator, sample[:1], layers=["relu1", "conv1"])
                     for estimator, sample in ((model, x), (last, np.moveaxis(x, 1, -1))))
    assert list(first.maps) == list(second.maps) == ["conv1", "relu1"] and len(first.axes_) == 3
    for name, values in first.maps.items():
        np.testing.assert_allclose(values, second.maps[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_saliency_is_that_of_the_predicted_class(model_and_x, method):
    model, x = model_and_x
    display = SaliencyDisplay.from_estimator(model, x[:3], method=method)
    predicted = np.searchsorted(LABELS, model.predict(x[:3]))
    expected = METHODS[method](model.to_sequential(), x[:3], predicted)
    assert display.titles == model.predict(x[:3]).tolist()
    np.testing.assert_array_equal(display.maps, expected)
    for (_, ax), values in zip(display.axes_.T, expected):
        largest = values.max() if method != "occlusion" else 1
        shown = drawn(ax)[0] if values.ndim == 1 else drawn(ax)
        np.testing.assert_allclose(shown, middle(values) / (largest or 1), rtol=1e-6)
        low, high = ax.get_images()[0].get_clim()
        assert low == (-high if method == "occlusion" else 0)
    if x.ndim == 3:
        for (top, below), sample in zip(display.axes_.T, x):
            for ax in (top, below):
                np.testing.assert_array_equal([line.get_ydata() for line in ax.get_lines()], sample)


def test_saliency_of_a_chosen_class_and_with_options():
    model, x = trained("grey")
    display = SaliencyDisplay.from_estimator(model, x[:2], method="occlusion", target="right", size=2, fill=1.0)
    np.testing.assert_array_equal(display.maps, saliency.occlusion(model.to_sequential(), x[:2], [2, 2], 2, 1.0))
    assert display.titles == ["right", "right"]


def test_saliency_of_a_regressor_names_the_output_and_its_value():
    x = np.random.default_rng(0).standard_normal((10, 1, 6, 6)).astype(np.float32)
    model = ConvNetRegressor((3,), max_iter=2, n_iter_no_change=9, random_state=0).fit(x, x[:, 0, :2, 0])
    display = SaliencyDisplay.from_estimator(model, x[:1], target=1)
    assert display.titles == [f"output 1: {model.predict(x[:1])[0, 1]:.3g}"]


def test_architecture_shows_what_the_network_says_of_itself(model_and_x):
    model, _ = model_and_x
    network = model.to_sequential()
    display = ArchitectureDisplay.from_estimator(model, title="Mine")
    assert [row[1] for row in display.text_] == [" x ".join(map(str, shape)) for shape in network.shapes]
    assert f"{network.vector.size:,} parameters" in display.ax_.get_title()
    assert sum(int(row[2].replace(",", "") or 0) for row in display.text_) == network.vector.size
    summary = network.summary()
    for name, layer, row in zip(network.names, network.layers, display.text_[1:]):
        line = next(line for line in summary.splitlines() if line.startswith(f"{name} "))
        assert row[0] == f"{name}  {layer!r}"
        assert all(cell in line for cell in row[1:])
    shown = {text.get_text() for text in display.ax_.texts}
    assert shown.issuperset(cell for row in display.text_ for cell in row[1:])


# ------------------------------------------------------------ the convention

EVERY = {HistoryDisplay: (), FilterDisplay: (), ArchitectureDisplay: (), FeatureMapDisplay: ("X",),
         SaliencyDisplay: ("X",)}


@pytest.mark.parametrize("display", EVERY)
def test_displays_draw_in_the_place_of_axes(display):
    model, x = trained("grey")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 5))
    shown = display.from_estimator(model, *[x[:2] for _ in EVERY[display]], ax=right)
    assert shown.figure_ is figure
    figure.canvas.draw()
    boxes = [ax.get_window_extent() for ax in np.concatenate([np.ravel(axes) for axes in getattr(
        shown, "axes_", [shown.__dict__.get("ax_")])])]
    assert boxes and min(box.x0 for box in boxes) > left.get_window_extent().x1
    with pytest.raises(ValueError, match="axes placed by hand"):
        FilterDisplay.from_estimator(model, ax=figure.add_axes((0, 0, 1, 1)))


@pytest.mark.parametrize("display", EVERY)
def test_displays_reach_into_pipelines_and_searches(display):
    """What comes before the network in a pipeline changes X."""
    rng = np.random.default_rng(0)
    x, y = 5 + 3 * rng.standard_normal((24, 64)), np.arange(24) % 2
    pipeline = make_pipeline(StandardScaler(), ConvNetClassifier(
        (3,), input_shape=(8, 8), max_iter=2, n_iter_no_change=9, random_state=0))
    search = GridSearchCV(pipeline, {"convnetclassifier__kernel_size": [3]}, cv=2).fit(x, y)
    shown = display.from_estimator(search, *[x[:1] for _ in EVERY[display]])
    if EVERY[display]:
        sample = shown.sample if display is FeatureMapDisplay else shown.samples[0]
        scaled = search.best_estimator_[:-1].transform(x[:1])
        np.testing.assert_allclose(sample.ravel(), scaled[0], rtol=1e-6)


@pytest.mark.parametrize("display", EVERY)
def test_displays_refuse_other_estimators(display):
    x = np.arange(8.0).reshape(4, 2)
    with pytest.raises(TypeError, match="ConvNetClassifier, a ConvNetRegressor, or .* got SVC"):
        display.from_estimator(SVC().fit(x, [0, 1, 0, 1]), *[x for _ in EVERY[display]])


def test_displays_refuse_names_that_are_not_there():
    model, x = trained("grey")
    with pytest.raises(ValueError, match="conv1, conv2; got 'relu1'"):
        FilterDisplay.from_estimator(model, layer="relu1")
    with pytest.raises(ValueError, match="layers must be among conv1, .*, got conv7"):
        FeatureMapDisplay.from_estimator(model, x[:1], layers=["conv7"])
    with pytest.raises(ValueError, match="method must be one of 'gradient', 'grad_cam', 'occlusion', got 'magic'"):
        SaliencyDisplay.from_estimator(model, x[:1], method="magic")
    with pytest.raises(ValueError, match="target must be one of 'left', 'middle', 'right', got 'up'"):
        SaliencyDisplay.from_estimator(model, x[:1], target="up")


def test_matplotlib_is_imported_when_something_is_drawn():
    code = """
import sys
sys.modules["matplotlib"] = None
from cyconv import displays
histories = displays.HistoryDisplay({"epoch": [1], "loss": [1.0]})
try:
    histories.plot()
except ImportError as error:
    assert "HistoryDisplay.plot requires matplotlib" in str(error), error
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_display_is_public():
    assert set(displays.__all__) == {display.__name__ for display in EVERY}


@pytest.mark.parametrize("display", [HistoryDisplay, FilterDisplay])
def test_axes_that_are_none_are_named(display):
    with pytest.raises(TypeError, match="ax must be matplotlib Axes or None, got 3"):
        display.from_estimator(trained("grey")[0], ax=3)


@pytest.mark.parametrize(("method", "known"), [("gradient", r"\[\]"), ("grad_cam", r"\['layer'\]"),
                                               ("occlusion", r"\['size', 'fill'\]")])
def test_options_of_saliency_are_listed(method, known):
    model, x = trained("grey")
    with pytest.raises(TypeError, match=rf"method='{method}' takes the options {known}, got \['box'\]"):
        SaliencyDisplay.from_estimator(model, x[:2], method=method, box=3)
