"""Pictures of networks in scikit-learn's Display convention.

A display holds the data. `plot` draws them, into a figure of its own or in the place of the axes it is given, and
sets ``figure_`` and ``ax_`` or, where there are several, ``axes_``. `from_estimator` gets the data from a fitted
`cyconv.ConvNetClassifier` or `cyconv.ConvNetRegressor`, also at the end of a Pipeline or inside a search, or from a
`cyconv.Sequential`. matplotlib is imported when something is drawn.
"""

from .architecture import ArchitectureDisplay
from .feature_maps import FeatureMapDisplay
from .filters import FilterDisplay
from .history import HistoryDisplay
from .saliency import SaliencyDisplay

__all__ = ["ArchitectureDisplay", "FeatureMapDisplay", "FilterDisplay", "HistoryDisplay", "SaliencyDisplay"]
