"""Random calls of every public function, each with what it must return.

A family is a function from a seed to `Case` objects about one geometry. Checks take the same cases and
ask different things of them: equal to the definition, to the bit whatever the kind of array, in bounds.
"""

from .convolutions import bordered, depthwise, local, plain, separable, tiled, transposed
from .poolings import adaptive, custom, global_, maxout, means, norms, pooled, unpooled
from .smooth import activations, losses, normalizations, probabilities
from .views import columns, images, matrices, rectified, resampled

# Exact on integers: results are compared at tolerance 0.
EXACT = (plain, bordered, transposed, tiled, local, depthwise, separable, pooled, means, norms, unpooled, adaptive,
         global_, maxout, custom, columns, resampled, matrices, images, rectified)

# Compared within rounding.
SMOOTH = (activations, probabilities, normalizations, losses)
