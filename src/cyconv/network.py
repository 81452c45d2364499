"""Sequential: layers joined into a network, with all parameters in one vector.

The vector holds all weights, then biases and factors of channels, each in the order of the layers; every
named parameter is a view into it, so an optimizer updates the whole network at once. A second vector holds
what layers keep without training it. What a layer computes is in `layers`, what is minimised in `losses`.
"""

from math import prod

import numpy as np

from . import _arrays, _blocks, _kernels, _threads
from ._geometry import as_tuple, entries, is_integer, per_axis
from .arithmetic import receptive_field
from .layers import Dense, Dropout, Layer, MaxPool, Mode, ReLU
from .layers._layer import check_flags
from .losses import softmax_cross_entropy
from .persistence import save

__all__ = ["Sequential", "random_stream"]

ARGUMENTS = {"layers", "input_shape", "dtype", "data_format", "random_state", "parameters"}
INITIAL, SHUFFLE, DROPOUT, AUGMENT = range(4)     # purposes of random numbers
PLANS = 4                                # kept: whole and last batches, in training and prediction


def random_stream(seed, purpose, step=0):
    """Random generator whose numbers depend on its arguments and on nothing that was drawn before.

    Parameters
    ----------
    seed : int
        0 to 2**128 - 1.
    purpose : int
        0 to 2**64 - 1; different numbers for different uses of one seed.
    step : int, default 0
        0 to 2**64 - 1; different numbers at every step.

    Returns
    -------
    numpy.random.Generator
        Over Philox, a counter-based generator, with the seed as key and (purpose, step) as counter.
    """
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, step, purpose, 0]))


