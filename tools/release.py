"""Build sdist and wheel, and run the demonstration from the wheel in a bare environment (make release).

The wheel is built from the sdist, so that one that lacks something is noticed. The environment is new and has
what the wheel asks for, in the newest versions; nothing of this folder is on its path.

    python tools/release.py FOLDER
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
BUDGET = "512MiB"


def run(*command: object, cwd: Path, **variables: str) -> str:
    """Run a command; what it prints. It ends the program when it fails, with what it said."""
    words = [str(word) for word in command]
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PENSTOCK_"))
    }
    done = subprocess.run(words, cwd=cwd, env=environ | variables, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(dist: Path, work: Path) -> tuple[Path, Path, Path]:
    """Build both; the sdist unpacked, it, and the wheel."""
    hooks = "import sys; from setuptools import build_meta; print(build_meta.{}({!r}))"
    made = run(sys.executable, "-c", hooks.format("build_sdist", str(dist)), cwd=TOP).split()[-1]
    with tarfile.open(dist / made) as packed:
        packed.extractall(work, filter="data")
    source = work / made.removesuffix(".tar.gz")
    wheel = run(sys.executable, "-c", hooks.format("build_wheel", str(dist)), cwd=source).split()[-1]
    return source, dist / made, dist / wheel


def bare(folder: Path, wheel: Path) -> Path:
    """A new environment with the wheel and what the demonstration needs; its folder of programs."""
    wanted = f"{wheel}[codons]"
    programs = folder / "bin"
    if uv := shutil.which("uv"):
        run(uv, "venv", "--quiet", "--python", sys.executable, folder, cwd=folder.parent)
        run(uv, "pip", "install", "--quiet", wanted, cwd=folder.parent, VIRTUAL_ENV=str(folder))
    elif importlib.util.find_spec("ensurepip"):
        run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
        run(programs / "python", "-m", "pip", "install", "--quiet", wanted, cwd=folder.parent)
    else:
        raise SystemExit("this Python cannot make environments: apt-get install python3-venv")
    return programs


def demonstrate(programs: Path, source: Path, folder: Path) -> None:
    """Run ``make demo`` as somebody would who has only the wheel and the example's file."""
    place = run(programs / "python", "-c", "import penstock; print(penstock.__file__)", cwd=folder).strip()
    if not place.startswith(str(programs.parent)):
        raise SystemExit(f"the environment is not bare: penstock comes from {place}")
    examples = source / "examples"
    into = folder / "demo"
    print(run(programs / "penstock", "--version", cwd=folder).strip())
    run(
        programs / "penstock", "run", "codons", examples / "organelles.fa.gz", "--into", into,
        "--genetic-code", "11", "--frame", "all", "--strand", "both", "--budget", BUDGET, cwd=folder,
    )  # fmt: skip
    print(run(programs / "penstock", "verify", into, cwd=folder))
    print(run(programs / "python", examples / "show.py", into, cwd=folder))


def main(dist: Path) -> None:
    """Do all of it; the two files are then in ``dist``."""
    shutil.rmtree(dist, ignore_errors=True)
    dist.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="penstock-release-") as named:
        work = Path(named)
        source, sdist, wheel = build(dist.resolve(), work)
        programs = bare(work / "bare", wheel)
        demonstrate(programs, source, work)
    for each in (sdist, wheel):
        print(f"{each}: {each.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
