"""Stop signals: held until an update is done, raised elsewhere, ignored where the process ignores them."""

import signal
import threading
import time

import pytest

from transformer_jax.training.stopping import ONE_SIGNAL, STOP_SIGNALS, Stopped, StopRequests


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_outside_of_a_held_block_it_is_raised_where_it_comes(number: int) -> None:
    with pytest.raises(Stopped) as caught, StopRequests():
        signal.raise_signal(number)
    assert caught.value.signal_number == number
    assert isinstance(caught.value, KeyboardInterrupt)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_held_block_ends_and_the_signal_is_known(number: int) -> None:
    told, steps = [], []
    with StopRequests(lambda: told.append("heard")) as stops:
        with stops.held():
            signal.raise_signal(number)
            steps.append("went on")
        assert stops.came == number
    assert (told, steps) == (["heard"], ["went on"])


def test_the_second_is_raised_even_in_a_held_block() -> None:
    with StopRequests() as stops, stops.held():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # the group's, which is the same
        time.sleep(ONE_SIGNAL)
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)


def test_what_may_be_broken_off_is() -> None:
    with StopRequests() as stops, stops.held():
        with pytest.raises(Stopped), stops.released():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(Stopped), stops.released():
            raise AssertionError("a signal came before: this may not begin")


@pytest.mark.parametrize(
    "fault", [BrokenPipeError(), RuntimeError("reentrant call"), ValueError("closed file")]
)
def test_nobody_to_tell_is_no_reason_to_break_off(fault: Exception) -> None:
    def tell() -> None:
        raise fault

    with StopRequests(tell) as stops, stops.held():
        signal.raise_signal(signal.SIGTERM)
        assert stops.came == signal.SIGTERM


def test_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with StopRequests():
        assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_what_the_process_ignores_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequests() as stops:
            signal.raise_signal(signal.SIGINT)
            assert stops.came is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_is_taken() -> None:
    seen = []

    def work() -> None:
        with StopRequests():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
