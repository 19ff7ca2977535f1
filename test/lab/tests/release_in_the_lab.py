"""The package that `make release` builds, installed by Salt's spm, is all that a master needs: two blank hosts are deployed from it. By hand: make lab-release"""

import importlib.util

import pytest
from slaplab import control, hosts, site
from slaplab.base import HOSTS, REPO, wait

_spec = importlib.util.spec_from_file_location("release", REPO / "tools/release.py")
release = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(release)


@pytest.fixture(scope="session")
def roots(tmp_path_factory):
    """The master's roots of files as CONTRIBUTING.md has them after an installation, from the commit that is checked out."""
    folder = tmp_path_factory.mktemp("release")
    source = release.archive(REPO, folder, "slapos_ha-lab")
    package = release.package(source, folder)
    assert release.verify(package, source) == []
    release.installed(package, folder / "master")
    return [folder / "master/salt", folder / "master/salt/slapos_ha/spm"]


def test_the_site_is_deployed_from_the_package(lab):
    served = control.salt(lab, "salt-run", "fileserver.file_list").stdout.split()
    assert "orch/deploy.sls" in served and "FORMULA" not in served, served
    answer = site.deploy(lab)
    assert answer.retcode == 0 and not answer.failed, answer.why
    assert len(answer.states) == 18


def test_it_serves_a_page_after_a_move(lab):
    page = site.request_page(lab)
    site.move(lab, "demo2")
    wait("the same page is answered", lambda: site.page(lab) == page, 180, 2)
    assert site.status(lab).returncode == 0
    for host in HOSTS:
        assert hosts.ssh(lab, host, "ls /usr/local/lib/slapos_ha").stdout.strip()
