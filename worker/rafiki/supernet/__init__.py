"""Parts of supernets: one set of weights for every architecture of a search space.

An architecture is a few int32 arrays and an argument of programs, which are compiled once for
all architectures. A search space says which of its weights an architecture uses (`SearchSpace`)
and computes with those. `docs/search-spaces.md` writes one from beginning to end.

    choice                      a choice of operations at run time, and its derivative
    banks, space                the weights of all architectures, and those that one uses
    training, programs          optimisers; a training step; many steps in one program
    shared_weights              weights that are dumped, loaded, counted
    pace                        seconds per epoch, examples per second
    devices                     minibatches over all devices of a trial

for images, moreover

    depthwise, pointwise, normalization,
    operations, layers                              what is computed
    image_data, inputs                              data sets, normalisation
    image_supernet                                  a supernet of any space of such networks
    image_search                                what the templates of such spaces do with it
    cells, macro                                    search spaces of cells, of whole networks

Letters: B minibatch, H, W height and width, C channels.
"""

from rafiki.supernet.banks import Bank, Row, Rows, Tensors, gather_active, scatter_active
from rafiki.supernet.choice import choose
from rafiki.supernet.depthwise import depthwise_convolution
from rafiki.supernet.devices import compute_dtype, on_devices, over_batch
from rafiki.supernet.image_data import (
    Data,
    forget_data,
    load_data,
    minibatches,
    steps_per_epoch,
    take_images,
)
from rafiki.supernet.image_search import (
    accuracies,
    probabilities,
    scoring,
    search_rates,
    supernet_to_train,
    train_architectures,
    train_from_scratch,
)
from rafiki.supernet.image_supernet import ImageSupernet, image_programs, normalised
from rafiki.supernet.inputs import Inputs
from rafiki.supernet.normalization import batch_norm, scale_and_shift
from rafiki.supernet.operations import OPERATIONS
from rafiki.supernet.pace import Pace
from rafiki.supernet.parameters import Initializer, take_tensor
from rafiki.supernet.pointwise import pointwise_convolution
from rafiki.supernet.programs import (
    MOST_CANDIDATES,
    MOST_STEPS,
    Calls,
    Weights,
    computing,
    each,
    filled,
    pick,
    search_step,
    stack_archs,
)
from rafiki.supernet.shared_weights import SharedWeights
from rafiki.supernet.space import ImageSpace, SearchSpace
from rafiki.supernet.training import (
    Optimizer,
    accuracy,
    cosine,
    cross_entropy,
    nesterov,
    restarting_cosine,
)

__all__ = [
    "MOST_CANDIDATES",
    "MOST_STEPS",
    "OPERATIONS",
    "Bank",
    "Calls",
    "Data",
    "ImageSpace",
    "ImageSupernet",
    "Initializer",
    "Inputs",
    "Optimizer",
    "Pace",
    "Row",
    "Rows",
    "SearchSpace",
    "SharedWeights",
    "Tensors",
    "Weights",
    "accuracies",
    "accuracy",
    "batch_norm",
    "choose",
    "compute_dtype",
    "computing",
    "cosine",
    "cross_entropy",
    "depthwise_convolution",
    "each",
    "filled",
    "forget_data",
    "gather_active",
    "image_programs",
    "load_data",
    "minibatches",
    "nesterov",
    "normalised",
    "on_devices",
    "over_batch",
    "pick",
    "pointwise_convolution",
    "probabilities",
    "restarting_cosine",
    "scale_and_shift",
    "scatter_active",
    "scoring",
    "search_rates",
    "search_step",
    "stack_archs",
    "steps_per_epoch",
    "supernet_to_train",
    "take_images",
    "take_tensor",
    "train_architectures",
    "train_from_scratch",
]
