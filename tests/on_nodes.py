"""The same workload here and on nodes of a cluster: the same bytes of everything that it gives."""

import hashlib

import penstock


def tree(folder):
    """Digests of all files that a run gives."""
    return {
        path.relative_to(folder).as_posix(): hashlib.md5(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and ".penstock" not in path.parts
        and path.name not in ("report.html", "report.json")
    }


def check_same_on_nodes(tmp_path, workload, *, budget="1200MiB", set_aside=False, **options):
    """Run it twice, and verify what nodes made."""
    for name, where in (("here", {"backend": "inline"}), ("there", {"cluster": "local:2"})):
        private = bool(getattr(workload, "private", False))
        with penstock.Run(
            tmp_path / name, budget=budget, set_aside=set_aside, private=private, **where
        ) as run:
            workload.run(run, **options)
    there = tree(tmp_path / "there")
    assert there
    assert there == tree(tmp_path / "here")
    events = (tmp_path / "there" / ".penstock" / "events.jsonl").read_text()
    assert '"event":"node_joined"' in events
    left = [line for line in events.splitlines() if '"event":"node_left"' in line]
    assert not left, left
    assert penstock.verify(tmp_path / "there").ok