class Sequential:
    """Network of layers, each fed by the one before.

    Parameters
    ----------
    layers : sequence of Layer or of (str, Layer)
        Layers without a name get one: their class in lower case and a number, such as "conv2".
    input_shape : tuple of int
        Shape of one sample as the arrays hold it: (C, *spatial) with one to three spatial axes,
        (*spatial, C) for channels_last, or (F,) for a vector.
    dtype : dtype, default float32
        float32 or float64, of parameters and computation.
    data_format : {"channels_first", "channels_last"}, default "channels_first"
        Layout of the arrays that go in and out. Parameters do not depend on it.
    random_state : int or None, default None
        Seed of initial weights and dropout, 0 to 2**128 - 1; None takes a new one from the system.
    parameters : dict of str to ndarray or None, default None
        Values to start from instead of random ones, see `load_parameters`.

    Attributes
    ----------
    names : tuple of str
    layers : tuple of Layer
    shapes : tuple of tuple of int
        Shape (C, *spatial) or (F,) of the input and of each layer's output, for one sample.
    vector : ndarray of shape (n_params,)
        All parameters.
    weights : ndarray
        The part of vector that holds weights of inputs: no biases, and no factors of channels.
    state : ndarray of shape (n_state,)
        What layers keep besides, such as the running averages of `cyconv.layers.BatchNorm`.
    seed : int

    Raises
    ------
    ValueError
        When a layer cannot take what the one before puts out; it names the layer and the shapes.

    Examples
    --------
    >>> import numpy as np
    >>> from cyconv.layers import Conv, Dense, MaxPool, ReLU
    >>> network = Sequential([Conv(4, padding="same"), ReLU(), MaxPool(), Dense(10)], (1, 8, 8), random_state=0)
    >>> network.forward(np.zeros((5, 1, 8, 8)))[0].shape
    (5, 10)
    >>> print(network.summary())
    layer                                           output shape  parameters  multiplications  receptive field
    conv1     Conv(out_channels=4, padding='same')  4 x 8 x 8             40            2,304  3 x 3
    relu1     ReLU()                                4 x 8 x 8              0                0  3 x 3
    maxpool1  MaxPool()                             4 x 4 x 4              0                0  4 x 4
    dense1    Dense(units=10)                       10                   650              640  8 x 8
    total                                                                690            2,944
    """

    def __init__(self, layers, input_shape, *, dtype=np.float32, data_format="channels_first", random_state=None,
                 parameters=None):
        self.names, self.layers = named_layers(layers)
        sizes = as_tuple(input_shape)
        if not sizes:
            raise (TypeError if sizes is None else ValueError)(
                f"Sequential: input_shape must be a tuple of ints, such as (1, 28, 28), got {input_shape!r}")
        self.input_shape = per_axis("Sequential", "input_shape", sizes, len(sizes), 1)
        self.dtype = _arrays.float_dtype("Sequential", dtype)
        self.data_format = data_format
        self.seed = np.random.SeedSequence().entropy if random_state is None else random_state
        if not is_integer(self.seed) or not 0 <= self.seed < 2**128:
            raise ValueError("Sequential: random_state must be None or an int from 0 to 2**128 - 1, "
                             f"got {random_state!r}")
        if data_format not in ("channels_first", "channels_last"):
            raise ValueError("Sequential: data_format must be 'channels_first' or 'channels_last', "
                             f"got {data_format!r}")
        self.shapes = self._layer_shapes()
        self._owned = [layer.parameter_shapes(shape) for layer, shape in zip(self.layers, self.shapes)]
        self._kept = [layer.state_shapes(shape) for layer, shape in zip(self.layers, self.shapes)]
        self._named_shapes = self._named([shapes | kept for shapes, kept in zip(self._owned, self._kept)])
        if parameters is not None:      # they bound what is allocated
            self._check(parameters)
        self._allocate()
        if parameters is None:
            self._initialize()
        else:
            self.load_parameters(parameters)

    # ------------------------------------------------------------ building

    def _layer_shapes(self):
        shape = self.input_shape
        if self.data_format == "channels_last" and len(shape) > 1:
            shape = (shape[-1], *shape[:-1])
        shapes = [shape]
        for name, layer in zip(self.names, self.layers):
            try:
                check_flags(layer)
                shapes.append(layer.output_shape(shapes[-1]))
            except (TypeError, ValueError) as error:
                kind = TypeError if isinstance(error, TypeError) else ValueError
                raise kind(f"Sequential: layer {name!r}, {layer!r}, does not fit its input of shape "
                           f"{shapes[-1]}: {error}") from error
        return tuple(shapes)

    def _allocate(self):
        """The vector, and for each layer the slices of its parameters and views into the vector."""
        owned = self._owned
        of_inputs = [(number, name) for number, shapes in enumerate(owned) for name, shape in shapes.items()
                     if name.endswith("weight") and len(shape) > 1]
        others = [(number, name) for number, shapes in enumerate(owned) for name in shapes
                  if (number, name) not in of_inputs]
        self._slices, end = [{} for _ in owned], 0
        for number, name in of_inputs + others:
            start, end = end, end + prod(owned[number][name])
            self._slices[number][name] = slice(start, end)
        self._n_weights = sum(prod(owned[number][name]) for number, name in of_inputs)
        self.vector = np.zeros(end, self.dtype)
        self.state = np.zeros(sum(prod(shape) for shapes in self._kept for shape in shapes.values()), self.dtype)
        self._make_views()
        self._first = next((number for number, p in enumerate(self._params) if p), len(owned))
        self._has_dropout = any(isinstance(layer, Dropout) for layer in self.layers)

    def _make_views(self):
        """Arrays with names as views into the vectors; what layers keep stands among their parameters."""
        self._params = self._views(self.vector)
        end = 0
        for params, shapes in zip(self._params, self._kept):
            for name, shape in shapes.items():
                start, end = end, end + prod(shape)
                params[name] = self.state[start:end].reshape(shape)
        self.weights = self.vector[:self._n_weights]
        self._gradient = np.empty_like(self.vector)
        self._gradients = self._views(self._gradient)
        self._plans = {}

    def _views(self, vector):
        """For each layer its parameters by name, as views into a vector like `vector`."""
        return [{name: vector[slices[name]].reshape(shape) for name, shape in shapes.items()}
                for slices, shapes in zip(self._slices, self._owned)]

    def _initialize(self):
        rng = random_stream(self.seed, INITIAL)
        for layer, shape, params in zip(self.layers, self.shapes, self._params):
            values = layer.initialize(shape, rng, self.dtype) | layer.initial_state(shape, self.dtype)
            for name, value in values.items():
                params[name][...] = value

    # ------------------------------------------------------------ parameters in and out

    def _named(self, params):
        return {f"{name}.{key}": value for name, own in zip(self.names, params) for key, value in own.items()}

    def parameters(self):
        """Copies of all parameters and of `state`, named "<layer>.weight" and so on, in the order of the layers.

        Names and layouts are PyTorch's: weight (out_channels, in_channels / groups, *kernel), (units,
        features) or, of a normalisation, (channels,); bias, running_mean and running_var (out_channels,).
        """
        return {name: value.copy() for name, value in self._named(self._params).items()}

    def load_parameters(self, parameters):
        """Copy values into all parameters and the state.

        Parameters
        ----------
        parameters : dict of str to array_like
            With the names and shapes of `parameters`.

        Raises
        ------
        ValueError
            When a name is missing or unknown, or a shape differs; nothing is changed then.
        """
        values = self._check(parameters)
        for name, target in self._named(self._params).items():
            target[...] = values[name]

    def _check(self, parameters):
        """``parameters`` as arrays, if they have the names and shapes of this network's."""
        if not hasattr(parameters, "keys"):
            raise TypeError(f"load_parameters: parameters must be a dict of names and arrays, got {parameters!r:.200}")
        own = self._named_shapes
        if own.keys() != parameters.keys():
            raise ValueError(f"load_parameters: missing {sorted(own.keys() - parameters.keys())}, "
                             f"unknown {sorted(parameters.keys() - own.keys())}")
        for name, shape in own.items():
            if np.shape(parameters[name]) != shape:
                raise ValueError(f"load_parameters: {name} must have shape {shape}, got {np.shape(parameters[name])}")
        return {name: _arrays.as_array("load_parameters", name, parameters[name]) for name in own}

    def scale_input(self, factor):
        """Change the first weights so that x gives what ``factor * x`` gave before.

        Exact when factor, a number > 0, is a power of two; for other factors as exact as the weights.
        ValueError when a layer before the weights, or they themselves, normalise: no weights undo that.
        """
        for name, layer, shape in zip(self.names, self.layers[:self._first + 1], self.shapes):
            if layer.state_shapes(shape):
                raise ValueError(f"scale_input: layer {name!r}, {layer!r}, comes before the first weights of inputs "
                                 "and depends on their scale; put a Conv or Dense layer in front")
        if self._first < len(self.layers):
            self._params[self._first]["weight"] *= factor

    # ------------------------------------------------------------ running

    def forward(self, x, *, training=False, step=0, needs_input_grad=False, n_threads=None):
        """Output of the network for a batch.

        Parameters
        ----------
        x : array_like of shape (N, *input_shape)
        training : bool, default False
            Whether dropout drops and a backward function is wanted.
        step : int, default 0
            Number of this training step: with the seed, it alone decides what dropout drops.
        needs_input_grad : bool, default False
            Whether the gradient with respect to x is wanted.
        n_threads : int or None, default None
            As for the functions.

        Returns
        -------
        y : ndarray of shape (N, *output_shape)
        backward : callable or None
            ``backward(dy) -> (dx, gradient)``: dx of the shape of x (None unless needs_input_grad),
            gradient of the shape of `vector`. None unless training.
        """
        y = self._batch(x)
        if not training:
            for number, run in self._planned(len(y), False, n_threads):
                y, _ = run(y, self._params[number])
            return y.copy(), None
        rng = random_stream(self.seed, DROPOUT, step) if self._has_dropout else None
        inner = Mode(training, self.data_format, n_threads, rng)
        outer = inner if needs_input_grad else inner._replace(needs_input_grad=False)
        backwards = []
        for number, (layer, params) in enumerate(zip(self.layers, self._params)):
            y, backward = layer.forward(y, params, inner if number > self._first else outer)
            backwards.append(backward)
        last = 0 if needs_input_grad else self._first
        return y, lambda dy: self._backward(backwards, dy, last)

    def outputs(self, x, *, n_threads=None):
        """What each layer makes of a batch, in prediction: yields (name, ndarray of shape (N, *shape)), in order.

        x and n_threads as for `forward`; one array is made at a time, so that none need be kept.
        """
        y, mode = self._batch(x), Mode(False, self.data_format, n_threads)
        for name, layer, params in zip(self.names, self.layers, self._params):
            y, _ = layer.forward(y, params, mode)
            yield name, y

    def _batch(self, x):
        """x as an array of the network's dtype, if it is a batch of samples."""
        x = _arrays.as_array("Sequential", "x", x)
        if x.dtype != self.dtype or not x.flags.aligned:
            x = np.require(x, self.dtype, "A")
        if x.shape[1:] != self.input_shape:
            expected = ", ".join(map(str, self.input_shape))
            raise ValueError(f"Sequential: x must have shape (N, {expected}), got {x.shape}")
        return x

    def _backward(self, backwards, dy, last):
        gradient = np.empty_like(self.vector)
        for number in range(len(backwards) - 1, last - 1, -1):
            dy, gradients = backwards[number](dy)
            for name, value in gradients.items():
                gradient[self._slices[number][name]] = value.reshape(-1)
        return dy, gradient

    def loss_and_gradient(self, x, targets, sample_weight=None, *, loss=softmax_cross_entropy, step=0,
                          n_threads=None):
        """Loss of a batch in training, and its gradient.

        Parameters
        ----------
        x : array_like of shape (N, *input_shape)
        targets : ndarray
            What ``loss`` compares the outputs with; for the default, numbers of the right outputs, (N,).
        sample_weight : ndarray of shape (N,) or None, default None
        loss : callable, default `cyconv.losses.softmax_cross_entropy`
            ``loss(outputs, targets, sample_weight) -> (float, gradient like outputs)``.
        step, n_threads
            As for `forward`.

        Returns
        -------
        loss : float
            Weighted mean over the batch.
        gradient : ndarray of shape (n_params,)
            With respect to `vector`.
        """
        value, gradient = self.training_step(x, targets, sample_weight, loss=loss, step=step, n_threads=n_threads)
        return value, gradient.copy()

    def training_step(self, x, targets, sample_weight=None, *, loss=softmax_cross_entropy, step=0, n_threads=None):
        """`loss_and_gradient` whose gradient the next call overwrites."""
        x = self._batch(x)
        rng = random_stream(self.seed, DROPOUT, step) if self._has_dropout else None
        backwards = []
        for number, run in self._planned(len(x), True, n_threads):
            x, backward = run(x, self._params[number], rng)
            backwards.append((number, backward))
        value, dy = loss(x, targets, sample_weight)
        for number, backward in reversed(backwards):
            if number >= self._first:
                dy = backward(dy, self._gradients[number])
        return value, self._gradient

    def _planned(self, n, training, n_threads):
        """(number, run) of the layers, planned for batches of n samples. A few plans are kept: they hold arrays."""
        key = n, training, _threads.effective(n_threads, "Sequential"), _kernels.isa
        if key not in self._plans:
            if len(self._plans) == PLANS:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = self._plan(n, Mode(training, self.data_format, n_threads))
        return self._plans[key]

    def _plan(self, n, mode):
        for layer, name, owned, shape, after in zip(self.layers, self.names, self._owned, self.shapes, self.shapes[1:]):
            if layer.parameter_shapes(shape) != owned or layer.output_shape(shape) != after:
                raise ValueError(f"Sequential: layer {name!r}, {layer!r}, was changed after the network was built; "
                                 "build a new one")
        order = in_order_of_work(self.layers)
        layers, shapes = [self.layers[number] for number in order], [self.shapes[0]]
        for layer in layers:
            shapes.append(layer.output_shape(shapes[-1]))
        n_leading, is_last = _blocks.n_leading(layers, shapes, n, self.dtype), self.data_format == "channels_last"
        plan, keeps = [], True         # whether a layer keeps x for its gradient, or it is the user's
        if n_leading:
            blocks = _blocks.Blocks(layers[:n_leading], shapes[:n_leading + 1], n, self.dtype, mode.n_threads)
            plan.append((-1, blocks.enter(is_last)))
        for place, (number, layer) in enumerate(zip(order, layers)):
            mode = mode._replace(needs_input_grad=number > self._first, in_place=not keeps)
            if place < n_leading:
                run = blocks.bind(place, mode)
            elif not mode.training and place - 1 >= n_leading and maximum_then_relu(layers[place - 1:place + 1]):
                continue
            else:
                rectify = {"rectify": True} if not mode.training and maximum_then_relu(layers[place:place + 2]) else {}
                run = layer.bind((n, *self._as_stored(shapes[place])), self.dtype, mode, **rectify)
            if run is not None:
                plan.append((number, run))
            keeps = layer.keeps_output
            if place + 1 == n_leading:
                plan.append((number, blocks.leave(is_last, place in blocks.taken or not keeps)))
                keeps = False
        return plan

    # ------------------------------------------------------------ in files and pickles

    def save(self, path):
        """Write the network to a file that `cyconv.load` reads.

        The file is an npz archive of arrays and JSON: it holds no code, and reading it executes none.
        A file that is there already is replaced when the new one is whole.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        TypeError, ValueError
            If a layer is none of cyconv's, or an argument no plain value; nothing is written then.
        OSError
            If the file cannot be written.
        """
        save(self, self.__getstate__(), path)

    @classmethod
    def _from_content(cls, content):
        """The network that `save` described."""
        network = cls.__new__(cls)
        network.__setstate__(content)
        return network

    def __getstate__(self):
        """The arguments that make a network with the same bits."""
        return {"layers": list(zip(self.names, self.layers)), "input_shape": self.input_shape, "dtype": self.dtype.name,
                "data_format": self.data_format, "random_state": self.seed, "parameters": self.parameters()}

    def __setstate__(self, state):
        if not isinstance(state, dict) or state.keys() != ARGUMENTS:
            raise ValueError(f"Sequential: its state has the entries {sorted(ARGUMENTS)}, got {state!r:.200}")
        if state["dtype"] not in ("float32", "float64"):
            raise ValueError(f"Sequential: dtype must be 'float32' or 'float64', got {state['dtype']!r:.100}")
        parameters = state["parameters"]
        if not isinstance(parameters, dict) or not all(
                isinstance(values, np.ndarray) and values.dtype == state["dtype"] for values in parameters.values()):
            raise ValueError(f"Sequential: parameters must be a dict of {state['dtype']} arrays")
        Sequential.__init__(self, **state)

    # ------------------------------------------------------------ description

    def receptive_fields(self):
        """For each layer, how many cells of the input one output can depend on, per spatial axis.

        At most all of them: padded layers whose windows reach beyond the input see no more than the input.
        """
        sizes = self.shapes[0][1:]
        seen, windows = sizes, [[] for _ in sizes]
        result = []
        for layer, shape in zip(self.layers, self.shapes):
            for axis, window in zip(windows, layer.window(shape)):
                axis.append(window)
            sees_all = isinstance(layer, Dense) or seen is None
            seen = None if sees_all else tuple(map(receptive_field, windows, sizes))
            result.append(sizes if sees_all else seen)
        return result

    def summary(self):
        """Table of layer, output shape, parameters, multiplications per sample and receptive field."""
        rows = [("layer", "", "output shape", "parameters", "multiplications", "receptive field")]
        totals = [0, 0]
        for name, layer, before, after, seen in zip(self.names, self.layers, self.shapes, self.shapes[1:],
                                                    self.receptive_fields()):
            counts = layer.n_params(before), layer.n_macs(before)
            totals = [total + count for total, count in zip(totals, counts)]
            rows.append((name, repr(layer), by(self._as_stored(after)), *(f"{count:,}" for count in counts), by(seen)))
        rows.append(("total", "", "", *(f"{total:,}" for total in totals), ""))
        return table(rows, right_aligned=(3, 4))

    def _as_stored(self, shape):
        return (*shape[1:], shape[0]) if self.data_format == "channels_last" else shape

    def __repr__(self):
        inner = ", ".join(f"({name!r}, {layer!r})" for name, layer in zip(self.names, self.layers))
        return f"Sequential([{inner}], input_shape={self.input_shape})"


