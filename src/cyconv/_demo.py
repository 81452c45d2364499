"""The demonstration: digits in, a trained and grid-searched network out, every step shown."""

import warnings
from time import perf_counter

import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from . import show_config
from .classifier import ConvNetClassifier
from .network import table

EPOCHS = 30
GRID = {
    "convnetclassifier__conv_channels": [(8, 16), (16, 32)],
    "convnetclassifier__learning_rate_init": [0.001, 0.004],
}


def run(plot=None):
    """Show everything on the terminal; save a picture to ``plot`` if it is a file name."""
    if plot is not None:
        import matplotlib  # noqa: F401  (before the work, not after it)
    config = show_config("dicts")
    print(f"cyconv {config['cyconv']} on {config['instruction set']}, {config['threads']} threads\n")
    X, y = load_digits(return_X_y=True)
    X = X.astype(np.float32)
    X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.25, stratify=y, random_state=0)
    print(f"{len(X_train)} handwritten digits of 8 x 8 pixels to learn from, {len(X_test)} held out\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)     # the demonstration stops early
        first = train(X_train, y_train)
        search = grid_search(X_train, y_train)
    best = search.best_estimator_
    predicted = held_out(best, X_test, y_test)
    if plot is not None:
        draw(plot, first.loss_curve_, best, X_test, y_test, predicted)
        print(f"\npicture saved to {plot}")


def train(X, y):
    """One network, epoch by epoch."""
    classifier = ConvNetClassifier(input_shape=(8, 8), max_iter=EPOCHS, random_state=0, verbose=2)
    start = perf_counter()
    classifier.fit(X, y)
    seconds = perf_counter() - start
    print(f"\ntrained {classifier.n_iter_} epochs in {seconds:.2f} s: "
          f"{classifier.t_ / seconds:,.0f} images per second\n")
    return classifier


def grid_search(X, y):
    """Every combination of `GRID` in a pipeline, three-fold cross-validated on two processes."""
    pipeline = make_pipeline(MinMaxScaler(), ConvNetClassifier(input_shape=(8, 8), max_iter=EPOCHS, random_state=0))
    start = perf_counter()
    search = GridSearchCV(pipeline, GRID, cv=3, n_jobs=2).fit(X, y)
    results = search.cv_results_
    print(f"grid search in a Pipeline, {len(results['params'])} combinations x 3 folds, {perf_counter() - start:.1f} s")
    names = [name.split("__")[1] for name in GRID]
    rows = [(*names, "accuracy", "+-", "fit time", "rank")]
    for params, *numbers in zip(results["params"], results["mean_test_score"], results["std_test_score"],
                                results["mean_fit_time"], results["rank_test_score"]):
        mean, deviation, seconds, rank = numbers
        rows.append((*map(str, params.values()), f"{mean:.4f}", f"{deviation:.4f}", f"{seconds:.2f} s", str(rank)))
    print(table(rows, right_aligned=(2, 3, 4, 5)))
    return search


def held_out(best, X, y):
    """Predictions for data that no training has seen, and how good and fast they are."""
    best.predict(X)
    start = perf_counter()
    predicted = best.predict(X)
    seconds = perf_counter() - start
    right = int((predicted == y).sum())
    print(f"\nheld-out accuracy of the best {right / len(y):.4f} ({right} of {len(y)}), "
          f"{len(y) / seconds:,.0f} predictions per second")
    counts = confusion_matrix(y, predicted)
    rows = [("true \\ predicted", *map(str, range(10)))]
    rows += [(str(label), *(str(n) if n else "." for n in row)) for label, row in enumerate(counts)]
    print(table(rows, right_aligned=range(1, 11)))
    return predicted


def draw(file, loss_curve, best, X, y, predicted):
    """One picture: loss curve, first-layer filters, some digits with predictions, confusion matrix."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8.5), layout="constrained", dpi=120)
    (loss, filters), (digits, confusion) = figure.subfigures(2, 2)
    draw_loss(loss, loss_curve)
    draw_filters(filters, best[-1].parameters_["conv1.weight"][:, 0])
    draw_digits(digits, X, y, predicted)
    draw_confusion(confusion, confusion_matrix(y, predicted))
    figure.savefig(file)


def draw_loss(figure, loss_curve):
    figure.suptitle("Training loss")
    axes = figure.subplots()
    axes.semilogy(range(1, len(loss_curve) + 1), loss_curve, color="tab:blue")
    axes.set(xlabel="epoch", ylabel="cross-entropy + penalty")
    axes.grid(alpha=0.3)


def draw_filters(figure, filters):
    figure.suptitle("Learned filters of the first layer")
    limit = np.abs(filters).max()
    for axes, values in zip(figure.subplots(-(-len(filters) // 4), 4).flat, filters):
        axes.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_axis_off()


def draw_digits(figure, X, y, predicted):
    """All mistakes first, then whatever comes, up to 15."""
    figure.suptitle("Held-out digits: predicted (true)")
    chosen = np.argsort(predicted == y, kind="stable")[:15]
    for axes, row in zip(figure.subplots(3, 5).flat, chosen):
        is_right = predicted[row] == y[row]
        axes.imshow(X[row].reshape(8, 8), cmap="gray_r")
        axes.set_title(f"{predicted[row]}" if is_right else f"{predicted[row]} ({y[row]})", fontsize=10,
                       color="black" if is_right else "tab:red")
        axes.set_axis_off()


def draw_confusion(figure, counts):
    figure.suptitle("Confusion matrix")
    axes = figure.subplots()
    axes.imshow(np.log1p(counts), cmap="Blues")
    for (true, guess), n in np.ndenumerate(counts):
        if n:
            axes.text(guess, true, n, ha="center", va="center", fontsize=9, color="white" if true == guess else "black")
    axes.set(xlabel="predicted", ylabel="true", xticks=range(10), yticks=range(10))
