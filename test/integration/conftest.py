"""The machine that kitchen, or a test of the lab in its place, has converged. Without either there is none, and nothing is collected."""

import json
import os

import pytest

CONFIG = "/tmp/kitchen/etc/salt"

# As testinfra names it.
MACHINE = os.environ.get("SLAPOS_HA_MACHINE") or (
    f"docker://{os.environ['KITCHEN_CONTAINER_ID']}"
    if "KITCHEN_CONTAINER_ID" in os.environ
    else None
)
if not MACHINE:
    collect_ignore_glob = ["*"]


@pytest.fixture(scope="session")
def host():
    import testinfra

    return testinfra.get_host(MACHINE)


@pytest.fixture(scope="session")
def salt_call(host):
    """salt_call(words) -> what salt-call answers with kitchen's configuration, and its exit code."""

    def call(words):
        done = host.run(
            f"salt-call --local --config-dir={CONFIG} --retcode-passthrough --out=json {words}"
        )
        return json.loads(done.stdout)["local"], done.rc

    return call
