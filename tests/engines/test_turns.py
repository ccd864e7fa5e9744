"""Many may share it, or one may have it alone."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from generation.engines.turns import SharedOrExclusive


@pytest.fixture
def turns():
    return SharedOrExclusive()


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def want_alone(turns, pool, then=lambda: None):
    """Somebody who already waits for having it alone."""
    waits = threading.Event()
    changed = turns._changed
    wait_for = changed.wait_for

    def tell(condition, timeout=None):
        waits.set()
        return wait_for(condition, timeout)

    changed.wait_for = tell

    def have_alone():
        with turns.exclusive():
            return then()

    wanted = pool.submit(have_alone)
    assert waits.wait(60)
    changed.wait_for = wait_for
    return wanted


def test_many_share_it_at_the_same_time(turns, pool):
    all_are_there = threading.Barrier(3)

    def share():
        with turns.shared():
            return all_are_there.wait(60)

    assert sorted(pool.map(lambda _: share(), range(3))) == [0, 1, 2]


def test_who_wants_it_alone_waits_until_nobody_shares_it(turns, pool):
    order = []
    with turns.shared():
        alone = want_alone(turns, pool, then=lambda: order.append("alone"))
        order.append("shared")

    alone.result(60)
    assert order == ["shared", "alone"]


def test_nobody_begins_to_share_it_while_somebody_wants_it_alone(turns, pool):
    order = []

    def share():
        with turns.shared():
            order.append("shared")

    with turns.shared():
        alone = want_alone(turns, pool, then=lambda: order.append("alone"))
        later = pool.submit(share)

    alone.result(60)
    later.result(60)
    assert order == ["alone", "shared"]


def test_who_waits_to_share_it_may_change_their_mind(turns):
    def change_mind():
        raise ValueError("oops")

    with turns.exclusive(), pytest.raises(ValueError, match="oops"), turns.shared(while_waiting=change_mind):
        pass


def test_two_never_have_it_alone_at_the_same_time(turns, pool):
    with turns.exclusive():
        other = want_alone(turns, pool)

        with pytest.raises(TimeoutError):
            other.result(0.05)

    other.result(60)


@pytest.mark.parametrize("kind", ["shared", "exclusive"])
def test_after_an_error_it_is_free_again(turns, pool, kind):
    with pytest.raises(ValueError, match="oops"), getattr(turns, kind)():
        raise ValueError("oops")

    want_alone(turns, pool).result(60)


def test_who_gave_up_wanting_it_alone_is_in_nobodys_way(turns, monkeypatch):
    def interrupt(condition):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(turns._changed, "wait_for", interrupt)
        with pytest.raises(KeyboardInterrupt), turns.exclusive():
            pass

    with turns.shared():
        assert not turns._wanting
