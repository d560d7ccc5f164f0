"""The batch that is fastest, on devices that run out of memory where the test wants it."""

from __future__ import annotations

import pytest
import torch

from hybridvit.benchmark.search import best_batch, is_out_of_memory

CPU_ERROR = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")


class Device:
    """Holds `fits` images, and is as fast as `rates` says: the last of them for all larger batches."""

    def __init__(self, *rates: float, fits: int = 10**9, error: Exception = CPU_ERROR) -> None:
        self.rates, self.fits, self.error, self.tried = rates, fits, error, list[int]()

    def rate(self, batch: int) -> float:
        self.tried.append(batch)
        if batch > self.fits:
            raise self.error
        return self.rates[min(batch.bit_length() - 1, len(self.rates) - 1)]


def test_the_batch_grows_while_it_pays() -> None:
    device = Device(100, 190, 300, 303, 301)
    assert best_batch(device.rate) == 4, "1% more is not worth twice the batch"
    assert device.tried == [1, 2, 4, 8, 16], "one step that brings nothing is not the end yet"


def test_a_dip_does_not_end_the_search() -> None:
    assert best_batch(Device(100, 90, 200, 300, 290, 280).rate) == 8


@pytest.mark.parametrize("error", [CPU_ERROR, torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_where_memory_ends_the_largest_that_fits_is_taken(error: Exception) -> None:
    device = Device(100, 200, 400, 800, 1600, fits=5, error=error)
    assert best_batch(device.rate) == 4
    assert device.tried == [1, 2, 4, 8]


def test_a_first_batch_that_does_not_fit_is_halved() -> None:
    device = Device(100, 200, 400, 800, 1600, fits=5)
    assert best_batch(device.rate, first=32) == 4
    assert device.tried == [32, 16, 8, 4], "what did not fit is not tried again"


def test_when_nothing_fits_the_error_says_so() -> None:
    with pytest.raises(RuntimeError, match="DefaultCPUAllocator"):
        best_batch(Device(100, fits=0).rate)


def test_without_room_for_twice_as_much_the_batch_stays() -> None:
    device = Device(100, 200, 400, 800)
    assert best_batch(device.rate, room=lambda: device.tried[-1] < 4) == 4
    assert device.tried == [1, 2, 4]


def test_the_search_has_an_end() -> None:
    assert best_batch(lambda batch: float(batch), most=64) == 64


def test_other_errors_are_not_taken_for_the_end_of_memory() -> None:
    bug = RuntimeError("a bug")
    assert not is_out_of_memory(bug)
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    with pytest.raises(RuntimeError, match="a bug"):
        best_batch(Device(100, fits=0, error=bug).rate)
