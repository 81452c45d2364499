"""The convolutions that the benchmarks time, and why each is there."""

from typing import NamedTuple


class Shape(NamedTuple):
    """A 2-D convolution of N images of C channels, H x W, to K channels."""

    n: int
    c: int
    h: int
    w: int
    k: int
    kernel: int
    padding: int
    reason: str

    def __str__(self):
        return f"{self.n}x{self.c}x{self.h}x{self.w} -> {self.k}, {self.kernel}x{self.kernel}"

    @property
    def outputs(self):
        return self.h + 2 * self.padding - self.kernel + 1, self.w + 2 * self.padding - self.kernel + 1

    @property
    def flops(self):
        """Floating-point operations of one pass, counting the padded taps."""
        p, q = self.outputs
        return 2 * self.n * self.c * self.k * self.kernel**2 * p * q


CONV2D = [
    Shape(64, 32, 28, 28, 64, 3, 1, "second layer of an MNIST network"),
    Shape(64, 64, 14, 14, 128, 3, 1, "third layer of an MNIST network"),
    Shape(1, 256, 56, 56, 256, 3, 1, "middle of VGG, one image"),
    Shape(1, 512, 14, 14, 512, 3, 1, "end of VGG, more weights than outputs"),
    Shape(1, 64, 224, 224, 64, 3, 1, "start of VGG, one large image"),
    Shape(64, 3, 32, 32, 32, 3, 1, "first layer on colour images"),
    Shape(64, 1, 28, 28, 32, 3, 1, "first layer on grey images"),
]
