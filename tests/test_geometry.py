"""Window arithmetic: brute force over all small windows, forms of padding, limits."""

import ast
from itertools import product

import numpy as np
import pytest

import cyconv
from cyconv import _geometry
from cyconv._geometry import Window

# ---------------------------------------------------------------- brute force


def all_windows():
    for kernel, stride, dilation, input_dilation, low, high, flip in product(
            (1, 2, 3, 5), (1, 2, 3, 4), (1, 2, 3), (1, 2, 3, 4), (0, 1, 2, 5), (0, 1, 4), (False, True)):
        yield Window(kernel, stride, dilation, input_dilation, low, high, flip)


SIZES = (0, 1, 2, 5, 8)


def reads(window, n, n_out):
    """All (output, tap, cell) of the relation at the head of _geometry, tried out one by one."""
    result = set()
    for o, j in product(range(n_out), range(window.kernel)):
        position = o * window.stride + j * window.dilation - window.low
        if position % window.input_dilation == 0 and 0 <= position // window.input_dilation < n:
            result.add((o, window.kernel - 1 - j if window.flip else j, position // window.input_dilation))
    return result


def reads_of_phases(window, n, n_out):
    """The same from the phases; and every (output, tap) that they list."""
    result, listed = set(), []
    for phase in window.phases(n_out):
        for q, j in product(range(phase.n_out), range(phase.n_taps)):
            o, tap = phase.out_start + q * phase.out_step, phase.tap_start + j * phase.tap_step
            cell = phase.start + q * phase.stride + j * phase.step
            listed.append((o, tap))
            if 0 <= cell < n:
                result.add((o, tap, cell))
    return result, listed


def fitting_windows():
    for window in all_windows():
        for n in SIZES:
            n_out = window.output_size(n)
            if n_out > 0:
                yield window, n, n_out


def test_output_size_is_the_number_of_places_where_the_window_fits():
    for window in all_windows():
        for n in SIZES:
            cells = window.low + window.high + len(range(0, n * window.input_dilation, window.input_dilation)) + (
                max(n - 1, 0) * (window.input_dilation - 1))
            last_tap = (window.kernel - 1) * window.dilation
            places = [o for o in range(cells) if o * window.stride + last_tap < cells]
            assert max(window.output_size(n), 0) == len(places), (window, n)


def test_ceil_mode_adds_a_last_window_that_starts_in_the_input_or_its_left_padding():
    for window in all_windows():
        for n in SIZES:
            room = n + window.low + window.high - window.extent
            if window.input_dilation == 1 and room >= 0:
                expected = room // window.stride + 1 + (room % window.stride > 0)
                expected -= (expected - 1) * window.stride >= n + window.low
                assert window.output_size(n, ceil_mode=True) == expected, (window, n)


def test_phases_list_every_read_once():
    for window, n, n_out in fitting_windows():
        found, listed = reads_of_phases(window, n, n_out)
        assert found == reads(window, n, n_out), (window, n)
        assert len(set(listed)) == len(listed), (window, n)


def test_reads_list_the_outputs_and_cells_of_every_tap():
    for window, n, n_out in fitting_windows():
        listed = [(o, tap, cell) for tap, outputs, cells in window.reads(n, n_out)
                  for o, cell in zip(range(n_out)[outputs], range(n)[cells], strict=True)]
        assert len(set(listed)) == len(listed), (window, n)
        assert set(listed) == reads(window, n, n_out), (window, n)


def test_phases_are_at_most_as_many_as_taps_and_inside_the_outputs():
    for window, _, n_out in fitting_windows():
        phases = window.phases(n_out)
        assert len(phases) <= window.kernel
        for phase in phases:
            assert phase.n_out > 0 and phase.n_taps > 0 and phase.step > 0 and phase.stride > 0
            assert 0 <= phase.out_start and phase.out_start + (phase.n_out - 1) * phase.out_step < n_out
            assert 0 <= phase.tap_start < window.kernel
            assert 0 <= phase.tap_start + (phase.n_taps - 1) * phase.tap_step < window.kernel


def test_adjoint_reads_backwards():
    for window, n, n_out in fitting_windows():
        forward = {(cell, tap, o) for o, tap, cell in reads(window, n, n_out)}
        assert reads(window.adjoint(), n_out, n) == forward, (window, n)
        assert reads_of_phases(window.adjoint(), n_out, n)[0] == forward, (window, n)


def test_taps_in_lists_the_taps_on_some_cells():
    for window, n, n_out in fitting_windows():
        if window.input_dilation == 1:
            for begin, end in ((0, n), (-window.low, n + window.high), (min(1, n), n), (n, n)):
                taps = [[j for j in range(window.kernel)
                         if begin <= o * window.stride + j * window.dilation - window.low < end] for o in range(n_out)]
                spans = window.taps_in(begin, end, n_out)
                assert [list(range(first, first + count)) for first, count in spans] == taps, (window, n, begin, end)


def test_phase_table_is_three_counts_and_the_phases_of_all_axes():
    windows, outputs = [Window(3, 1, 1, 2), Window(2, 2)], [4, 5]
    table = _geometry.phase_table(windows, outputs)
    rows = [tuple(table[i:i + 12]) for i in range(3, len(table), 12)]
    phases = [Window(1).phases(1), windows[0].phases(4), windows[1].phases(5)]
    assert table[:3] == [len(axis) for axis in phases] == [1, 2, 1]
    assert rows == [tuple(phase) for axis in phases for phase in axis]


# ---------------------------------------------------------------- padding


def pads(padding, sizes=(10, 11), kernel=(3, 4), **parameters):
    windows = _geometry.windows("conv2d", sizes, kernel, padding=padding, **parameters)
    return [(w.low, w.high) for w in windows]


@pytest.mark.parametrize("padding, expected", [
    (2, [(2, 2), (2, 2)]),
    (np.int64(2), [(2, 2), (2, 2)]),
    ((1, 2), [(1, 1), (2, 2)]),
    ([1, 2], [(1, 1), (2, 2)]),
    ((2,), [(2, 2), (2, 2)]),
    (((1, 2), (3, 4)), [(1, 2), (3, 4)]),
    ([[1, 2], [3, 4]], [(1, 2), (3, 4)]),
    (((1, 2),), [(1, 2), (1, 2)]),
    ((1, (3, 4)), [(1, 1), (3, 4)]),
    ("valid", [(0, 0), (0, 0)]),
    ("full", [(2, 2), (3, 3)]),
    ("same", [(1, 1), (1, 2)]),
    ("same_upper", [(1, 1), (1, 2)]),
    ("same_lower", [(1, 1), (2, 1)]),
    ("SAME", [(1, 1), (1, 2)]),
    ("Same_Lower", [(1, 1), (2, 1)]),
])
def test_forms_of_padding(padding, expected):
    assert pads(padding) == expected
    x, weight = np.ones((1, 1, 10, 11)), np.ones((1, 1, 3, 4))
    y = cyconv.conv2d(x, weight, padding=padding)
    np.testing.assert_array_equal(y, cyconv.conv2d(np.pad(x, ((0, 0), (0, 0), *expected)), weight))


def test_arrays_are_accepted_as_padding_and_stride():
    x, weight = np.ones((1, 1, 10, 11)), np.ones((1, 1, 3, 4))
    y = cyconv.conv2d(x, weight, padding=np.array([[1, 2], [3, 4]]), stride=np.array([2, 3]))
    np.testing.assert_array_equal(y, cyconv.conv2d(x, weight, padding=((1, 2), (3, 4)), stride=(2, 3)))


def test_arrays_of_no_axis_are_accepted_or_refused_by_name():
    x = np.ones((1, 1, 4, 4))
    assert cyconv.max_pool(x, np.array(2)).shape == (1, 1, 2, 2)
    assert cyconv.conv(x, np.ones((1, 1, 1, 1)), stride=np.array(2)).shape == (1, 1, 2, 2)
    with pytest.raises(TypeError, match="conv_grad_weight: kernel_size must be an int or 2 ints, got an array"):
        cyconv.conv_grad_weight(x, x, np.array(1))


@pytest.mark.parametrize("name", ["same", "same_lower"])
def test_padding_same_keeps_size_or_divides_it_by_the_stride(name):
    for n, kernel, stride, dilation, u in product(range(1, 12), range(1, 6), range(1, 5), (1, 2, 3), (1, 2)):
        (window,) = _geometry.windows("conv", (n,), (kernel,), stride, name, dilation, u)
        size = (n - 1) * u + 1
        assert window.output_size(n) == -(-size // stride)
        assert abs(window.low - window.high) <= 1
        assert window.low <= window.high if name == "same" else window.low >= window.high
        if window.low + window.high:  # one cell less would give fewer outputs
            assert window._replace(low=window.low + window.high - 1, high=0).output_size(n) < -(-size // stride)


def test_padding_full_gives_every_overlap():
    for n, kernel, dilation in product(range(1, 8), range(1, 5), (1, 2)):
        (window,) = _geometry.windows("conv", (n,), (kernel,), padding="full", dilation=dilation)
        assert window.output_size(n) == n + window.extent - 1


@pytest.mark.parametrize("padding, error, message", [
    ((1, 1, 1, 1), ValueError, "for per-side padding write ((1, 1), (1, 1))"),
    ((1, 2, 3), ValueError, "2 ints, 2 (low, high) pairs or a string, got (1, 2, 3)"),
    ((), ValueError, "got ()"),
    (((1, 2), (3,)), ValueError, "got ((1, 2), (3,))"),
    (((1, 2), (3, 4.0)), ValueError, "got ((1, 2), (3, 4.0))"),
    ((1, "same"), ValueError, "got (1, 'same')"),
    (1.0, TypeError, "got 1.0"),
    (None, TypeError, "got None"),
    ({1, 2}, TypeError, "got {1, 2}"),
    (True, TypeError, "got True"),
    ("sames", ValueError, "unknown padding 'sames'"),
    ("", ValueError, "unknown padding ''"),
    (-1, ValueError, "padding must be >= 0 on every axis, got -1"),
    (((0, 0), (-1, 0)), ValueError, "padding must be >= 0 on every axis, got ((0, 0), (-1, 0))"),
    (2**31, ValueError, "padding must be <= 2147483647, got 2147483648"),
    (2**31 - 1, ValueError, "must span at most 2147483647 cells per axis"),
])
def test_other_forms_of_padding_are_refused(padding, error, message):
    with pytest.raises(error) as raised:
        pads(padding)
    assert str(raised.value).startswith("conv2d: ") and message in str(raised.value)


def test_refusal_of_a_flat_tuple_shows_pairs_that_are_accepted():
    for rank in (1, 2, 3):
        sizes, flat = (10,) * rank, tuple(range(1, 2 * rank + 1))
        with pytest.raises(ValueError, match="for per-side padding write ") as raised:
            _geometry.windows("conv", sizes, sizes, padding=flat)
        pairs = ast.literal_eval(str(raised.value).rpartition("write ")[2])
        windows = _geometry.windows("conv", sizes, sizes, padding=pairs)
        assert tuple(n for w in windows for n in (w.low, w.high)) == flat


@pytest.mark.parametrize("value", [(1.0, 1.0), (True, True), (np.float64(1), 1)])
def test_refusal_does_not_depend_on_earlier_calls(value):
    """1.0 and True equal 1, so a plan must not be found by them."""
    x, weight = np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2))
    cyconv.conv2d(x, weight, stride=(1, 1))
    cyconv.max_pool2d(x, (1, 1), (1, 1))
    with pytest.raises(ValueError, match="conv2d: stride must be an int or 2 ints"):
        cyconv.conv2d(x, weight, stride=value)
    with pytest.raises(ValueError, match="max_pool2d: kernel_size must be an int or 2 ints"):
        cyconv.max_pool2d(x, value, (1, 1))


# ---------------------------------------------------------------- limits


def test_sizes_beyond_any_memory_are_refused_before_they_are_computed_with():
    with pytest.raises(ValueError, match=r"conv2d: an array of shape \(1, 1, \d+, \d+\) would have \d+ elements"):
        cyconv.conv2d(np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1)), padding=2**29)


@pytest.mark.parametrize("name", ["stride", "dilation", "input_dilation"])
def test_largest_steps_are_computed_and_larger_ones_refused(name):
    x, weight = np.ones((1, 1, 1, 1)), np.ones((1, 1, 1, 1))
    assert cyconv.conv2d(x, weight, **{name: 2**31 - 1}) == 1
    with pytest.raises(ValueError, match=f"conv2d: {name} must be <= 2147483647, got 2147483648"):
        cyconv.conv2d(x, weight, **{name: 2**31})


def test_window_larger_than_its_input_is_refused_with_both_sizes():
    windows = _geometry.windows("conv2d", (4, 6), (3, 3), padding=((0, 0), (1, 0)), dilation=3)
    message = r"^conv2d: effective kernel \(7, 7\) is larger than the padded input \(4, 7\)$"
    with pytest.raises(ValueError, match=message):
        _geometry.output_sizes("conv2d", (4, 6), windows)


def test_arrays_of_as_many_elements_as_are_allowed_and_of_more():
    _geometry.check_elements("f", (2**22, 2**22))
    with pytest.raises(ValueError, match=r"f: an array of shape \(1, 17592186044417\) would have 17592186044417 elem"):
        _geometry.check_elements("f", (1, 2**44 + 1))
