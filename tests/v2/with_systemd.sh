# What the guest's systemd runs: the tests, as root in a service of its own.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp PYTHONPYCACHEPREFIX= PYTHONDONTWRITEBYTECODE=1
. /words
echo "$(uname -sr), $(systemctl --version | head -n 1)"
cd "$TOP" || exit 1
"$PYTHON" -m pytest -p no:cacheprovider -o timeout=600 -o addopts= --color=no --tb=short -v --durations=0 --durations-min=2 \
    "$@" tests/v2/guest_systemd.py
echo "status $?"
