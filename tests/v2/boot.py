"""Boot the guest of the tests of control groups v2, show what it says, and end as its tests ended.

Its disk is made anew each time (some two seconds): this interpreter with its standard library, what penstock
and the tests need of this environment, this repository's sources, and a shell; each where it is here, so that
the environment works in the guest as it does here. The kernel has the disk's driver and ext4 built in, so
there is no initial file system to make.

Called by run.sh: boot.py CACHE [--systemd] [option of pytest ...]. With ``--systemd`` the first process is
a real systemd (with_systemd.py lays it out), and what is tested is what it lets root and users do.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from importlib import metadata
from pathlib import Path

import with_systemd

TOP = Path(__file__).resolve().parents[2]
MEMORY = 768
"""Of the guest, in MiB."""
SILENCE = 620.0
"""Seconds without a word from the guest; a test's own limit is 600 (init, with_systemd.sh)."""
LONGEST = 3600.0
"""Seconds for everything."""
NEEDED = ("penstock", "pytest", "pytest-timeout")
UNUSED = (
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "site-packages",
    "f2py",
)
"""Folders of the standard library and of packages that no program uses."""


# --------------------------------------------------------------------------- the disk


def distributions() -> Iterator[metadata.Distribution]:
    """What is needed of this environment, and what that needs."""
    waiting, seen = list(NEEDED), set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for other systems or older Pythons
            continue
        yield found
        always = (requirement for requirement in found.requires or () if "extra ==" not in requirement)
        waiting += [re.split(r"[^\w.-]", requirement)[0] for requirement in always]


class Tree:
    """A root file system in a folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/", name).is_symlink():
                (root / "usr" / name).mkdir(parents=True)
                (root / name).symlink_to(f"usr/{name}")

    def at(self, path: Path) -> Path:
        """Where a file of this machine goes."""
        target = self.root / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def file(self, path: Path) -> None:
        """Take over a file, and all the links that lead to it."""
        target = self.at(path)
        if target.exists() or target.is_symlink():
            return
        if path.is_symlink():
            target.symlink_to(path.readlink())
            self.file(Path(os.path.normpath(path.parent / path.readlink())))
        else:
            shutil.copy2(path, target)

    def folder(self, path: Path) -> None:
        """Take over a folder, less what no program uses."""
        ignore = shutil.ignore_patterns(*UNUSED, "config-*", "*.a", "*.opt-?.pyc", ".*")
        shutil.copytree(path, self.at(path), ignore=ignore, symlinks=True, dirs_exist_ok=True)

    def libraries(self, complete: Collection[Path] = ()) -> None:
        """Take over the shared libraries of everything here that is not complete already."""
        binaries = [
            p
            for p in self.root.rglob("*")
            if p not in complete and re.search(r"\.so(\.\d+)*$|/bin/python", str(p))
        ]
        answer = subprocess.run(
            ["ldd", *map(str, binaries)], capture_output=True, text=True, check=False
        ).stdout
        for name in sorted(set(re.findall(r"(?:=> |^\t)(/\S+) \(0x", answer, re.MULTILINE))):
            if not Path(name).is_relative_to(self.root):
                self.file(Path(name))


def make_disk(image: Path, unpacked: Path, options: list[str], base: Path | None) -> None:
    """Write the guest's disk; ``base`` has what systemd needs, where that is to be the first process."""
    with tempfile.TemporaryDirectory(dir=image.parent) as scratch:
        tree = Tree(Path(scratch))
        if base is not None:
            with_systemd.lay_out(base, tree.root)
        complete = set(tree.root.rglob("*"))
        for name in ("proc", "sys", "dev", "tmp"):
            (tree.root / name).mkdir(exist_ok=True)
        (tree.root / "tmp").chmod(0o1777)
        tree.file(Path(sys.executable))
        tree.file(Path(sys.prefix, "pyvenv.cfg"))
        for name in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
            tree.folder(Path(name.replace(sys.prefix, sys.base_prefix, 1)))
        for distribution in distributions():
            for file in distribution.files or ():
                path = Path(os.path.normpath(distribution.locate_file(file)))
                if path.is_file() and path.suffix != ".pyi" and not set(UNUSED) & set(file.parts):
                    tree.file(path)
        for name in ("src", "tests/v2"):
            tree.folder(TOP / name)
        tree.file(TOP / "pyproject.toml")
        tree.libraries(complete)
        shell = tree.at(Path("/bin/busybox"))
        shutil.copy2(next(p for p in (unpacked / "bin/busybox", Path("/bin/busybox")) if p.exists()), shell)
        for name in ("sh", "mount", "mkdir", "uname", "nproc", "awk", "cat", "poweroff"):
            if not (shell.parent / name).exists():
                (shell.parent / name).symlink_to("busybox")
        init = shutil.copy2(
            TOP / "tests/v2" / ("init" if base is None else "with_systemd.init"), tree.root / "init"
        )
        Path(init).chmod(0o755)
        words = [f"TOP={shlex.quote(str(TOP))}", f"PYTHON={shlex.quote(sys.executable)}"]
        if base is not None:
            shutil.copy2(TOP / "tests/v2/with_systemd.sh", tree.root / "tests")
        (tree.root / "words").write_text("\n".join([*words, f"set -- {shlex.join(options)}", ""]))
        make = [tool("mkfs.ext4", unpacked), "-q", "-F", "-O", "^has_journal", "-m", "0"]
        subprocess.run(
            [*make, "-d", scratch, str(image), "1G"],
            check=True,
            env=environment(unpacked),
            stdout=subprocess.DEVNULL,
        )


