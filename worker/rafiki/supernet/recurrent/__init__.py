"""The search space of recurrent cells, for language models.

It is that of "Efficient Neural Architecture Search via Parameter Sharing" (arXiv 1802.03268),
section 2.1, in the form of the authors' later code, google-research/enas_lm.
`rafiki/zoo/enas_rnn.py` is the model template. From the bottom up:

    architecture        one architecture
    cell, dropout       a cell that is chosen at run time, along a text
    space               the weights of all cells, or of one that is trained from scratch
    text_data           texts and their minibatches
    recipe, programs    how weights are trained; the programs
    language_model      weights with a vocabulary: trained, scored, asked

Letters: V words of the vocabulary, H hidden units, N nodes that are chosen, T words of a
minibatch's row, B rows of a minibatch. Sequences are time first: `[T, B, ...]`.

Node 0 reads the word and the state before it. Each of the nodes 1 to N chooses an earlier node
j and an activation: with (a, g) = h_j W its value is h_j + sigmoid(g) (activation(a) - h_j).
The new state, which is also the output, is the mean of the nodes 1 to N. So it is in enas_lm;
the paper averages the nodes that no other reads.

Departures from enas_lm: the nodes share W by (node, earlier node), as in the paper, not by
activation too; the output has a bias; texts are read from another place in every epoch rather
than in pieces of random length, so that one program serves; weight decay is on the active
weights, all of them.
"""

from rafiki.supernet.recurrent.architecture import (
    ACTIVATIONS,
    RecurrentArchitecture,
    recurrent_cell_knob,
)
from rafiki.supernet.recurrent.dropout import Dropout
from rafiki.supernet.recurrent.language_model import LanguageModel
from rafiki.supernet.recurrent.programs import language_programs
from rafiki.supernet.recurrent.recipe import Recipe, averaging_shares, clipped_descent
from rafiki.supernet.recurrent.space import RecurrentSpace
from rafiki.supernet.recurrent.text_data import (
    Minibatch,
    encoded_text,
    evaluation_minibatches,
    forget_texts,
    minibatches,
    steps_per_epoch,
    text_vocabulary,
)

__all__ = [
    "ACTIVATIONS",
    "Dropout",
    "LanguageModel",
    "Minibatch",
    "Recipe",
    "RecurrentArchitecture",
    "RecurrentSpace",
    "averaging_shares",
    "clipped_descent",
    "encoded_text",
    "evaluation_minibatches",
    "forget_texts",
    "language_programs",
    "minibatches",
    "recurrent_cell_knob",
    "steps_per_epoch",
    "text_vocabulary",
]
