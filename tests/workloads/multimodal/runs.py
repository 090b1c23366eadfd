"""What tests of whole runs share."""

import json

import penstock
from penstock.workloads.multimodal import Multimodal

SPLITS = ("train", "val", "test")
SMALL = {"split": "quota", "window": "24h", "image_size": 32, "shard_size": "32kB", "max_text_length": 8192}
"""A run of the sample with several shards of some kilobytes."""


def run(
    folder, root, *, workers=1, budget="1GiB", observers=(), set_aside=False, retry_set_aside=False,
    backend="local", **options,
):  # fmt: skip
    """A whole run; the manifest."""
    with penstock.Run(
        folder, private=True, workers=workers, budget=budget, observers=observers, set_aside=set_aside,
        retry_set_aside=retry_set_aside, backend=backend,
    ) as opened:  # fmt: skip
        Multimodal().run(opened, root=str(root), **(SMALL | options))
    return json.loads((folder / "manifest.json").read_text())


def run_here(folder, root, **options):
    """A whole run in this process: quicker, for what does not depend on workers."""
    return run(folder, root, backend="inline", **options)


def published(folder):
    """The bytes of everything that a run gives, by name."""
    names = ["manifest.json", "metadata.json", "index.json", "failures.csv", "splits.parquet"]
    found = {name: (folder / name).read_bytes() for name in names}
    for split in SPLITS:
        for path in sorted((folder / split).iterdir()):
            if not path.name.startswith("."):
                found[f"{split}/{path.name}"] = path.read_bytes()
    return found


def rows_of(manifest):
    """How many rows of the film table a manifest accounts for."""
    written = sum(each["written"] for each in manifest["records"].values())
    return written + sum(manifest["skipped"].values()) + sum(manifest["failed"].values())
