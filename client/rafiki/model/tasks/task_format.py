"""What is known of a task beyond its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFormat:
    """The format of a task's data, and made-up data to try templates with.

    Attributes:
        task: The name, in capital letters.
        data: What a data set is, in one line for people.
        suffix: Of the file that `write_sample` writes, such as ".zip".
        check: Reads a data set. Raises InvalidDataset if workers could not, and
            FileNotFoundError.
        write_sample: Writes a small data set of so many examples, made up from a seed, that
            a model learns within seconds; returns what it is, in words.
        read_queries: Queries made of the first so many examples of a data set. Raises as
            `check` does.
    """

    task: str
    data: str
    suffix: str
    check: Callable[[Path], None]
    write_sample: Callable[[Path, int, int], str]
    read_queries: Callable[[Path, int], list[object]]
