"""What the guest needs for a real systemd as its first process: Debian's packages, set up by hand.

No package is configured by its own scripts, which would need rights: users, PAM and the few links that
they make are written here. One unit runs the tests; nothing else that a machine starts is needed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

UNUSED = ("doc", "man", "locale", "perl", "perl5", "zoneinfo", "bash-completion", "lintian", "info", "i18n")
"""Folders of /usr/share that no program of the tests uses."""
USER = 1000

FILES = {
    "etc/passwd": (
        "root:x:0:0::/root:/bin/sh\nmessagebus:x:101:101::/:/bin/false\n"
        f"u:x:{USER}:{USER}::/home/u:/bin/sh\nv:x:1001:1001::/home/v:/bin/sh\n"
    ),
    "etc/group": f"root:x:0:\nmessagebus:x:101:\nu:x:{USER}:\nv:x:1001:\n",
    "etc/shadow": "root:*:19000::::::\nu:*:19000::::::\nv:*:19000::::::\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/hostname": "guest\n",
    "etc/fstab": "",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\n",
    "etc/pam.d/other": "account required pam_permit.so\nsession required pam_permit.so\n",
    # A login as ssh makes one; and the one in which a user's manager runs.
    "etc/pam.d/penstock-login": "account required pam_permit.so\nsession required pam_systemd.so\n",
    "etc/pam.d/systemd-user": "account required pam_permit.so\nsession required pam_systemd.so\n",
    "etc/tmpfiles.d/tmp.conf": "",  # /tmp is not emptied: this repository may lie there
    "etc/systemd/logind.conf.d/tests.conf": "[Login]\nUserStopDelaySec=1\n",
    "etc/systemd/journald.conf.d/tests.conf": "[Journal]\nStorage=volatile\n",
    "etc/systemd/system/tests.service": """\
[Unit]
Requires=dbus.service
Wants=systemd-logind.service systemd-user-sessions.service
After=dbus.service systemd-logind.service systemd-user-sessions.service
[Service]
Type=oneshot
StandardInput=null
StandardOutput=tty
StandardError=tty
TTYPath=/dev/ttyS1
ExecStart=/bin/sh /tests
ExecStopPost=/bin/systemctl poweroff --force --force
""",
}
KEPT = ("systemd-journald.service", "systemd-tmpfiles-setup.service")
"""Of what systemd starts early on any machine; the rest takes time, and is for hardware or a first boot."""
MASKED = ("tmp.mount", "modprobe@.service", "systemd-remount-fs.service", "dev-hugepages.mount")


def lay_out(packages: Path, root: Path) -> None:
    """Make the root file system of a machine that systemd starts, without kernel and Python.

    Args:
        packages: where Debian's are unpacked.
        root: an empty folder; it may have the links ``bin``, ``lib`` and so on.
    """
    for folder in packages.iterdir():
        ignore = shutil.ignore_patterns(*UNUSED) if folder.name == "usr" else None
        shutil.copytree(folder, root / folder.name, symlinks=True, dirs_exist_ok=True, ignore=ignore)
    for name, content in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        file.write_text(content)
    units = root / "etc/systemd/system"
    early = os.listdir(root / "lib/systemd/system/sysinit.target.wants")
    for name in {*early, *MASKED} - {*KEPT}:
        (units / name).symlink_to("/dev/null")
    for user, home in ((0, "root"), (USER, "home/u"), (1001, "home/v")):
        (root / home).mkdir(parents=True, exist_ok=True)
        (root / home).chmod(0o755)  # the interpreter may lie in root's
        if os.geteuid() == 0:
            os.chown(root / home, user, user)
    subprocess.run(["ldconfig", "-r", str(root)], check=False, stderr=subprocess.DEVNULL)
