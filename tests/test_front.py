"""Calls that are known from earlier ones: equal results, and nothing that must be checked is skipped."""

import gc
import threading
import weakref
from functools import partial

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import cyconv
from cyconv import _threads
from cyconv._kernels import cpu, front
from cyconv.functional import _ranked


@pytest.fixture(autouse=True)
def nothing_known():
    front.forget()
    yield
    front.forget()


@pytest.fixture
def checked(monkeypatch):
    """The names of the functions whose calls are checked, one for each call that is not known."""
    names, call = [], front.call

    def counting(name, first, args, kwargs):
        return call(name, lambda *rest: (names.append(name), first(*rest))[1], args, kwargs)

    monkeypatch.setattr(front, "call", counting)
    return names


def arrays_for(dtype):
    rng = np.random.default_rng(0)
    x, weight = (rng.integers(-8, 9, shape).astype(dtype) for shape in ((2, 4, 7, 6), (6, 4, 3, 2)))
    bias, y = np.arange(6, dtype=dtype), rng.integers(-8, 9, (2, 6, 5, 5)).astype(dtype)
    pooled, indices = cyconv.max_pool2d(x, 2, return_indices=True)
    return x, weight, bias, y, pooled, indices


CALLS = {
    "conv": lambda x, w, b, y, p, i: cyconv.conv2d(x, w),
    "conv_with_all": lambda x, w, b, y, p, i: cyconv.conv2d(x, w, b, 2, ((1, 0), (2, 1)), dilation=(2, 1)),
    "conv_by_name": lambda x, w, b, y, p, i: cyconv.conv(x=x, weight=w, bias=b, padding="same"),
    "conv_with_borders": lambda x, w, b, y, p, i: cyconv.conv2d(x, w, b, padding=[2, 1], padding_mode="reflect"),
    "conv_of_one": lambda x, w, b, y, p, i: cyconv.conv2d(x[1], w, b),
    "conv_without_taps": lambda x, w, b, y, p, i: cyconv.conv2d(x[:, :0], w[:, :0], b),
    "conv_into": lambda x, w, b, y, p, i: cyconv.conv2d(x, w, out=np.empty((2, 6, 5, 5), x.dtype.newbyteorder("="))),
    "depthwise": lambda x, w, b, y, p, i: cyconv.depthwise_conv2d(x, w[:4, :1]),
    "tiled": lambda x, w, b, y, p, i: cyconv.tiled_conv2d(x, np.stack([w, w + 1])[:, None]),
    "separable": lambda x, w, b, y, p, i: cyconv.separable_conv2d(x, w[:4, :1], w[:, :, 0, 0]),
    "transposed": lambda x, w, b, y, p, i: cyconv.conv_transpose2d(y, w, b[:4], 2),
    "grad_input": lambda x, w, b, y, p, i: cyconv.conv2d_grad_input(y, w, x.shape),
    "grad_weight": lambda x, w, b, y, p, i: cyconv.conv2d_grad_weight(y, x, (3, 2)),
    "backward": lambda x, w, b, y, p, i: cyconv.conv2d_backward(y, x, w),
    "backward_of_one": lambda x, w, b, y, p, i: cyconv.conv2d_backward(y[0], x[0], w, needs=("x", "bias")),
    "backward_of_transposed": lambda x, w, b, y, p, i: cyconv.conv_transpose2d_backward(x, y, w),
    "max_pool": lambda x, w, b, y, p, i: cyconv.max_pool2d(x, 2, 1, return_indices=True),
    "max_pool_of_one": lambda x, w, b, y, p, i: cyconv.max_pool2d(x[0], 2, return_indices=True),
    "max_pool_backward": lambda x, w, b, y, p, i: cyconv.max_pool2d_backward(p, i, x.shape),
    "avg_pool": lambda x, w, b, y, p, i: cyconv.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
    "avg_pool_backward": lambda x, w, b, y, p, i: cyconv.avg_pool2d_backward(p, x.shape, 2),
    "lp_pool": lambda x, w, b, y, p, i: cyconv.lp_pool2d(x, 2.0, 2),
    "adaptive": lambda x, w, b, y, p, i: cyconv.adaptive_max_pool2d(x, (3, None)),
    "global": lambda x, w, b, y, p, i: cyconv.global_avg_pool(x, keepdims=False),
    "relu": lambda x, w, b, y, p, i: cyconv.relu(x),
    "relu_of_a_number": lambda x, w, b, y, p, i: cyconv.relu(np.array(-0.0, x.dtype)),
    "leaky_relu_backward": lambda x, w, b, y, p, i: cyconv.leaky_relu_backward(x, x[::-1], 0.5),
    "softmax": lambda x, w, b, y, p, i: cyconv.softmax(x, 1),
    "log_softmax_backward": lambda x, w, b, y, p, i: cyconv.log_softmax_backward(x, x),
}


