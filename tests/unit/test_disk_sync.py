from __future__ import annotations

from twisted.internet import task

from mta.disk.sync import SyncChoice, Way


def test_without_a_volume_sync_each_file_is_synced() -> None:
    """On a kernel whose syncfs tells no errors there is no choice, whatever was measured."""
    clock = task.Clock()
    choice = SyncChoice(clock.seconds, volume_sync=False)
    clock.advance(1e6)
    choice.measured(Way.EACH, 100, 9.0)
    assert {choice.choose(files) for files in (1, 2, 100)} == {Way.EACH}


def test_unmeasured_small_batches_sync_each_and_large_ones_the_volume() -> None:
    """It starts sensibly: one or two files each, more by volume."""
    choice = SyncChoice(task.Clock().seconds, volume_sync=True)
    assert [choice.choose(files) for files in (1, 2, 3, 20, 256)] == [Way.EACH, Way.EACH] + 3 * [Way.VOLUME]


def test_the_cheaper_way_is_taken() -> None:
    """When both were measured for batches of a size, the lower estimate wins, for that size only."""
    choice = SyncChoice(task.Clock().seconds, volume_sync=True)
    choice.measured(Way.VOLUME, 20, 0.5)
    assert choice.choose(20) is Way.VOLUME
    choice.measured(Way.EACH, 20, 0.1)
    assert choice.choose(20) is Way.EACH
    assert choice.choose(31) is Way.EACH
    assert choice.choose(32) is Way.VOLUME


def test_a_way_that_becomes_dear_is_left() -> None:
    """A neighbour who writes gigabytes makes the sync of the volume dear: after some batches each file is synced."""
    choice = SyncChoice(task.Clock().seconds, volume_sync=True)
    choice.measured(Way.EACH, 8, 0.002)
    choice.measured(Way.VOLUME, 8, 0.001)
    batches = 0
    while choice.choose(8) is Way.VOLUME:
        choice.measured(Way.VOLUME, 8, 0.01)
        batches += 1
    assert batches == 1


def test_the_dearer_way_is_tried_again_after_a_pause() -> None:
    """Ten seconds pass before the other way is tried; its measure ends the trial."""
    clock = task.Clock()
    choice = SyncChoice(clock.seconds, volume_sync=True)
    choice.measured(Way.VOLUME, 8, 0.001)
    clock.advance(10)
    assert choice.choose(8) is Way.VOLUME
    clock.advance(0.1)
    assert choice.choose(8) is Way.EACH
    choice.measured(Way.EACH, 8, 0.002)
    assert choice.choose(8) is Way.VOLUME


def test_a_trial_that_took_long_is_not_repeated_soon() -> None:
    """A way that took 1 s is left alone for 1000 s: trials take a thousandth of the time."""
    clock = task.Clock()
    choice = SyncChoice(clock.seconds, volume_sync=True)
    choice.measured(Way.VOLUME, 8, 0.001)
    choice.measured(Way.EACH, 8, 1.0)
    clock.advance(999)
    assert choice.choose(8) is Way.VOLUME
    clock.advance(2)
    assert choice.choose(8) is Way.EACH
