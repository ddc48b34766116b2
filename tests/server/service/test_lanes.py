"""Lanes: order within a study, independence between studies, and an end to all."""

import asyncio
import threading
from collections.abc import Callable

import pytest

from rafiki.server.domain.names import StudyName
from rafiki.server.service.lanes import Lanes

FIRST, SECOND = StudyName("00000001", 1), StudyName("00000002", 1)
TIMEOUT_S = 20.0


def lanes(threads: int = 2) -> Lanes:
    loop = asyncio.get_running_loop()

    def post(work: Callable[[], None]) -> None:
        loop.call_soon_threadsafe(work)

    return Lanes(threads, post)


def test_steps_of_a_study_are_taken_in_order_and_never_two_at_once() -> None:
    taken: list[int] = []
    under_way: list[int] = []

    def step(number: int) -> Callable[[], int]:
        def work() -> int:
            under_way.append(number)
            assert len(under_way) == 1
            taken.append(number)
            under_way.remove(number)
            return number

        return work

    async def main() -> None:
        own = lanes(threads=4)
        results = await asyncio.gather(*(own.run(FIRST, step(n)) for n in range(100)))
        assert results == taken == list(range(100))
        own.close()

    asyncio.run(main())


def test_a_study_does_not_wait_for_the_steps_of_another() -> None:
    async def main() -> None:
        own, released = lanes(), threading.Event()
        slow = asyncio.ensure_future(own.run(FIRST, lambda: released.wait(TIMEOUT_S)))
        async with asyncio.timeout(TIMEOUT_S):
            assert await own.run(SECOND, lambda: "done") == "done"
        assert not slow.done()
        released.set()
        assert await slow
        own.close()

    asyncio.run(main())


def test_what_a_step_raises_reaches_its_caller_and_no_other() -> None:
    async def main() -> None:
        own = lanes()
        failed = asyncio.ensure_future(own.run(FIRST, lambda: 1 // 0))
        assert await own.run(FIRST, lambda: 2) == 2
        with pytest.raises(ZeroDivisionError):
            await failed
        own.close()

    asyncio.run(main())


def test_a_step_is_taken_although_its_caller_gave_up() -> None:
    async def main() -> None:
        own, released, taken = lanes(), threading.Event(), threading.Event()
        slow = asyncio.ensure_future(own.run(FIRST, lambda: released.wait(TIMEOUT_S)))
        left = asyncio.ensure_future(own.run(FIRST, taken.set))
        await asyncio.sleep(0)
        left.cancel()
        released.set()
        await slow
        own.close()
        assert taken.is_set()

    asyncio.run(main())


def test_closing_waits_for_all_steps_that_were_brought() -> None:
    async def main() -> None:
        own, taken = lanes(threads=1), list[int]()
        work = [
            asyncio.ensure_future(own.run(study, lambda n=number: taken.append(n)))  # type: ignore[misc]
            for number in range(40)
            for study in (FIRST, SECOND)
        ]
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, own.close)
        assert len(taken) == 80
        await asyncio.gather(*work)

    asyncio.run(main())
