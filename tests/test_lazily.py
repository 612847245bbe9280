"""A value is worked out once for each object, and nobody waits for that of another."""

from __future__ import annotations

import threading

from tests.support import eventually
from usage_middleware.lazily import cached


class Asking:
    """Its value comes when somebody says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.answered = threading.Event()

    @cached
    def value(self) -> int:
        """How often it was asked for."""
        self.asked += 1
        assert self.answered.wait(10)
        return self.asked


def test_it_is_worked_out_once() -> None:
    one = Asking()
    one.answered.set()
    assert [one.value, one.value] == [1, 1]


def test_nobody_waits_for_the_value_of_another_object() -> None:
    """`functools.cached_property` in Python 3.11 has one lock for all objects: each waited for everybody's Redis."""
    slow, quick, found = Asking(), Asking(), list[int]()
    quick.answered.set()
    threads = [threading.Thread(target=lambda one=one: found.append(one.value)) for one in (slow, quick)]
    threads[0].start()
    eventually(lambda: slow.asked == 1)
    threads[1].start()
    eventually(lambda: len(found) == 1)
    slow.answered.set()
    for thread in threads:
        thread.join(10)
    assert found == [1, 1]


def test_it_has_the_text_of_its_function() -> None:
    assert isinstance(Asking.value, cached)
    assert Asking.value.__doc__ == "How often it was asked for."