def in_order_of_work(layers):
    """Numbers of the layers, a pooling before the rectifier that it follows.

    Both orders give the same results and gradients, to the bit: the maximum of rectified values is the
    rectified maximum, and where that is 0 nothing flows back. Pooled values are fewer.
    """
    order = list(range(len(layers)))
    for i in range(len(order) - 1):
        first, second = layers[order[i]], layers[order[i + 1]]
        if type(first) is ReLU and type(second) is MaxPool and second.padding == 0:
            order[i], order[i + 1] = order[i + 1], order[i]
    return order


def maximum_then_relu(layers):
    """Whether layers are a pooling into maxima and a rectifier, which is part of it in prediction."""
    return [type(layer) for layer in layers] == [MaxPool, ReLU]


def named_layers(layers):
    """Names and layers as two tuples; layers without a name are numbered by kind."""
    names, found, count = [], [], {}
    for entry in entries("Sequential", "layers", "Layers or (str, Layer)", layers):
        name, layer = entry if isinstance(entry, (tuple, list)) and len(entry) == 2 else (None, entry)
        if not isinstance(layer, Layer) or not isinstance(name, str | None):
            hint = f"; write {layer.__name__}(...)" if isinstance(layer, type) and issubclass(layer, Layer) else ""
            raise TypeError(f"Sequential: layers must be Layers or (str, Layer), got {entry!r:.200}{hint}")
        if name is None:
            kind = type(layer).__name__.lower()
            count[kind] = count.get(kind, 0) + 1
            name = f"{kind}{count[kind]}"
        names.append(name)
        found.append(layer)
    if len(set(names)) < len(names):
        raise ValueError(f"Sequential: names of layers must differ, got {names}")
    return tuple(names), tuple(found)


def by(sizes):
    return " x ".join(map(str, sizes))


def table(rows, right_aligned):
    """Rows of text in columns two spaces apart."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ("  ".join(cell.rjust(width) if number in right_aligned else cell.ljust(width)
                       for number, (cell, width) in enumerate(zip(row, widths))) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
