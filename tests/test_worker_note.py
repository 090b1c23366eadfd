"""Notes of workers: how large they are."""

import resource
import subprocess
import sys

import pytest
from waiting import LIMIT

from penstock import worker_note as note


@pytest.mark.parametrize("most", [0, 65_536, 300_000, 20 << 20, 1 << 40, -1])
def test_notes_fit_into_what_a_file_may_hold_and_always_have_their_head(most):
    words = note.words(most, 1024)
    assert note.HEAD <= words <= note.BYTES // 8
    assert words == note.HEAD or most < 0 or words * 8 * 1024 <= most
    assert words == note.BYTES // 8 or 0 <= most < note.BYTES * 1024


def test_an_executor_works_where_files_must_be_small(tmp_path):
    """Without room for results in its note, a batch ends with its first call."""
    (tmp_path / "script.py").write_text(
        "import penstock\n"
        "with penstock.Executor(2, budget='400MiB') as pool:\n"
        "    print(sum(pool.map(abs, range(-300, 0))))\n"
    )
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000)),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "45150"), done.stderr
