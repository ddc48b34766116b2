"""What a trial that ended has to say."""

from rafiki.resources import TrialState
from rafiki.server.domain.advisor import Ended


def reason(event: Ended) -> str:
    """Why a trial failed, in words."""
    return event.error.message if event.error is not None else "no reason given"


def scores_of(event: Ended, count: int) -> list[float | None]:
    """The scores of the candidates of a trial; those of one that failed are None."""
    if event.state is not TrialState.COMPLETED:
        return [None] * count
    if count == 1 and event.score is not None:
        return [event.score]
    scores = [candidate.score for candidate in event.candidates]
    if len(scores) != count:
        raise ValueError(f"trial {event.number} has {len(scores)} scores, not {count}")
    return scores
