"""Locks, queues and values that a program made as it does for forked children, handed to workers."""

import threading
from multiprocessing import active_children, get_context

import pytest
from executor_programs import beside

import penstock
from penstock import handing

FORK = get_context("fork")


def sent(value):
    """What a worker would be sent; nothing is unpickled."""
    import copyreg
    import io
    import pickle

    with handing.spawning():
        pickler = pickle.Pickler(io.BytesIO())
        pickler.dispatch_table = {**copyreg.dispatch_table, **handing.reducers()}
        pickler.dump(value)


given = []


def begin(*values):
    given[:] = values


def count(number):
    """Adds one to the value many times, beside others, and says so."""
    value, lock, queue, event, done = given
    assert event.wait(60)
    for _ in range(200):
        with lock:
            value.value += 1
    queue.put(number)
    queue.join()
    done.release()
    return number


def test_what_forked_children_would_inherit_works_in_workers_too():
    value, lock, queue, event = (
        FORK.Value("i", 0, lock=False),
        FORK.Lock(),
        FORK.JoinableQueue(),
        FORK.Event(),
    )
    done = FORK.Semaphore(2)
    things = (value, lock, queue, event, done)
    with penstock.Executor(2, initializer=begin, initargs=things, budget=beside(400)) as pool:
        futures = [pool.submit(count, number) for number in range(2)]
        event.set()
        for _ in range(200):
            with lock:
                value.value += 1
        said = {queue.get(timeout=60) for _ in range(2)}
        for _ in range(2):
            queue.task_done()
        assert {future.result(60) for future in futures} == said == {0, 1}
    assert value.value == 600
    assert done.get_value() == 4


def test_an_object_s_own_names_for_a_lock_follow_it():
    value, condition = FORK.Value("i", 3), FORK.Condition()
    for thing in (value, condition):
        sent(thing)
        assert thing.acquire()
        assert not threads_can(thing._lock)
        thing.release()
        assert threads_can(thing._lock)
    assert value.value == 3


def threads_can(lock):
    """Whether another thread may have the lock now."""
    could = []
    thread = threading.Thread(target=lambda: could.append(lock.acquire(block=False) and not lock.release()))
    thread.start()
    thread.join()
    return could == [True]


def test_what_it_counts_stays():
    semaphore = FORK.Semaphore(3)
    semaphore.acquire()
    sent(semaphore)
    assert semaphore.get_value() == 2


def held_by_a_thread(kind):
    lock = kind()
    thread = threading.Thread(target=lock.acquire)
    thread.start()
    thread.join()
    return lock


def waited_for():
    condition = FORK.Condition()

    def wait():
        with condition:
            condition.wait()

    threading.Thread(target=wait, daemon=True).start()
    while condition._sleeping_count._semlock._is_zero():
        pass
    return condition


def used():
    queue = FORK.Queue()
    queue.put(1)
    assert queue.get(timeout=60) == 1
    return queue


@pytest.mark.parametrize(
    "make",
    [lambda: held_by_a_thread(FORK.Lock), lambda: held_by_a_thread(FORK.RLock), waited_for, used],
    ids=["lock", "rlock", "condition", "queue"],
)
def test_what_somebody_else_uses_already_is_refused_as_before(make):
    thing = make()
    with pytest.raises(RuntimeError, match="created in a fork context"):
        sent(thing)


def test_a_child_may_have_been_forked_with_it():
    lock, over = FORK.Lock(), FORK.Event()
    child = FORK.Process(target=over.wait)
    child.start()
    try:
        assert child in active_children()
        with pytest.raises(RuntimeError, match="created in a fork context"):
            sent(lock)
    finally:
        over.set()
        child.join()
    sent(lock)


def test_other_contexts_are_left_alone():
    lock = get_context("spawn").Lock()
    before = lock._semlock
    sent(lock)
    assert lock._semlock is before
