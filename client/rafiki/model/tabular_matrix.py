"""Rows of tables as the matrix a model takes, from data sets and from queries.

A matrix is float64 `[N, F]`: numbers, and indices of categories into those of a feature. NaN
is missing; so is a category that the feature does not know. Letters: `N` rows, `F` features.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rafiki.model.tabular import Feature, Table, number_in


def table_matrix(table: Table, features: Sequence[Feature]) -> np.ndarray:
    """The rows of a data set as a matrix.

    Args:
        table: The data set, read with these `features`, or that which they are of.
        features: Names and categories that the model knows, in its order.
    """
    found = {
        feature.name: (feature, values)
        for feature, values in zip(table.features, table.columns, strict=True)
    }
    matrix = np.empty((len(table.target), len(features)))
    for column, feature in enumerate(features):
        own, values = found[feature.name]
        if feature.categories is not None and own.categories is not None:
            codes = _codes(feature)
            # The last is what -1 indexes: missing.
            known = [*(codes.get(text, math.nan) for text in own.categories), math.nan]
            values = np.array(known)[values]
        matrix[:, column] = values
    return matrix


def query_matrix(queries: Sequence[object], features: Sequence[Feature]) -> np.ndarray:
    """The rows of a list of queries as a matrix.

    Args:
        queries: `N` rows. A row is a dict of values by column, where what is left out is
            missing, or a list of the values of all features in the order of the data set.
            A value is a number or a text as the data set would have it; None or "" is
            missing.
        features: Names and categories, in the order of the data set.

    Raises:
        ValueError: There are none; or a query is no such row, names no feature, or has
            what is no finite number in a column of numbers.
    """
    if not queries:
        raise ValueError("there are no queries")
    codes = {feature.name: _codes(feature) for feature in features if feature.categories}
    matrix = np.full((len(queries), len(features)), np.nan)
    for number, query in enumerate(queries):
        row = _row(query, features, f"query {number}")
        for column, feature in enumerate(features):
            text = _text(row.get(feature.name), f"query {number}, column {feature.name!r}")
            if feature.categories is not None:
                matrix[number, column] = codes.get(feature.name, {}).get(text, math.nan)
                continue
            value = number_in(text)
            if value is None or math.isinf(value):
                raise ValueError(
                    f"query {number}, column {feature.name!r}: {text!r} is no finite number"
                )
            matrix[number, column] = value
    return matrix


def _codes(feature: Feature) -> dict[str, float]:
    return {text: float(code) for code, text in enumerate(feature.categories or ())}


def _row(query: object, features: Sequence[Feature], where: str) -> Mapping[object, object]:
    names = [feature.name for feature in features]
    if isinstance(query, list | tuple):
        if len(query) != len(names):
            raise ValueError(f"{where} has {len(query)} values for {len(names)} columns")
        return dict(zip(names, query, strict=True))
    if not isinstance(query, Mapping):
        raise ValueError(f"{where} is neither a dict of values by column nor a list of them")
    if unknown := [name for name in query if name not in names]:
        raise ValueError(f"{where}: there is no column {unknown[0]!r}")
    return query


def _text(value: object, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int | float | np.generic):
        return str(value).strip()
    raise ValueError(f"{where}: {value!r:.80} is neither a number nor a text")
