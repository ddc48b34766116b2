"""The tasks whose data Rafiki knows how to read, check and make up.

A task is only a name to the server. A template may name another one: then its data sets are
not checked before they are uploaded, and the test bench must be given data.
"""

from rafiki.model.tasks.image_classification import IMAGE_CLASSIFICATION
from rafiki.model.tasks.language_modelling import LANGUAGE_MODELLING
from rafiki.model.tasks.pos_tagging import POS_TAGGING
from rafiki.model.tasks.tabular import TABULAR_CLASSIFICATION, TABULAR_REGRESSION
from rafiki.model.tasks.task_format import TaskFormat

TASKS = {
    known.task: known
    for known in (
        IMAGE_CLASSIFICATION,
        LANGUAGE_MODELLING,
        POS_TAGGING,
        TABULAR_CLASSIFICATION,
        TABULAR_REGRESSION,
    )
}

__all__ = ["TASKS", "TaskFormat"]
