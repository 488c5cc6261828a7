from kinescribe.storage.threads import map_in_threads


def test_results_come_in_the_order_of_the_items():
    assert list(map_in_threads(lambda item: item * 2, range(3000))) == list(range(0, 6000, 2))