def as_list(result):
    return list(result) if isinstance(result, tuple) else [result]


def assert_same(found, expected):
    for a, b in zip(as_list(found), as_list(expected), strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# What an array may be like without a change of its values.
FORMS = {
    "as it is": lambda a: a,
    "permuted": lambda a: np.asfortranarray(a),
    "negative strides": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "every second": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "unaligned": lambda a: np.frombuffer(b"0" + a.tobytes(), np.uint8)[1:].view(a.dtype).reshape(a.shape),
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder()),
    "subclass": lambda a: a.view(np.memmap),
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
}


@pytest.mark.parametrize("name", CALLS)
def test_known_calls_of_other_arrays_give_what_they_give_when_new(name, dtype, isa):
    arrays = arrays_for(dtype)
    expected = CALLS[name](*arrays)
    for form in (*FORMS.values(), *FORMS.values()):
        given = [array if array.ndim < 3 else form(array) for array in arrays]
        assert_same(CALLS[name](*given), expected)


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"separable", "conv_into"}))
def test_second_call_is_not_checked_again(name, checked):
    arrays = arrays_for(np.float32)
    CALLS[name](*arrays)
    before = len(checked)
    CALLS[name](*(array.copy() for array in arrays))
    assert before and len(checked) == before


@pytest.mark.parametrize("call", [
    lambda x, w: cyconv.conv2d(x, w, padding=True),
    lambda x, w: cyconv.conv2d(x, w, padding=1.0),
    lambda x, w: cyconv.conv2d(x, w, padding=(1, True)),
    lambda x, w: cyconv.conv2d(x, w, None, 1, "padding", 1),
    lambda x, w: cyconv.conv2d(x, w, None, "padding", 1),
    lambda x, w: cyconv.conv2d(x, w, flip=0),
    lambda x, w: cyconv.conv2d(x, w, n_threads=True),
    lambda x, w: cyconv.conv2d(x, w, n_threads=0),
    lambda x, w: cyconv.conv2d(x, w, "padding", 1),
    lambda x, w: cyconv.conv2d(x, w, pading=1),
    lambda x, w: cyconv.conv2d(x, w[:, :2]),
    lambda x, w: cyconv.conv3d(x, w),
    lambda x, w: cyconv.conv2d(np.ma.masked_array(x), w),
    lambda x, w: cyconv.conv2d(x.astype(complex), w),
    lambda x, w: cyconv.conv2d(x, w, padding="\ud800"),
    lambda x, w: cyconv.relu(x, out=FORMS["read-only"](x)),
    lambda x, w: cyconv.relu(x, out=x.T),
    lambda x, w: cyconv.relu(x, out=x[0]),
    lambda x, w: cyconv.relu(x, out=np.empty(x.shape, np.float64)),
])
def test_wrong_calls_are_refused_after_right_ones_that_look_like_them(call):
    x, weight = arrays_for(np.float32)[:2]
    for _ in range(2):
        cyconv.conv2d(x, weight, padding=1)
        cyconv.conv2d(x, weight, padding=(1, 1), flip=False, n_threads=1)
        cyconv.relu(x, out=np.empty_like(x))
        with pytest.raises((TypeError, ValueError)):
            call(x, weight)


