"""How well two scores agree in the order they give."""

import itertools
import math
from collections.abc import Sequence


def kendall_tau_b(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Kendall's tau-b in [-1, 1] of two finite scores of some candidates.

    It is (C - D) / sqrt((n - t)(n - u)): C and D are the couples of candidates that both
    scores order alike and contrariwise, n all couples, t and u those tied in the first and in
    the second score. None if either score is the same for all.

    Source: M. G. Kendall, "The Treatment of Ties in Ranking Problems", Biometrika 33 (1945).
    """
    agreement = first_untied = second_untied = 0
    for (a, b), (c, d) in itertools.combinations(pairs, 2):
        first, second = (a > c) - (a < c), (b > d) - (b < d)
        agreement += first * second
        first_untied += first != 0
        second_untied += second != 0
    if not first_untied or not second_untied:
        return None
    return agreement / math.sqrt(first_untied * second_untied)
