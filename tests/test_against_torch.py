"""Accuracy on signals and volumes made here, against PyTorch networks of the same shape trained as long."""

import numpy as np
import pytest

from cyconv import ConvNetClassifier

torch = pytest.importorskip("torch")
nn = torch.nn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SEEDS, EPOCHS, RATE, BATCH, CHANNELS, N_TRAIN = range(3), 20, 3e-3, 32, (8, 16), 400
CONV, POOL = {1: nn.Conv1d, 3: nn.Conv3d}, {1: nn.MaxPool1d, 3: nn.MaxPool3d}


def signals(rng, n=800, length=48):
    """A pulse somewhere in noise, and whether it is one of a box, a triangle, a saw and its mirror image."""
    pulses = np.stack([np.ones(9), 1.5 * (1 - abs(np.arange(9) - 4) / 4), np.arange(9) / 5, np.arange(9)[::-1] / 5])
    x, y = 0.1 * rng.standard_normal((n, 1, length)), rng.integers(0, 4, n)
    for sample, label, start in zip(x[:, 0], y, rng.integers(0, length - 9, n)):
        sample[start:start + 9] += pulses[label]
    return x.astype(np.float32), y


def volumes(rng, n=600, size=8):
    """A plate somewhere in noise, and to which of the three axes it stands upright."""
    x, y = 0.3 * rng.standard_normal((n, 1, size, size, size)), rng.integers(0, 3, n)
    for sample, label, start in zip(x[:, 0], y, rng.integers(0, size - 4, (n, 3))):
        box = [slice(s, s + 4) for s in start]
        box[label] = slice(start[label] + 1, start[label] + 2)
        sample[tuple(box)] += 1
    return x.astype(np.float32), y


def torch_accuracy(x, y, seed):
    """Of the network of `ConvNetClassifier(CHANNELS)`, with Adam on shuffled batches."""
    torch.manual_seed(seed)
    rank = x.ndim - 2
    blocks = [layer for k_in, k_out in zip((1, *CHANNELS), CHANNELS)
              for layer in (CONV[rank](k_in, k_out, 3, padding="same"), nn.ReLU(), POOL[rank](2))]
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    with torch.no_grad():
        width = nn.Sequential(*blocks, nn.Flatten())(x[:1]).shape[1]
    network = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(width, int(y.max()) + 1))
    optimizer, loss = torch.optim.Adam(network.parameters(), RATE, weight_decay=0), nn.CrossEntropyLoss()
    for _ in range(EPOCHS):
        for rows in torch.randperm(N_TRAIN).split(BATCH):
            optimizer.zero_grad()
            loss(network(x[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return (network(x[N_TRAIN:]).argmax(1) == y[N_TRAIN:]).double().mean().item()


def accuracy(x, y, seed):
    model = ConvNetClassifier(CHANNELS, spatial_dims=x.ndim - 2, alpha=0.0, learning_rate_init=RATE, batch_size=BATCH,
                              max_iter=EPOCHS, n_iter_no_change=np.inf, random_state=seed)
    return model.fit(x[:N_TRAIN], y[:N_TRAIN]).score(x[N_TRAIN:], y[N_TRAIN:])


@pytest.mark.parametrize("make", (signals, volumes))
def test_accuracy_is_that_of_the_same_network_in_pytorch_at_least(make, rng):
    x, y = make(rng)
    ours, theirs = (np.mean([train(x, y, seed) for seed in SEEDS]) for train in (accuracy, torch_accuracy))
    assert ours >= theirs > 0.7
