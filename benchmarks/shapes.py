"""Every convolution, pooling and filter that the benchmarks time, and why each is there.

Sizes are N images of C channels to K channels. `float64` marks the third of the shapes that are also
timed in double precision.
"""

from dataclasses import dataclass, replace
from math import prod

import cyconv


def per_axis(value, rank):
    return tuple(value) if isinstance(value, tuple) else (value,) * rank


@dataclass(frozen=True)
class Conv:
    name: str
    n: int
    c: int
    size: tuple
    k: int
    kernel: tuple
    reason: str
    stride: int = 1
    padding: int | tuple = 0
    dilation: int = 1
    groups: int = 1
    transposed: bool = False
    float64: bool = False

    def __str__(self):
        options = [f"{letter}{value}" for letter, value, usual in (
            ("s", self.stride, 1), ("p", self.padding, 0), ("d", self.dilation, 1), ("g", self.groups, 1))
            if value != usual]
        return (f"{self.n}x{self.c}x{'x'.join(map(str, self.size))} -> {self.k}, {'x'.join(map(str, self.kernel))} "
                + " ".join(options).replace(" ", "") + (" transposed" if self.transposed else "")).strip()

    @property
    def rank(self):
        return len(self.size)

    @property
    def options(self):
        """Keyword arguments of cyconv's and PyTorch's functions alike."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    @property
    def x_shape(self):
        return self.n, self.c, *self.size

    @property
    def weight_shape(self):
        rows, columns = (self.c, self.k) if self.transposed else (self.k, self.c)
        return rows, columns // self.groups, *self.kernel

    @property
    def y_shape(self):
        outputs = cyconv.output_size(self.size, self.kernel, self.stride, self.padding, dilation=self.dilation,
                                     transposed=self.transposed)
        return self.n, self.k, *outputs

    @property
    def flops(self):
        """Floating-point operations of one pass, counting those on padded zeros."""
        windows = self.size if self.transposed else self.y_shape[2:]
        return 2 * self.n * prod(windows) * prod(self.weight_shape)

    @property
    def cells(self):
        """Numbers that one pass must at least read or write."""
        return prod(self.x_shape) + prod(self.weight_shape) + prod(self.y_shape)

    @property
    def column_cells(self):
        """Numbers in the matrix that im2col makes."""
        windows = self.size if self.transposed else self.y_shape[2:]
        return self.n * prod(windows) * prod(self.kernel) * (self.k if self.transposed else self.c)


def batches(shape, *sizes):
    """The shape with its own batch and with smaller ones."""
    return [shape, *(replace(shape, name=f"{shape.name}-b{n}", n=n, float64=False, reason=f"{shape.reason}, batch {n}")
                     for n in sizes)]


CONV = [
    *batches(Conv("digits", 32, 1, (8, 8), 16, (3, 3), "8x8 digits: shorter than the call of a library",
                  padding=1, float64=True), 1, 2),
    *batches(Conv("lenet-1", 128, 1, (28, 28), 6, (5, 5), "6 outputs, fewer than a vector has lanes", padding=2,
                  float64=True), 1, 2),
    *batches(Conv("lenet-2", 128, 6, (14, 14), 16, (5, 5), "few channels on small maps", float64=True), 1, 2),
    *batches(Conv("mnist-1", 64, 1, (28, 28), 32, (3, 3), "first layer on grey images: 9 terms a sum", padding=1),
             1, 2),
    *batches(Conv("mnist-2", 64, 32, (28, 28), 64, (3, 3), "second layer of an MNIST network", padding=1,
                  float64=True), 1, 2),
    *batches(Conv("mnist-3", 64, 64, (14, 14), 128, (3, 3), "third layer of an MNIST network", padding=1), 1, 2),
    *batches(Conv("cifar-1", 64, 3, (32, 32), 32, (3, 3), "first layer on colour images", padding=1), 1, 2),
    Conv("vgg-224", 1, 64, (224, 224), 64, (3, 3), "start of VGG: one large image", padding=1),
    Conv("vgg-56", 1, 256, (56, 56), 256, (3, 3), "middle of VGG: weights exceed the level 2 cache", padding=1,
         float64=True),
    Conv("vgg-14", 1, 512, (14, 14), 512, (3, 3), "end of VGG: more weights than outputs", padding=1),
    Conv("resnet-stem", 4, 3, (224, 224), 64, (7, 7), "large strided kernel on colour images", stride=2, padding=3,
         float64=True),
    Conv("resnet-1x1", 4, 256, (56, 56), 64, (1, 1), "a matrix product", float64=True),
    Conv("resnet-s2", 4, 128, (56, 56), 128, (3, 3), "halves the map", stride=2, padding=1),
    Conv("resnet-7", 8, 512, (7, 7), 512, (3, 3), "maps narrower than a vector", padding=1),
    Conv("depthwise", 4, 128, (56, 56), 128, (3, 3), "bound by memory", padding=1, groups=128, float64=True),
    Conv("depthwise-s2", 4, 128, (56, 56), 128, (3, 3), "bound by memory, halves the map", stride=2, padding=1,
         groups=128),
    Conv("grouped", 8, 64, (28, 28), 64, (3, 3), "8 groups of 8 channels", padding=1, groups=8, float64=True),
    Conv("dilated-2", 4, 64, (56, 56), 64, (3, 3), "gaps in the window", padding=2, dilation=2),
    Conv("dilated-4", 4, 64, (56, 56), 64, (3, 3), "wide gaps, padding beyond the kernel's half", padding=4,
         dilation=4, float64=True),
    Conv("odd", 8, 17, (31, 31), 23, (3, 3), "no size is a multiple of a vector", padding=1, float64=True),
    Conv("1x7", 4, 64, (28, 28), 64, (1, 7), "a row", padding=(0, 3)),
    Conv("7x1", 4, 64, (28, 28), 64, (7, 1), "a column", padding=(3, 0)),
    Conv("signal", 32, 12, (1000,), 64, (7,), "12 leads of a cardiogram", padding=3, float64=True),
    Conv("audio", 16, 1, (16000,), 16, (51,), "long dilated kernel on sound", padding=50, dilation=2),
    Conv("depthwise-1d", 32, 64, (1000,), 64, (7,), "one filter a channel of a signal", padding=3, groups=64),
    Conv("volume", 2, 16, (16, 32, 32), 32, (3, 3, 3), "a small scan", padding=1, float64=True),
    Conv("depthwise-3d", 2, 32, (16, 32, 32), 32, (3, 3, 3), "one filter a channel of a scan", padding=1, groups=32),
    Conv("transposed", 4, 128, (28, 28), 64, (4, 4), "doubles the map", stride=2, padding=1, transposed=True,
         float64=True),
]


@dataclass(frozen=True)
class Pool:
    name: str
    n: int
    c: int
    size: tuple
    kernel: int
    stride: int
    reason: str
    float64: bool = False

    def __str__(self):
        return f"{self.n}x{self.c}x{'x'.join(map(str, self.size))}, {self.kernel}x{self.kernel} s{self.stride}"

    @property
    def padding(self):
        """What keeps or halves the map."""
        return (self.kernel - 1) // 2

    @property
    def x_shape(self):
        return self.n, self.c, *self.size

    @property
    def y_shape(self):
        return self.n, self.c, *cyconv.output_size(self.size, self.kernel, self.stride, self.padding)

    @property
    def flops(self):
        """Comparisons or additions."""
        return prod(self.y_shape) * self.kernel**2

    @property
    def cells(self):
        return prod(self.x_shape) + prod(self.y_shape)


POOL = [
    Pool("2x2-digits", 32, 16, (8, 8), 2, 2, "maps narrower than a vector", True),
    Pool("2x2-lenet", 64, 6, (28, 28), 2, 2, "fewer channels than a vector has lanes", True),
    Pool("2x2-cifar", 64, 32, (32, 32), 2, 2, "whole vectors everywhere"),
    *(Pool(f"{kind}-{size}", n, c, (size, size), kernel, stride, reason, float64)
      for n, c, size in ((64, 32, 28), (4, 64, 112))
      for kind, kernel, stride, reason, float64 in (
          ("2x2", 2, 2, "the usual one", True),
          ("3x3-s2", 3, 2, "overlapping windows, as in ResNet's stem", False),
          ("7x7-s1", 7, 1, "large windows that share most of their cells", False))),
]

@dataclass(frozen=True)
class Filter:
    name: str
    size: tuple
    kernel: int
    reason: str
    float64: bool = False

    def __str__(self):
        return f"{self.size[0]}x{self.size[1]}, {self.kernel}x{self.kernel}"

    @property
    def flops(self):
        return 2 * prod(self.size) * self.kernel**2

    @property
    def cells(self):
        return 2 * prod(self.size)


FILTERS = [Filter(f"{height}p-{kernel}x{kernel}", (height, width), kernel, reason, height == 512)
           for height, width in ((512, 512), (1080, 1920))
           for kernel, reason in ((3, "edges"), (5, "a small blur"), (11, "a wide blur"))]
