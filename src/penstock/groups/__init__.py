"""Control groups of our own: one for a run, one for its fork server, and one per worker.

    HOME/penstock-PID-START-NAMESPACE-N/         the run: no process in it
    HOME/penstock-PID-START-NAMESPACE-N/server   the fork server
    HOME/penstock-PID-START-NAMESPACE-N/w7       worker 7 and all it starts

HOME is the group of this process, so that its limits hold for the run as well; this process itself
stays where it is. In such a group the kernel counts each page once, whoever holds it and however it was
left, and nothing that began in it can leave it: memory is exact, and a kill reaches everybody. Where no
group can be made there, systemd may make one beside it (``systemd``), if no limit is escaped by that.

Reading order: ``files`` (the edge), ``memory`` (the numbers), ``pipes`` (what of them pipe buffers may be),
``reader`` (what one group holds, also while the kernel's numbers are old), ``member`` (what a group of ours
tells and does), ``run`` (the groups of a run, and what dead runs left), ``systemd`` (groups that it makes for
us), ``ways`` (where groups can be made, and why not).
"""

from penstock.groups.member import Member
from penstock.groups.memory import GroupMemory
from penstock.groups.reader import GroupReader
from penstock.groups.run import RunGroup
from penstock.groups.ways import VARIABLE, Found, find

__all__ = ["VARIABLE", "Found", "GroupMemory", "GroupReader", "Member", "RunGroup", "find"]
