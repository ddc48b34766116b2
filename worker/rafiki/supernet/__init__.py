"""The parts of a supernet: one set of weights for every architecture of a search space.

The search space is that of "Efficient Neural Architecture Search via Parameter Sharing" (arXiv
1802.03268), section 2.4, and the authors' micro search code: stacked normal and reduction
cells whose nodes choose two earlier states and two operations. A model template puts the parts
together; `rafiki/zoo/enas_cnn.py` is the example.

An architecture is a few int32 arrays and an argument of the search programs, which are
compiled once for all architectures. From the bottom up:

    depthwise, normalization, operations, layers    what is computed on images
    architecture, shape                             one architecture, the size of a network
    cell                                            a cell whose operations are chosen at run time
    parameters, weight_banks                        the weights, and those that are active
    programs, supernet                              training and scoring with shared weights
    fixed_network, final_network                    the network of one architecture
    training, image_data, inputs                    losses and rates, minibatches, normalisation

Letters: B minibatch, H, W height and width, C channels, N = 5 nodes of a cell, S = N + 2
states of a cell (its two inputs and its nodes), E = 2 N edges (operations) of a cell, L
cells of a stage, R = 2 * 40 rows of weights per cell: every (node, side, earlier state) for
each of the two separable convolutions, P floats of a packed 5x5 separable convolution.

Departures from the authors' code: weight decay and momentum act on the active path only; a
reduction cell gets the outputs of the two cells before it, both halved, rather than one of
them twice; image sides are halved only down to 4 pixels; the search model has neither
drop-path nor an auxiliary head.
"""

from rafiki.supernet.architecture import Architecture, cell_knob
from rafiki.supernet.cell import search_cell
from rafiki.supernet.depthwise import depthwise_convolution
from rafiki.supernet.final_network import FinalNetwork, final_programs
from rafiki.supernet.fixed_network import FixedNetwork
from rafiki.supernet.image_data import (
    Data,
    augment,
    forget_data,
    load_data,
    minibatches,
    steps_per_epoch,
)
from rafiki.supernet.inputs import Inputs
from rafiki.supernet.normalization import batch_norm
from rafiki.supernet.operations import OPERATIONS
from rafiki.supernet.parameters import Initializer, take_tensor
from rafiki.supernet.programs import search_logits, search_programs
from rafiki.supernet.shape import Shape
from rafiki.supernet.supernet import Supernet
from rafiki.supernet.training import accuracy, cosine, cross_entropy, restarting_cosine
from rafiki.supernet.weight_banks import gather_active, init_search_params, scatter_active

__all__ = [
    "OPERATIONS",
    "Architecture",
    "Data",
    "FinalNetwork",
    "FixedNetwork",
    "Initializer",
    "Inputs",
    "Shape",
    "Supernet",
    "accuracy",
    "augment",
    "batch_norm",
    "cell_knob",
    "cosine",
    "cross_entropy",
    "depthwise_convolution",
    "final_programs",
    "forget_data",
    "gather_active",
    "init_search_params",
    "load_data",
    "minibatches",
    "restarting_cosine",
    "scatter_active",
    "search_cell",
    "search_logits",
    "search_programs",
    "steps_per_epoch",
    "take_tensor",
]
