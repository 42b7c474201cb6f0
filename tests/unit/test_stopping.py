"""A command that goes on until it is stopped hears of every Ctrl-C."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.cli.stopping import Stop, heard_between_looks


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Signals are the process's: whoever changes who hears them puts it back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class PressedInTheMiddleOfIt:
    """Where Python drops what a handler raises."""

    def __del__(self) -> None:
        press()


def test_a_ctrl_c_inside_a_destructor_is_heard_at_the_next_pause() -> None:
    with heard_between_looks() as pause:
        pause(0)
        PressedInTheMiddleOfIt()
        with pytest.raises(KeyboardInterrupt):
            pause(0)


def press_twice() -> None:
    press()
    press()


def test_a_second_ctrl_c_does_not_wait_for_a_pause() -> None:
    with heard_between_looks(), pytest.raises(KeyboardInterrupt):
        press_twice()


def test_afterwards_ctrl_c_is_heard_as_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with heard_between_looks():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_thread_that_hears_no_signals_may_pause_all_the_same() -> None:
    def look() -> bool:
        with heard_between_looks() as pause:
            pause(0)
        return threading.current_thread() is not threading.main_thread()

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(look).result(10)


def test_who_asks_twice_insists() -> None:
    stop = Stop()
    stop.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.asked is signal.SIGTERM
    assert not stop.insisted
    press()
    assert stop.insisted
