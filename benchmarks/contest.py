"""One operation in several libraries: checked to give the same values, timed in turn, put into rows of a table.

Contenders are a dict from name to a function without arguments; those named in OWN are cyconv's layouts. With
" out" behind its name a layout writes into an array that exists, as some rivals do.
"""

from timing import OtherWork, copy_bandwidth, fma_peak, interleaved, peak_memory  # isort: skip: sets up the threads

from functools import cached_property

import numpy as np
import report
import rivals
from threadpoolctl import threadpool_limits

import cyconv

OWN = ("channels_first", "channels_last", "plane")
PLAIN = ("numpy", "scipy")    # what is written without a library for it: compared, but no rival
TOLERANCE = {"float32": 2e-3, "float64": 1e-9}    # of the largest value


def parts(result, is_last):
    """The arrays of a result, with the channels first."""
    arrays = [part.numpy() if hasattr(part, "numpy") else part
              for part in (result if isinstance(result, tuple) else (result,))]
    return [np.moveaxis(array, -1, 1) if is_last else array for array in arrays]


class Contest:
    """A script's run: its command line, its table, and what the machine can do."""

    def __init__(self, benchmark, description):
        self.benchmark, self.rows = benchmark, []
        self.options = report.parse(description)
        self.threads = self.options.threads
        self.isa = cyconv.show_config("dicts")["instruction set"]
        threadpool_limits(self.threads, "blas")
        rivals.use_threads(self.threads)
        print(f"{self.threads} threads, {self.isa}, fused multiply-adds "
              + ", ".join(f"{peak:.0f} GFLOP/s in {dtype}" for dtype, peak in self.peaks.items()))
        report.print_head(rivals.NAMES)

    @cached_property
    def peaks(self):
        return {dtype: fma_peak(dtype, self.threads) for dtype in TOLERANCE}

    def chosen(self, shapes):
        """The shapes that the user wants, each with its dtypes."""
        for shape in report.chosen(shapes, self.options.only):
            print(f"{shape}: {shape.reason}")
            yield from ((shape, np.dtype(dtype)) for dtype in list(TOLERANCE)[:1 + shape.float64])

    def check(self, calls, what, is_last):
        """Every contender computes the same values; some leave out later parts of the result."""
        found = {name: parts(call(), name.startswith("channels_last") and is_last) for name, call in calls.items()}
        expected = next(iter(found.values()))
        for name, arrays in found.items():
            for array, own in zip(arrays, expected):
                np.testing.assert_allclose(array.reshape(own.shape), own, rtol=0, err_msg=", ".join((name, *what)),
                                           atol=TOLERANCE[what[-1]] * np.abs(own).max())

    def add(self, shape, which, dtype, calls):
        """Rows for one pass of a shape: one for each of cyconv's contenders."""
        self.check(calls, (shape.name, which, dtype.name), which != "grad weight")
        n_bytes = shape.cells * dtype.itemsize
        copy = copy_bandwidth(n_bytes, self.threads)
        with OtherWork() as others:
            times = interleaved(calls, self.options.rounds)
        memory = {name: peak_memory(calls[name]) for name in (*OWN, *PLAIN) if name in calls}
        own = {name: times.pop(name) for name in OWN if name in times}
        in_place = {name: times.pop(f"{name} out", own[name]).seconds for name in own}
        new = []
        for layout, (seconds, spread) in own.items():
            gflops, gbs = shape.flops / seconds / 1e9, n_bytes / seconds / 1e9
            ratios = {name: time.seconds / (in_place[layout] if name in rivals.IN_PLACE else seconds)
                      for name, time in times.items()}
            best = min((name for name in times if name not in PLAIN), key=ratios.get, default=None)
            new.append({
                "benchmark": self.benchmark, "name": shape.name, "shape": str(shape), "pass": which, "layout": layout,
                "dtype": dtype.name, "threads": self.threads, "isa": self.isa, "seconds": seconds, "spread": spread,
                "gflops": gflops, "fma_share": gflops / self.peaks[dtype.name], "gbs": gbs, "copy_share": gbs / copy,
                "rivals": {name: time._asdict() | {"ratio": ratios[name]} for name, time in times.items()},
                "best": best, "ratio": ratios.get(best), "seconds_out": in_place[layout], "memory": memory[layout],
                "memory_plain": next((memory[name] for name in PLAIN if name in memory), None),
                "others": others.share})
            report.print_row(new[-1], rivals.NAMES)
        self.rows += new
        if self.options.json:
            report.save(self.options.json, new)

    def finish(self):
        report.summarise(self.rows)
