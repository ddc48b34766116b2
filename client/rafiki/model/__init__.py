"""The model SDK: what a model template imports.

```python
from rafiki.model import BaseModel, FloatKnob, load_images, logger
```
"""

from rafiki.model.base import BaseModel, Candidate, CandidateModel, takes_candidates
from rafiki.model.datasets import InvalidDataset
from rafiki.model.image_classification import (
    ImageData,
    load_images,
    query_images,
    write_images,
)
from rafiki.model.knobs import (
    ArchKnob,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    InvalidKnobConfig,
    Knob,
    KnobConfig,
    KnobValue,
    NodeRef,
    Policy,
    PolicyKnob,
    Scalar,
)
from rafiki.model.language_modelling import Vocabulary, load_text, query_words
from rafiki.model.logger import LogSink, ModelLogger, logger
from rafiki.model.params import InvalidParams, Params
from rafiki.model.pos_tagging import (
    TaggedSentences,
    load_sentences,
    query_tokens,
    write_sentences,
)
from rafiki.model.tabular import Feature, Table, load_table, write_table
from rafiki.model.tabular_matrix import query_matrix, table_matrix

__all__ = [
    "ArchKnob",
    "BaseModel",
    "Candidate",
    "CandidateModel",
    "CategoricalKnob",
    "Feature",
    "FixedKnob",
    "FloatKnob",
    "ImageData",
    "IntegerKnob",
    "InvalidDataset",
    "InvalidKnobConfig",
    "InvalidParams",
    "Knob",
    "KnobConfig",
    "KnobValue",
    "LogSink",
    "ModelLogger",
    "NodeRef",
    "Params",
    "Policy",
    "PolicyKnob",
    "Scalar",
    "Table",
    "TaggedSentences",
    "Vocabulary",
    "load_images",
    "load_sentences",
    "load_table",
    "load_text",
    "logger",
    "query_images",
    "query_matrix",
    "query_tokens",
    "query_words",
    "table_matrix",
    "takes_candidates",
    "write_images",
    "write_sentences",
    "write_table",
]
