"""Norms of windows, and their gradient."""

from .. import _arrays
from ._pooling import norm_order, norms, norms_backward, pool_rank, prepare
from ._public import Checked
from ._ranked import batched, check_shape, every_rank, names_of_ranks, without_batch

__all__ = names_of_ranks("lp_pool{}", "lp_pool{}_backward")


def _lp_pool(function, rank, x, p, kernel_size, stride=None, padding=0, *, dilation=1, ceil_mode=False,
             data_format="channels_first", n_threads=None):
    """Norm of every window, ``(sum |x|**p) ** (1 / p)``.

    Parameters
    ----------
    x : array_like of shape (N, C, SPATIAL) or (C, SPATIAL)
        Input, or with the channels last. Converted to float32 or float64 like a convolution's.
    p : float
        Order of the norm, > 0; infinity for the largest absolute value.
    kernel_size, stride, padding, dilation, ceil_mode, data_format, n_threads
        As in `max_pool2d`; padding adds nothing.

    Returns
    -------
    ndarray of shape (N, C, OUTPUTS), or as x without N or with channels last
        0 where a window has no input cell. Computed in float64, without overflow unless the norm itself
        is too large; for p = 1, 2 and infinity rounded as little as can be, else accurate to a few
        units of the last float64 place for p >= 1, and to 1 / p times as many below.

    Raises
    ------
    ValueError, TypeError
        If shapes, parameters or dtypes do not fit.

    References
    ----------
    ONNX LpPool. ``torch.nn.functional.lp_pool2d`` takes powers of x instead of |x|, so that odd p of
    negative numbers give others or NaN; scales windows that hang over in ``ceil_mode`` up; and has
    neither padding nor dilation.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> cyconv.lp_pool2d(np.array([[[3.0, -4.0, 5.0, 12.0]]]), 2, (1, 2))
    array([[[ 5., 13.]]])
    """
    channels_last = _arrays.is_channels_last(function, data_format)
    (x,) = _arrays.as_reals(function, x=x)
    p = norm_order(function, p)
    batch, is_single = batched(function, "x", x, pool_rank(function, rank, kernel_size, x.ndim), channels_last)
    plan = prepare(function, batch.shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last)
    return Checked(without_batch(norms(plan, x.dtype, p, channels_last, n_threads), is_single), x)


def _lp_pool_backward(function, rank, grad_out, x, out, p, kernel_size, stride=None, padding=0, *, dilation=1,
                      ceil_mode=False, data_format="channels_first", n_threads=None):
    """Gradient of a norm pooling, ``grad_out * sign(x) * (|x| / out) ** (p - 1)`` added up.

    Parameters
    ----------
    grad_out : array_like of shape (N, C, OUTPUTS) or (C, OUTPUTS)
        Gradient with respect to the norms, in the layout of ``data_format``.
    x : array_like
        The forward call's input.
    out : array_like of the shape of grad_out
        The forward call's result.
    p, kernel_size, stride, padding, dilation, ceil_mode, data_format, n_threads
        As in the forward call.

    Returns
    -------
    ndarray of the shape of x
        Where x or ``out`` is 0 nothing is added. For p = infinity the first largest cell of a window
        receives everything, as in `max_pool2d_backward`.

    Raises
    ------
    ValueError, TypeError
        As the forward call, and if shapes do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> import cyconv
    >>> x = np.array([[[3.0, -4.0, 0.0, 0.0]]])
    >>> norms = cyconv.lp_pool2d(x, 2, (1, 2))
    >>> cyconv.lp_pool2d_backward(np.ones_like(norms), x, norms, 2, (1, 2))
    array([[[ 0.6, -0.8,  0. ,  0. ]]])
    """
    channels_last = _arrays.is_channels_last(function, data_format)
    grad_out, x, out = _arrays.as_reals(function, grad_out=grad_out, x=x, out=out)
    p = norm_order(function, p)
    batch, is_single = batched(function, "x", x, pool_rank(function, rank, kernel_size, x.ndim), channels_last)
    plan = prepare(function, batch.shape, kernel_size, stride, padding, dilation, ceil_mode, channels_last)
    for name, array in (("grad_out", grad_out), ("out", out)):
        check_shape(function, name, array, plan.out_shape[1:] if is_single else plan.out_shape)
    run = norms_backward(plan, x.dtype, p, channels_last, n_threads)
    return Checked(without_batch(run, is_single), grad_out, x, out)


lp_pool, lp_pool1d, lp_pool2d, lp_pool3d = every_rank(_lp_pool, "lp_pool{}")
lp_pool_backward, lp_pool1d_backward, lp_pool2d_backward, lp_pool3d_backward = every_rank(
    _lp_pool_backward, "lp_pool{}_backward")
