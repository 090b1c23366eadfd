"""A real Dask cluster on this machine, whose workers are processes."""

from distributed import LocalCluster

from penstock import proc


def start(**options):
    """A scheduler and workers of one thread each."""
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "memory_limit": 0, **options}
    return LocalCluster(dashboard_address=":0", host="127.0.0.1", worker_dashboard_address=None, **options)


def worker_pids(cluster):
    """Processes of the Dask workers."""
    return [worker.pid for worker in cluster.workers.values()]


def ours(cluster):
    """Processes of Penstock that Dask's workers have started."""
    found = {each for pid in worker_pids(cluster) for each in proc.descendants(pid)}
    return [pid for pid in found if b"penstock" in cmdline(pid)]


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except OSError:
        return b""
