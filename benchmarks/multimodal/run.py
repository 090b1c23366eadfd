"""Decoders, the published pipeline, writers, and whole runs of ``penstock run multimodal`` beside each other.

    python benchmarks/multimodal/run.py [--films 16] [--subjects 0] [--json FILE]

Makes films of full size (2544 x 3056; seeded) and times, on one thread, CPU milliseconds a
film: the floor (entropy decoding alone: a decode at an eighth), Pillow whole and scaled, OpenCV and
simplejpeg where they are installed, what the published program does for a record (two decodes, three float32
channels, a float32 mask at full size), and a record of ours without, with half and with full mask. Compare
with the floor of the same run. Then by how much a scaled decode of ours differs from a whole one, and the
writers: CPU milliseconds and bytes of a record.

With ``--subjects N`` also whole runs over made-up trees of N / 4 and N subjects with small films: seconds of
a run and of the same again, which has nothing to do, and the highest memory of the whole process tree in each
stage, as the run's own report has it, which must not grow with records.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import make_input
import numpy as np
from PIL import Image

import penstock
from penstock.budget import MiB
from penstock.workloads.multimodal import Multimodal, images, shards
from penstock.workloads.multimodal.images import Drawing
from penstock.workloads.multimodal.records import CLINICAL, Made

SIZE = 518
HERE = Path(__file__).parent


def films(count: int, quality: int) -> list[bytes]:
    """Films of full size, half of them portrait."""
    found = []
    for number in range(count):
        rng = np.random.default_rng([7, number])
        shape = (3056, 2544) if number % 2 else (2544, 3056)
        found.append(make_input.jpeg_bytes(make_input.radiograph(rng, *shape), quality))
    return found


def cpu_ms(ways: dict[str, Callable[[bytes], Any]], data: list[bytes], rounds: int = 5) -> dict[str, float]:
    """CPU milliseconds a film: of each film the best of several rounds, in each of which all ways come."""
    best = {name: np.full(len(data), np.inf) for name in ways}
    for do in ways.values():
        do(data[0])  # what is loaded and made once counts for nothing
    for _ in range(rounds):
        for name, do in ways.items():
            for at, each in enumerate(data):
                began = time.process_time()
                do(each)
                best[name][at] = min(best[name][at], (time.process_time() - began) * 1e3)
    return {name: float(every.mean()) for name, every in best.items()}


def pillow(mode: str, draft: tuple[int, int] | None = None) -> Callable[[bytes], Any]:
    def do(data: bytes) -> Any:
        picture = Image.open(io.BytesIO(data))
        if draft is not None:
            picture.draft(mode, draft)
        return np.asarray(picture.convert(mode).resize((SIZE, SIZE), Image.Resampling.BILINEAR))

    return do


def scaled(data: bytes) -> Any:
    """The decode that a film of ours begins with, and nothing else."""
    picture = Image.open(io.BytesIO(data))
    picture.draft("L", (SIZE, SIZE))
    picture.decodermaxblock = len(data)  # type: ignore[attr-defined]
    return picture.load()


def floor(data: bytes) -> Any:
    picture = Image.open(io.BytesIO(data))
    picture.draft("L", (1, 1))
    return picture.load()


def published(data: bytes) -> Any:
    """A record as the published program makes it: 33 MiB."""
    import cv2

    picture = Image.open(io.BytesIO(data)).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    tensor = (np.asarray(picture).astype(np.float32) / 255 - 0.45) / 0.27
    grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    edges = cv2.Canny(cv2.createCLAHE(2.0, (8, 8)).apply(grey), 50, 150)
    contours, _ = cv2.findContours(edges, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    mask = np.zeros(grey.shape, np.float32)
    for contour in contours:
        if cv2.contourArea(contour) > 100:
            cv2.fillPoly(mask, [contour], 1.0)
    return tensor.transpose(2, 0, 1).copy(), mask


def decoders() -> dict[str, Callable[[bytes], Any]]:
    found: dict[str, Callable[[bytes], Any]] = {
        "floor: entropy decoding": floor,
        "Pillow scaled": pillow("L", (SIZE, SIZE)),
        "its decode alone, no resize": scaled,
        "Pillow whole, grey": pillow("L"),
        "Pillow whole, colours": pillow("RGB"),
    }
    try:
        import cv2

        def reduced(data: bytes) -> Any:
            grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_4)
            return cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_AREA)

        cv2.setNumThreads(1)
        found |= {"OpenCV reduced": reduced, "published pipeline, a record": published}
    except ImportError:
        pass
    try:
        import simplejpeg

        found["simplejpeg scaled"] = lambda data: simplejpeg.decode_jpeg(
            data, "GRAY", min_height=SIZE, min_width=SIZE
        )
    except ImportError:
        pass
    for mask in ("none", "half", "full"):
        how = Drawing(SIZE, mask=mask)
        if mask == "none" or "OpenCV reduced" in found:
            found[f"ours, mask {mask}"] = lambda data, how=how: images.draw(data, how)  # type: ignore[misc]
    return found


def difference(data: list[bytes]) -> dict[str, float]:
    """Grey levels by which a scaled decode of ours differs from a whole one, over all pixels."""
    whole, scaled = pillow("L"), Drawing(SIZE)
    found = [np.abs(images.draw(each, scaled).image.astype(int) - whole(each)) for each in data]
    every = np.stack(found)
    return {
        "mean": float(every.mean()),
        "percent of pixels above 2": float((every > 2).mean() * 100),
        "most": float(every.max()),
    }


def writers(data: list[bytes]) -> dict[str, tuple[float, float]]:
    """CPU milliseconds and kB of a record, by writer and picture."""
    drawn = [images.draw(each, Drawing(SIZE)).image for each in data]
    found = {}
    for writer in shards.WRITERS:
        for image in shards.IMAGES:
            made = [
                Made(f"k{n}", each, None, np.arange(90, dtype=np.int32), {"row": n}, np.zeros(len(CLINICAL)))
                for n, each in enumerate(drawn)
            ]
            sink = shards.Shards("train", len(made), writer, image)
            with tempfile.TemporaryDirectory() as name:
                began = time.process_time()
                receipt = sink.write(penstock.abc.Batch(0, len(made)), iter(made), Path(name))
                spent = (time.process_time() - began) / len(made) * 1e3
                found[f"{writer}, {image}"] = (spent, receipt.parts[0].bytes / len(made) / 1e3)
    return found


def whole_run(root: Path, folder: Path, budget: str) -> dict[str, Any]:
    """A run and the same again."""
    options = {"split": "quota", "window": "24h", "image": "png"}
    told: dict[str, Any] = {}
    for name in ("run", "again"):
        began = time.process_time(), time.monotonic()
        with penstock.Run(folder, private=True, budget=budget) as run:
            Multimodal().run(run, root=str(root), **options)
        told[name] = {"parent CPU s": time.process_time() - began[0], "wall s": time.monotonic() - began[1]}
        if name == "run":
            told["stages"] = {each.stage: each.peak / MiB for each in run.reports}
    manifest = json.loads((folder / "manifest.json").read_text())
    told["records"] = sum(each["written"] for each in manifest["records"].values())
    return told


def scale(subjects: int, budget: str) -> list[dict[str, Any]]:
    found = []
    for count in (subjects // 4, subjects):
        with tempfile.TemporaryDirectory() as name:
            command = [sys.executable, str(HERE / "make_input.py"), f"{name}/tree", "--subjects", str(count)]
            subprocess.run([*command, "--distinct-images", "16", "--scale", "0.1"], check=True)
            found.append({"subjects": count, **whole_run(Path(name) / "tree", Path(name) / "run", budget)})
            print(json.dumps(found[-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--films", type=int, default=16)
    parser.add_argument("--quality", type=int, default=97, help="of the JPEG: 95 is 1.7 MB a film, 97 2.4 MB")
    parser.add_argument("--subjects", type=int, default=0, help="of the larger tree; 0 for no whole runs")
    parser.add_argument("--budget", default="256MiB", help="of whole runs")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    data = films(asked.films, asked.quality)
    print(f"{len(data)} films, {sum(map(len, data)) / len(data) / 1e6:.2f} MB each")
    times = cpu_ms(decoders(), data)
    base = times["floor: entropy decoding"]
    print("\n| one thread | CPU ms a film | of the floor |\n|---|--:|--:|")
    for name, spent in times.items():
        print(f"| {name} | {spent:.1f} | {spent / base:.2f} |")
    differs = difference(data)
    print("\nscaled from whole, grey levels:", ", ".join(f"{name} {n:.2f}" for name, n in differs.items()))
    kept = writers(data)
    print("\n| writer | CPU ms a record | kB a record |\n|---|--:|--:|")
    for name, (spent, size) in kept.items():
        print(f"| {name} | {spent:.2f} | {size:.0f} |")
    whole = scale(asked.subjects, asked.budget) if asked.subjects else []
    if asked.json is not None:
        with open(asked.json, "a", encoding="utf-8") as out:
            out.write(
                json.dumps({"decoders": times, "differs": differs, "writers": kept, "runs": whole}) + "\n"
            )


if __name__ == "__main__":
    main()
