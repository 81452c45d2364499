"""What this installation computes with."""

from . import _kernels, _threads


def show_config(mode="stdout"):
    """Print versions, instruction set, threads and compiler of this installation.

    Parameters
    ----------
    mode : {"stdout", "dicts"}, default "stdout"
        Print, or return a dict instead, as `numpy.show_config` does.

    Returns
    -------
    None or dict of str to str

    Raises
    ------
    ValueError
        If ``mode`` is neither of the two.

    Examples
    --------
    >>> import cyconv
    >>> cyconv.show_config("dicts")["instruction set"] in ("baseline", "avx2", "avx512")
    True
    """
    if mode not in ("stdout", "dicts"):
        raise ValueError(f"show_config: mode must be 'stdout' or 'dicts', got {mode!r}")
    import platform  # here, like the import below: together they would double the import time of cyconv

    config = {
        "cyconv": installed("cyconv"),
        "instruction set": _kernels.isa,
        "runnable": ", ".join(_kernels.available),
        "threads": f"{_threads.effective()}",
        "OpenMP": "yes" if _kernels.cpu.openmp else "no, serial build",
        "compiler": _kernels.cpu.compiler,
        "Python": platform.python_version(),
        "NumPy": installed("numpy"),
        "scikit-learn": installed("scikit-learn"),
    }
    if mode == "dicts":
        return config
    width = max(map(len, config))
    for name, value in config.items():
        print(f"{name:{width}}  {value}")
    return None


def installed(package):
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
