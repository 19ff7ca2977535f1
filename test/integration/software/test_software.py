"""re6st and SlapOS are installed as pinned, and nothing of them runs."""

import pytest

UNITS = ("re6stnet", "re6st-registry", "slapos-node", "slapos-node-boot")


@pytest.mark.parametrize(
    "program", ["/opt/re6st/bin/re6stnet", "/opt/re6st/bin/re6st-conf", "/opt/slapos/bin/slapos"]
)
def test_a_program_is_there(host, program):
    assert host.file(program).mode & 0o111


@pytest.mark.parametrize(
    "prefix, name, version",
    [("/opt/re6st", "re6stnet", "0.642"), ("/opt/slapos", "slapos.core", "1.25.0")],
)
def test_the_pinned_release_is_installed(host, prefix, name, version):
    assert host.pip.get_packages(pip_path=f"{prefix}/bin/pip")[name]["version"] == version


@pytest.mark.parametrize("unit", UNITS)
def test_a_unit_of_the_distribution_is_masked(host, unit):
    assert host.file(f"/etc/systemd/system/{unit}.service").linked_to == "/dev/null"


def test_nothing_runs_and_no_cron_job_is_there(host):
    # Not host.process: its ps ends with 1 in user-mode Linux, where the processor's share is not known.
    assert host.run("pgrep -x re6stnet").rc == 1
    assert not host.file("/etc/cron.d/slapos-node").exists
