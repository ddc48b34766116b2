"""The search space of cells: stacked normal and reduction cells, each found by the search.

It is that of "Efficient Neural Architecture Search via Parameter Sharing" (arXiv 1802.03268),
section 2.4, and of the authors' micro search code: the nodes of a cell choose two earlier
states and two operations. `rafiki/zoo/enas_cnn.py` is the model template. From the bottom up:

    architecture, shape                 one architecture, the size of a network
    cell, space                         cells and networks whose operations are chosen at run time
    fixed_cell, auxiliary, fixed_network        the network of one architecture
    recipe, final_network               how it is trained from scratch

Letters, beside those of `rafiki.supernet`: N = 5 nodes of a cell, S = N + 2 states of a cell
(its two inputs and its nodes), E = 2 N edges (operations) of a cell, L cells of a stage, R =
2 * 40 rows of weights per cell: every (node, side, earlier state) for each of the two
separable convolutions, P floats of a packed 5x5 separable convolution.

Departures from the authors' code: weight decay and momentum act on the active path only; a
reduction cell gets the outputs of the two cells before it, both halved, rather than one of
them twice; image sides are halved only down to 4 pixels; the search model has neither
drop-path nor an auxiliary head. In the final network the loose ends of a cell are combined as
in the search, by a 1x1 convolution, rather than handed on side by side, its second input is
projected once, and all batch norms have the epsilon of the search (theirs is 1e-3 there).
"""

from rafiki.supernet.cells.architecture import Architecture, cell_knob
from rafiki.supernet.cells.final_network import FinalNetwork, final_programs
from rafiki.supernet.cells.fixed_network import FixedNetwork
from rafiki.supernet.cells.recipe import Recipe
from rafiki.supernet.cells.shape import Shape
from rafiki.supernet.cells.space import CellSpace
from rafiki.supernet.cells.stage import StageCells, search_stage

__all__ = [
    "Architecture",
    "CellSpace",
    "FinalNetwork",
    "FixedNetwork",
    "Recipe",
    "Shape",
    "StageCells",
    "cell_knob",
    "final_programs",
    "search_stage",
]
