"""
Metrics of one node of a SlapOS HA pair, for Prometheus. Part of the ``slapos_ha`` execution module, see there.

Nothing in this file changes the site; it writes the one file that it is asked for.
"""

import os
import time

import salt.utils.atomicfile
from salt.exceptions import CommandExecutionError, SaltInvocationError

# Another file of the module slapos_ha: the loader adds its functions to those of slapos_ha.py.
__virtualname__ = "slapos_ha"


def __virtual__():
    return __virtualname__


def metrics(path=None):
    """
    Return how this node and the site are, as metrics in Prometheus' text format, or write them where node_exporter's textfile collector reads them.

    CLI Example:

    .. code-block:: bash

        salt demo1 slapos_ha.metrics
        salt demo1 slapos_ha.metrics path=/var/lib/prometheus/node-exporter/slapos_ha.prom

    path
        A file (str, absolute, its name ending in .prom) that is replaced as a whole, mode 0644; its folder has to exist.

    Returns the text (str), or with ``path`` the number of its values (int). Costs what ``slapos_ha.facts`` without launchers costs: one look at agent and DRBD.
    What the node cannot say has no value, a pillar that is not right is ``slapos_ha_problems``. Raises SaltInvocationError for a path that the collector would
    not read, CommandExecutionError when it cannot be written.
    """
    if path is not None and not (os.path.isabs(path) and path.endswith(".prom")):
        raise SaltInvocationError(
            f"path: {path!r} is not read by node_exporter; give an absolute path that ends in .prom"
        )
    found = __utils__["slapos_metrics.samples"](
        __salt__["slapos_ha.facts"](applications=False), time.time()
    )
    text = __utils__["slapos_metrics.text"](found)
    if path is None:
        return text
    try:
        with salt.utils.atomicfile.atomic_open(path, "w") as handle:
            handle.write(text)
        os.chmod(path, 0o644)
    except OSError as error:
        raise CommandExecutionError(
            f"path: the metrics cannot be written to {path}: {error.strerror}; make its folder"
        ) from None
    return len(found)