def test_numbers_that_are_equal_but_not_the_same_are_told_apart():
    x = np.array([-1.0, 2.0])
    for _ in range(2):
        assert np.signbit(cyconv.leaky_relu(x, 0.0))[0] and not np.signbit(cyconv.leaky_relu(x, -0.0))[0]


def test_out_that_is_or_overlaps_an_input_is_seen_in_every_call():
    memory = np.arange(-8.0, 9.0)
    expected = cyconv.sigmoid(memory[:-1])
    for out in (np.empty(16), memory[1:], memory[1:], memory[:-1]):
        memory[:] = np.arange(-8.0, 9.0)
        assert cyconv.sigmoid(memory[:-1], out=out) is out
        np.testing.assert_array_equal(out, expected)


def test_indices_are_looked_at_in_every_call():
    grad, indices = np.ones((1, 1, 2)), np.array([[[0, 3]]])
    cyconv.max_pool1d_backward(grad, indices, (1, 1, 4))
    with pytest.raises(ValueError, match="index 4 at position"):
        cyconv.max_pool1d_backward(grad, indices + 1, (1, 1, 4))


def test_arguments_by_name_may_come_in_any_order(checked):
    x, weight, bias = arrays_for(np.float64)[:3]
    expected = cyconv.conv2d(x, weight, bias)
    for _ in range(2):
        np.testing.assert_array_equal(cyconv.conv2d(bias=bias, weight=weight, x=x), expected)


def test_missing_arrays_in_the_middle_stay_missing(checked):
    x, weight = arrays_for(np.float64)[:2]
    expected = cyconv.conv2d(x, weight)
    checked.clear()
    for out in (np.empty_like(expected), np.empty_like(expected)):
        assert cyconv.conv2d(x, weight, out=out) is out
        np.testing.assert_array_equal(out, expected)
    assert checked == ["conv2d"]


@pytest.mark.skipif(not cpu.openmp, reason="built without OpenMP")
def test_threads_are_asked_in_every_call(monkeypatch):
    asked, effective = [], _threads.effective
    monkeypatch.setattr(_threads, "effective", lambda *rest: asked.append(effective(*rest)) or asked[-1])
    monkeypatch.setattr(_ranked, "SERIAL_WORK", -1)
    x, weight = arrays_for(np.float32)[:2]
    call = partial(cyconv.conv2d, x, weight)
    call()
    asked.clear()
    with threadpool_limits(1, user_api="openmp"):
        call()
    with threadpool_limits(3, user_api="openmp"):
        monkeypatch.setattr(_threads, "_set_by_user", True)
        call()
    assert asked == [1, 3]


def test_small_work_asks_for_no_threads(monkeypatch):
    monkeypatch.setattr(_threads, "effective", None)
    cyconv.conv2d(*arrays_for(np.float32)[:2])


@pytest.mark.parametrize("name", CALLS)
def test_known_calls_hold_no_arrays(name):
    arrays = arrays_for(np.float32)
    CALLS[name](*arrays)
    references = [weakref.ref(array) for array in arrays]
    del arrays
    gc.collect()
    assert not any(reference() is not None for reference in references)


def test_number_of_known_calls_is_bounded(checked):
    """The last of many is known, the first is not."""
    for size in (*range(1, 3000), 2999, 1):
        cyconv.relu(np.zeros(size))
    assert len(checked) == 3000


def test_threads_may_call_while_others_forget():
    x, weight = arrays_for(np.float32)[:2]
    expected, failures = cyconv.conv2d(x, weight), []

    def work():
        for number in range(300):
            if not np.array_equal(cyconv.conv2d(x, weight), expected):
                failures.append(number)
            front.forget()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures
