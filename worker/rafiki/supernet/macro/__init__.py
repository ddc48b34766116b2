"""The macro search space: whole networks, an operation and skip connections per layer.

It is that of "Efficient Neural Architecture Search via Parameter Sharing" (arXiv 1802.03268),
section 2.3, and of the authors' macro search code. `rafiki/zoo/enas_macro.py` is the model
template. From the bottom up:

    architecture, shape         one architecture, the size of a network
    convolution, operations     what a layer chooses from, the reduction between stages
    stage, space                layers and networks whose operations are chosen at run time
    final_network               the network of one architecture, trained from scratch

State 0 is the output of the stem, state k + 1 that of layer k. Layer k applies its operation to
state k, and joins with it the states below k that its skip bits name. The layers are in stages;
between two stages, every state that is still to be read is halved.

Letters, beside those of `rafiki.supernet`: L layers of a network, n layers of a stage, E states
that enter a stage, M = E + n - 2 states that the last layer of a stage may skip from, P floats
of a packed 5x5 convolution.

Departures from the authors' search code: the operation and the skips are joined by a 1x1
convolution of their concatenation, as in the paper and their final network, where their search
adds them up; the first layer has it as well; a state that nothing reads is not halved; the
classifier sees the ReLU of the last layer; image sides are halved only down to 4 pixels.
"""

from rafiki.supernet.macro.architecture import MacroArchitecture, network_knob
from rafiki.supernet.macro.final_network import FinalMacroNetwork, MacroRecipe, final_macro_programs
from rafiki.supernet.macro.operations import OPERATIONS
from rafiki.supernet.macro.shape import MacroShape
from rafiki.supernet.macro.space import MacroSpace

__all__ = [
    "OPERATIONS",
    "FinalMacroNetwork",
    "MacroArchitecture",
    "MacroRecipe",
    "MacroShape",
    "MacroSpace",
    "final_macro_programs",
    "network_knob",
]
