"""Guessing is slowed down by name and in all; who knows the password is not."""

from orchestrator.web.console.guesses import Guesses


class Clock:
    """Time that a test moves."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_a_name_has_ten_tries_in_five_minutes() -> None:
    clock = Clock()
    tried = Guesses(clock)
    assert [tried.allowed("anna") for _ in range(12)] == [True] * 10 + [False] * 2
    assert tried.allowed("bert")
    clock.now_s += 301
    assert tried.allowed("anna")


def test_a_try_counts_when_it_begins_so_that_many_at_once_are_no_way_around() -> None:
    tried = Guesses(Clock())
    for _ in range(10):
        assert tried.allowed("anna")
    assert not tried.allowed("anna")  # none of the ten has been answered yet


def test_the_right_password_gives_a_name_its_tries_back() -> None:
    tried = Guesses(Clock())
    for _ in range(9):
        tried.allowed("anna")
    tried.allowed("anna")
    tried.right("anna")
    assert tried.allowed("anna")


def test_all_names_together_have_sixty_tries_in_a_minute_and_nothing_more_is_kept() -> None:
    clock = Clock()
    tried = Guesses(clock)
    assert sum(tried.allowed(f"name-{number}") for number in range(1000)) == 60
    assert len(tried._by_name) == 60
    clock.now_s += 61
    assert tried.allowed("anna")
    clock.now_s += 301
    tried.allowed("anna")
    assert set(tried._by_name) == {"anna"}


def test_a_refused_try_is_not_counted_so_that_who_waits_gets_in() -> None:
    clock = Clock()
    tried = Guesses(clock)
    for _ in range(10):
        tried.allowed("anna")
    for _ in range(100):
        clock.now_s += 2.9
        tried.allowed("anna")
    clock.now_s += 12
    assert tried.allowed("anna")
