"""Who belongs to a supervised tree, and whose a peak was."""

import os
import subprocess
import sys
import time

from waiting import until

from penstock.budget import MiB
from penstock.supervise.tree import Tree


def test_one_that_has_come_since_the_last_reading_is_a_member():
    """A signal that ends us is for it as well."""
    tree = Tree()
    tree.read(time.time())
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert child.pid not in tree.processes
    assert child.pid in tree.members()
    tree.read(time.time())
    assert child.pid in tree.processes
    child.communicate(b"\n")
    assert child.pid in tree.members(), "as read last"
    tree.read(time.time())
    assert child.pid not in tree.members()


def test_the_child_of_a_child_is_a_member_at_once():
    tree = Tree()
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
    until(lambda: len(tree.members()) == 2)
    assert tree.members() - {child.pid} != {os.getpid()}
    child.communicate(b"\n")


def test_the_peak_of_a_child_is_known_when_it_has_ended():
    code = "kept = bytearray(b'x') * (50 << 20); print(flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    parent += "; print(flush=True); input()"
    tree = Tree()
    child = subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    tree.read(time.time())
    child.stdin.write(b"\n")
    child.stdin.flush()
    child.stdout.readline()
    tree.read(time.time())
    assert tree.processes.keys() == {child.pid}
    assert tree.processes[child.pid].mark < 50 * MiB < tree.processes[child.pid].below
    child.communicate(b"\n")
