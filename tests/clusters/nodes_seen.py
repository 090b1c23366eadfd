"""What tests of local, Dask and SLURM nodes share: looking at folders, and disturbing a run once."""

import hashlib

import jobs

import penstock
from penstock.reducers import Sum
from penstock.sources import Range


def tree(folder):
    """Digests of all results, as they lie in the folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and (".penstock" not in path.parts or path.name.startswith("result"))
        and path.name not in ("report.html", "report.json")
    }


def thirds():
    """A job of 400 items of a twentieth of a second, whose sum depends on the order."""
    return penstock.Job(source=Range(400), function=jobs.slow_third, into=Sum(grain=5))


def once(kind, do):
    """Observes a run: does something at the first event of a kind."""
    done = []

    def observe(event):
        if isinstance(event, kind) and not done:
            done.append(event)
            do()

    return observe


def program(tmp_path, **options):
    """A script that works :func:`thirds` on a cluster: SCRIPT FOLDER CLUSTER."""
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    path = tmp_path / "program.py"
    path.write_text(
        f"import sys; sys.path.insert(0, {jobs.__file__.rpartition('/')[0]!r}); import nodes_seen\n"
        "if __name__ == '__main__':\n"
        f"    nodes_seen.thirds().run(sys.argv[1], cluster=sys.argv[2]{given})\n"
    )
    return path
