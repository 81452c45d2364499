"""scikit-learn around the estimators: meta-estimators, routing, callbacks, representation, files, threads."""

import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import joblib
import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import load_digits
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
    cross_val_predict,
    learning_curve,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.validation import check_is_fitted

from cyconv import (
    SKOPS_TRUSTED,
    ConvFeatures,
    ConvNetClassifier,
    ConvNetRegressor,
    ImageFlattener,
    ImageScaler,
    layers,
    load,
    presets,
)
from cyconv.callbacks import Checkpoint, Snapshots

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_digits(return_X_y=True)
X = X.astype(np.float32)
DATA, LABELS = X[:300], Y[:300]
BINARY = LABELS > 4


def quick(kind=ConvNetClassifier, **changes):
    return kind(**({"conv_channels": (4, 8), "input_shape": (8, 8), "max_iter": 6, "random_state": 0,
                    "learning_rate_init": 0.02, "n_jobs": 1} | changes))


# ---------------------------------------------------------------- meta-estimators

def of_two(method):
    return lambda: method(quick()).fit(DATA, BINARY).score(DATA, BINARY)


CHANCE = 0.2
USES = {
    "StandardScaler": lambda: make_pipeline(StandardScaler(), quick()).fit(DATA, LABELS).score(DATA, LABELS),
    "MinMaxScaler": lambda: make_pipeline(MinMaxScaler(), quick()).fit(DATA, LABELS).score(DATA, LABELS),
    "GridSearchCV": lambda: GridSearchCV(quick(), {"alpha": [0, 1]}, cv=2).fit(DATA, LABELS).best_score_,
    "RandomizedSearchCV": lambda: RandomizedSearchCV(quick(), {"kernel_size": [1, 3], "activation": ["relu", "gelu"]},
                                                     n_iter=2, cv=2, random_state=0).fit(DATA, LABELS).best_score_,
    "HalvingGridSearchCV": lambda: HalvingGridSearchCV(quick(), {"kernel_size": [1, 2, 3]}, cv=2, random_state=0,
                                                       min_resources=90).fit(DATA, LABELS).best_score_,
    "HalvingGridSearchCV by epochs": lambda: HalvingGridSearchCV(
        quick(), {"kernel_size": [1, 3]}, resource="max_iter", min_resources=3, max_resources=6, factor=2, cv=2,
        random_state=0).fit(DATA, LABELS).best_score_,
    "cross_val_predict": lambda: (cross_val_predict(quick(), DATA, LABELS, cv=2, method="predict_log_proba").argmax(
        axis=1) == LABELS).mean(),
    "learning_curve": lambda: learning_curve(quick(), DATA, LABELS, cv=2, train_sizes=[0.5, 1.0])[2].mean(),
    "learning_curve, incremental": lambda: learning_curve(
        quick(batch_size=8), DATA, LABELS, cv=2, train_sizes=[0.5, 0.75, 1.0],
        exploit_incremental_learning=True)[2][-1].mean(),
    "CalibratedClassifierCV": lambda: CalibratedClassifierCV(quick(), cv=2).fit(DATA, LABELS).score(DATA, LABELS),
    "FrozenEstimator": lambda: CalibratedClassifierCV(FrozenEstimator(quick().fit(DATA, LABELS))).fit(
        DATA, LABELS).score(DATA, LABELS),
    "VotingClassifier": lambda: VotingClassifier([("a", quick()), ("b", quick(random_state=1))], voting="soft").fit(
        DATA, LABELS).score(DATA, LABELS),
    "StackingClassifier": lambda: StackingClassifier([("cnn", quick()), ("linear", LogisticRegression())], cv=2).fit(
        DATA / 16, LABELS).score(DATA / 16, LABELS),
    "BaggingClassifier": lambda: BaggingClassifier(quick(), n_estimators=2, random_state=0).fit(
        DATA, LABELS).score(DATA, LABELS),
    "AdaBoostClassifier": lambda: AdaBoostClassifier(quick(), n_estimators=2, random_state=0).fit(
        DATA, LABELS).score(DATA, LABELS),
    "MultiOutputClassifier": lambda: MultiOutputClassifier(quick()).fit(
        DATA, np.stack([LABELS, LABELS // 2], axis=1)).score(DATA, np.stack([LABELS, LABELS // 2], axis=1)),
    "TunedThresholdClassifierCV": of_two(lambda e: TunedThresholdClassifierCV(e, cv=2)),
    "permutation_importance": lambda: 1.0 * (permutation_importance(
        quick().fit(DATA, LABELS), DATA, LABELS, n_repeats=1, random_state=0).importances_mean.max() > 0.005),
    "VotingRegressor": lambda: VotingRegressor([("cnn", quick(ConvNetRegressor)), ("linear", Ridge())]).fit(
        DATA, LABELS).score(DATA, LABELS),
    "BaggingRegressor": lambda: BaggingRegressor(quick(ConvNetRegressor), n_estimators=2, random_state=0).fit(
        DATA, LABELS).score(DATA, LABELS),
}


@pytest.mark.parametrize("use", USES)
def test_works_in(use):
    assert USES[use]() > CHANCE


def test_images_work_where_scikit_learn_lets_them_through():
    images = DATA.reshape(-1, 8, 8)
    for wrap in (lambda e: GridSearchCV(e, {"alpha": [0.0, 0.1]}, cv=2), lambda e: CalibratedClassifierCV(e, cv=2),
                 lambda e: AdaBoostClassifier(e, n_estimators=2), FrozenEstimator):
        estimator = quick(input_shape=None).fit(images, LABELS) if wrap is FrozenEstimator else quick(input_shape=None)
        assert wrap(estimator).fit(images, LABELS).score(images, LABELS) > CHANCE


# ---------------------------------------------------------------- routing

def test_validation_data_and_weights_are_routed_and_transformed():
    train, val = slice(0, 200), slice(200, 300)
    weight = np.linspace(0.5, 2, 200)
    with config_context(enable_metadata_routing=True):
        final = quick(early_stopping=True).set_fit_request(X_val=True, y_val=True, sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, final, transform_input=["X_val"])
        pipeline.fit(DATA[train], LABELS[train], X_val=DATA[val], y_val=LABELS[val], sample_weight=weight)
    scaler = StandardScaler().fit(DATA[train])
    expected = quick(early_stopping=True).fit(
        scaler.transform(DATA[train]), LABELS[train], weight, X_val=scaler.transform(DATA[val]), y_val=LABELS[val])
    np.testing.assert_array_equal(pipeline.predict_proba(DATA), expected.predict_proba(scaler.transform(DATA)))


# ---------------------------------------------------------------- callbacks

class StopAt:
    """A callback that stops after an epoch."""

    def __init__(self, epoch):
        self.epoch, self.seen = epoch, []

    def setup(self, estimator, context):
        self.seen.append("setup")

    def teardown(self, estimator, context):
        self.seen.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context):
        if context.task_name == "epoch":
            self.seen.append(estimator.n_iter_)
            return estimator.n_iter_ == self.epoch


def test_a_callback_stops_training():
    stop = StopAt(3)
    fitted = quick().set_callbacks(stop).fit(DATA, LABELS)
    assert stop.seen == ["setup", 1, 2, 3, "teardown"]
    np.testing.assert_array_equal(fitted.predict_proba(DATA), quick(max_iter=3).fit(DATA, LABELS).predict_proba(DATA))


def test_callbacks_are_torn_down_when_training_fails():
    stop = StopAt(3)
    with pytest.raises(ValueError, match="NaN"):
        quick().set_callbacks(stop).fit(np.full((300, 64), np.nan), LABELS)
    assert stop.seen == ["setup", "teardown"]


@pytest.mark.parametrize(("kind", "scoring"), [(ConvNetClassifier, "accuracy"), (ConvNetRegressor, "r2")])
def test_scores_of_every_epoch_are_monitored(kind, scoring):
    monitor = ScoringMonitor(scoring=scoring)
    fitted = quick(kind).set_callbacks(monitor).fit(DATA, LABELS)
    scores = [row[scoring] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    expected = [quick(kind, max_iter=n).fit(DATA, LABELS).score(DATA, LABELS) for n in (1, 2, 6)]
    assert [scores[0], scores[1], scores[5]] == pytest.approx(expected, rel=1e-6)
    assert scores[-1] == pytest.approx(fitted.score(DATA, LABELS), rel=1e-6)


def test_another_network_may_be_monitored():
    monitor = ScoringMonitor(scoring="accuracy")
    fitted = quick().fit(DATA, LABELS).set_params(conv_channels=3).set_callbacks(monitor).fit(DATA, LABELS > 4)
    assert monitor.get_logs().data[-1]["accuracy"] == fitted.score(DATA, LABELS > 4)
    assert quick().fit(DATA, LABELS).set_params(conv_channels=3, scoring="accuracy", early_stopping=True).fit(
        DATA, LABELS).best_validation_score_ > CHANCE


def test_progress_bars(capsys):
    pytest.importorskip("rich")
    quick().set_callbacks(ProgressBar()).fit(DATA, LABELS)
    assert "ConvNetClassifier - fit" in capsys.readouterr().out
    GridSearchCV(quick(), {"alpha": [0.0, 0.1]}, cv=2).set_callbacks(ProgressBar()).fit(DATA, LABELS)
    shown = capsys.readouterr().out
    assert "GridSearchCV" in shown and "ConvNetClassifier" in shown


def test_snapshots_are_the_networks_of_their_epochs():
    snapshots = Snapshots(every=2)
    fitted = quick().set_callbacks(snapshots).fit(DATA, LABELS)
    assert [stage.n_iter_ for stage in snapshots.estimators] == [2, 4, 6]
    for stage in snapshots.estimators:
        expected = quick(max_iter=stage.n_iter_).fit(DATA, LABELS)
        np.testing.assert_array_equal(stage.predict_proba(DATA), expected.predict_proba(DATA))
        assert not hasattr(stage, "_skl_callbacks")
    fitted.set_params(warm_start=True).fit(DATA, LABELS)
    assert len(snapshots.estimators) == 3 and len(snapshots.estimators[-1].loss_curve_) == 12
    with pytest.raises(ValueError, match="Snapshots: every must be an int >= 1, got 0"):
        quick().set_callbacks(Snapshots(0)).fit(DATA, LABELS)


@pytest.mark.parametrize("kind", (ConvNetClassifier, ConvNetRegressor))
def test_training_goes_on_from_a_checkpoint_with_the_same_bits(kind, tmp_path):
    stop = StopAt(4)                           # in place of a process that ends
    quick(kind).set_callbacks(Checkpoint(tmp_path / "model", every=2), stop).fit(DATA, LABELS)
    loaded = load(tmp_path / "model").set_params(warm_start=True, max_iter=2).fit(DATA, LABELS)
    whole = quick(kind).fit(DATA, LABELS)
    np.testing.assert_array_equal(loaded.predict(DATA), whole.predict(DATA))
    assert loaded.loss_curve_ == whole.loss_curve_
    with pytest.raises(TypeError, match="Checkpoint: path must be a str or path-like, got 3"):
        quick(kind).set_callbacks(Checkpoint(3)).fit(DATA, LABELS)


@pytest.mark.parametrize(("folder", "changes", "error", "message"), [
    ("no", {}, FileNotFoundError, "Checkpoint: there is no folder '.*no'"),
    ("", {"random_state": np.random.RandomState(0)}, TypeError, "save: parameters.random_state is RandomState"),
])
def test_a_checkpoint_that_cannot_be_written_is_refused_before_training(folder, changes, error, message, tmp_path):
    snapshots = Snapshots()
    with pytest.raises(error, match=message):
        quick(**changes).set_callbacks(snapshots, Checkpoint(tmp_path / folder / "model", 3)).fit(DATA, LABELS)
    assert snapshots.estimators == []


# ---------------------------------------------------------------- interruption

@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals from one thread to another")
def test_ctrl_c_is_honoured_at_once_and_leaves_the_last_whole_epoch(request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)    # processes in the background may ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    data, labels = np.tile(DATA, (20, 1)), np.tile(LABELS, 20)
    how = {"conv_channels": (16, 32), "input_shape": (8, 8), "random_state": 0}
    pressed, snapshots = [], Snapshots()

    def press():
        while not getattr(snapshots, "estimators", ()):
            time.sleep(0.01)
        time.sleep(0.02)                       # in the second epoch, which lasts some 100 ms
        pressed.append(time.perf_counter())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.warns(UserWarning, match="Training was interrupted; the network is that of epoch"):
        fitted = ConvNetClassifier(**how).set_callbacks(snapshots).fit(data, labels)
    assert time.perf_counter() - pressed[0] < 0.25
    thread.join()
    np.testing.assert_array_equal(fitted.predict_proba(DATA), snapshots.estimators[-1].predict_proba(DATA))
    assert fitted.n_iter_ == len(snapshots.estimators) < 200


# ---------------------------------------------------------------- representation and files

@pytest.mark.parametrize("estimator", [ConvNetClassifier(), ConvNetRegressor(), ImageScaler(), ImageFlattener(),
                                       ConvFeatures()], ids=lambda estimator: type(estimator).__name__)
def test_representation_describes_every_parameter_and_attribute(estimator):
    fitted = clone(estimator).fit(DATA.reshape(-1, 8, 8)[:60], LABELS[:60])
    attributes = {name for name in vars(fitted) if name.endswith("_")}
    for shown, names in ((estimator, set()), (fitted, attributes)):
        links = re.findall(r'class="param-doc-link"[^>]* href="([^#"]+)#:~:text=(\w+),', shown._repr_html_())
        assert {name for _, name in links} == {*estimator.get_params(deep=False), *names}
        path, = {url2pathname(urlparse(link).path) for link, _ in links}
        assert estimator.__doc__.splitlines()[0] in Path(path).read_text()


def test_representation_shows_what_was_learned():
    shown = quick().fit(DATA, LABELS)._repr_html_()
    for part in ("conv_channels", "history_", "classes_"):
        assert part in shown
    assert "conv1" in ConvNetClassifier(layers=presets.lenet5())._repr_html_()


@pytest.mark.parametrize("estimator", [
    quick(), quick(layers=presets.vgg_small(), max_iter=1, early_stopping=True), quick(ConvNetRegressor),
    quick(layers=[("conv", layers.SeparableConv(4)), ("mean", layers.GlobalPool())]),
], ids=["default", "layers", "regressor", "separable"])
def test_skops_round_trip_needs_the_published_list_only(estimator):
    skops = pytest.importorskip("skops.io")
    fitted = estimator.fit(DATA, LABELS)
    data = skops.dumps(fitted)
    assert set(skops.get_untrusted_types(data=data)) <= set(SKOPS_TRUSTED)
    loaded = skops.loads(data, trusted=SKOPS_TRUSTED)
    np.testing.assert_array_equal(loaded.predict(DATA), fitted.predict(DATA))
    loaded.set_params(warm_start=True, max_iter=1).fit(DATA, LABELS)
    np.testing.assert_array_equal(loaded.predict(DATA), fitted.set_params(warm_start=True, max_iter=1).fit(
        DATA, LABELS).predict(DATA))


def test_skops_round_trip_of_transformers():
    skops = pytest.importorskip("skops.io")
    pipeline = make_pipeline(ImageScaler(input_shape=(8, 8)), ConvFeatures(input_shape=(8, 8)), ImageFlattener(), quick(
        input_shape=None)).fit(DATA, LABELS)
    loaded = skops.loads(skops.dumps(pipeline), trusted=SKOPS_TRUSTED)
    np.testing.assert_array_equal(loaded.predict_proba(DATA), pipeline.predict_proba(DATA))


def test_layers_are_saved(tmp_path):
    fitted = quick(layers=presets.vgg_small(), max_iter=1, learning_rate={"schedule": "cosine"}).fit(DATA, LABELS)
    fitted.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict_proba(DATA), fitted.predict_proba(DATA))
    assert loaded.get_params() == fitted.get_params()


def test_read_only_memory_maps_are_trained_with(tmp_path):
    joblib.dump((DATA, LABELS, np.ones(300)), tmp_path / "data")
    data, labels, weight = joblib.load(tmp_path / "data", mmap_mode="r")
    assert not data.flags.writeable
    fitted = quick(early_stopping=True).fit(data, labels, weight)
    np.testing.assert_array_equal(fitted.predict_proba(data), quick(early_stopping=True).fit(
        DATA, LABELS, np.ones(300)).predict_proba(DATA))
    large = np.tile(data, (20, 1))       # above 1 MB joblib maps it for its workers
    search = GridSearchCV(quick(max_iter=1), {"alpha": [0.0, 1.0]}, cv=2, n_jobs=2).fit(large, np.tile(labels, 20))
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# ---------------------------------------------------------------- threads

def test_threads_train_and_predict_at_once():
    fitted = quick().fit(DATA, LABELS)
    expected = fitted.predict_proba(X)
    refits = {seed: quick(random_state=seed).fit(DATA, LABELS).predict_proba(DATA) for seed in (1, 2)}

    def train(seed):
        return np.array_equal(quick(random_state=seed).fit(DATA, LABELS).predict_proba(DATA), refits[seed])

    def predict(number):
        rows = np.random.default_rng(number).integers(0, len(X), 50)
        return all(np.array_equal(fitted.predict_proba(X[row:row + 1])[0], expected[row]) for row in rows)

    with ThreadPoolExecutor(8) as pool:
        results = [*pool.map(predict, range(40)), *pool.map(train, (1, 2))]
        assert all(results)


def test_small_predictions_follow_changes_of_the_parameters():
    fitted = quick().fit(DATA, LABELS)
    one = DATA[:1]
    before = fitted.predict_proba(one)
    fitted.parameters_["dense1.bias"][3] += 5          # in place
    changed = fitted.predict_proba(one)
    assert changed[0, 3] > before[0, 3]
    np.testing.assert_array_equal(changed, fitted.predict_proba(DATA[:100])[:1])
    fitted.set_params(conv_channels=3).fit(DATA.astype(np.float64), LABELS)
    np.testing.assert_array_equal(fitted.predict_proba(one), fitted.predict_proba(DATA[:100])[:1])
    check_is_fitted(clone(fitted).fit(DATA, LABELS))
