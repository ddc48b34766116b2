from rafiki.client.pages import walk


def test_pages_are_walked_to_the_last_one_past_empty_ones() -> None:
    pages = {"": ([1, 2], "b"), "b": ([], "c"), "c": ([3], "")}
    assert list(walk(lambda token: pages[token])) == [1, 2, 3]


def test_a_page_is_fetched_only_when_it_is_reached() -> None:
    fetched: list[str] = []

    def fetch(token: str) -> tuple[list[int], str]:
        fetched.append(token)
        return [1, 2], "next"

    items = walk(fetch)
    assert [next(items), next(items)] == [1, 2]
    assert fetched == [""]