# --------------------------------------------------------------------------- the guest


def tool(name: str, unpacked: Path) -> str:
    """A program of the unpacked packages, or else of this machine."""
    folders = ["usr/bin", "usr/sbin", "sbin", "bin"]
    places = [str(base / folder) for base in (unpacked, Path("/")) for folder in folders]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        sys.exit(f"{name} is neither in {unpacked} nor installed: remove {unpacked.parent} and run again")
    return found


def environment(unpacked: Path) -> dict[str, str]:
    """For programs of the unpacked packages."""
    libraries = [str(unpacked / folder) for folder in ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu")]
    return {**os.environ, "LD_LIBRARY_PATH": os.pathsep.join(libraries)}


def command(image: Path, unpacked: Path, kernel_log: Path) -> list[str]:
    """The machine: two CPUs, no network, the kernel's console into a file, the tests' on our output."""
    (kernel,) = (unpacked / "boot").glob("vmlinuz-*")
    line = "console=ttyS0 root=/dev/nvme0n1 rw init=/init no_timer_check panic=-1 oops=panic mitigations=off"
    firmware = [arg for name in ("qemu", "seabios") for arg in ("-L", str(unpacked / "usr/share" / name))]
    if not (unpacked / "usr/share/qemu").is_dir():  # qemu is installed, and finds its own
        firmware = []
    return [
        tool("qemu-system-x86_64", unpacked), *firmware, "-accel", "tcg,thread=multi", "-cpu", "max",
        "-smp", "2", "-m", str(MEMORY), "-display", "none", "-nodefaults", "-no-reboot",
        "-drive", f"file={image},if=none,id=disk,format=raw,cache=unsafe",
        "-device", "nvme,drive=disk,serial=disk",
        "-serial", f"file:{kernel_log}", "-serial", "stdio",
        "-kernel", str(kernel), "-append", line,
    ]  # fmt: skip


def watch(guest: subprocess.Popen[str]) -> int | None:
    """Show what the guest says until it ends; its status, or None when it fell silent or told none."""
    said: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        assert guest.stdout is not None
        for line in guest.stdout:
            said.put(line)
        said.put(None)

    threading.Thread(target=listen, daemon=True).start()
    status, end = None, time.monotonic() + LONGEST
    while True:
        try:
            line = said.get(timeout=max(0.0, min(SILENCE, end - time.monotonic())))
        except queue.Empty:
            print("the guest hangs")
            return None
        if line is None:
            return status
        if found := re.match(r"status (\d+)", line):
            status = int(found[1])
        else:
            print(line.rstrip(), flush=True)


def main(cache: Path, options: list[str]) -> int:
    """Make the disk, boot, watch, and tell."""
    unpacked, kernel_log = cache / "root", cache / "kernel.log"
    image = cache / f"disk-{os.getpid()}.img"  # another run may be going on
    began = time.monotonic()
    base = cache / "systemd" if options[:1] == ["--systemd"] else None
    make_disk(image, unpacked, options if base is None else options[1:], base)
    print(f"disk of {image.stat().st_blocks >> 11} MiB made in {time.monotonic() - began:.1f} s", flush=True)
    guest = subprocess.Popen(
        command(image, unpacked, kernel_log), env=environment(unpacked),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace",
    )  # fmt: skip
    try:
        status = watch(guest)
    finally:
        guest.kill()
        guest.wait()
        image.unlink()
    if status is None:
        print("the guest's console:", *kernel_log.read_text(errors="replace").splitlines()[-100:], sep="\n")
    print(f"{time.monotonic() - began:.0f} s in all; the kernel's log is in {kernel_log}")
    return 1 if status is None else status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
