"""Every state that the formula can ask for: its SLS under the example's pillar and under those that switch on what it has switched off."""

import yaml
from support import ROOT

SLS = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".init")
    for path in (ROOT / "slapos_ha").rglob("*.sls")
)


def _example(**changes):
    site = yaml.safe_load((ROOT / "pillar.example").read_text())["slapos_ha"]
    for key, value in changes.items():
        site.setdefault(key, {}).update(value)
    return {"slapos_ha": site}


_PACKAGE = {"source": "package", "url": "https://example.org/opensvc.deb", "sha256": "0" * 64}
_REPOSITORY = {
    "repository": {
        "url": "https://example.org/debian/", "suite": "stable", "components": ["main"], "key": "https://example.org/key.gpg", "key_sha256": "0" * 64,
    }
}  # fmt: skip
_SECRET = "change-me-cluster"
# {name: (pillar, the SLS that it makes different)}
PILLARS = {
    "example": (_example(), SLS),
    "packages": (
        _example(
            cluster={"agent": _PACKAGE},
            re6st={
                "install": {"method": "packages", "packages": {"re6st-node": "1"}, **_REPOSITORY}
            },
            slapos={
                "install": {"method": "packages", "packages": {"slapos-node": "1"}, **_REPOSITORY}
            },
        ),
        ["slapos_ha.agent", "slapos_ha.re6st.install", "slapos_ha.slapos.install"],
    ),
    "votes": (
        _example(
            cluster={
                "heartbeats": {
                    "hb#2": {"type": "relay", "relay": "demo3", "secret": _SECRET},
                    "hb#3": {"type": "disk", "dev": "/dev/disk/by-id/x"},
                },
                "arbitrators": {
                    "arbitrator#1": {"address": "demo4", "secret": _SECRET, "timeout": 7}
                },
                "quorum": True,
            }
        ),
        ["slapos_ha.cluster"],
    ),
    "no votes": (_example(cluster={"quorum": False}), ["slapos_ha.cluster"]),
    **{
        backend: (_example(firewall={"backend": backend}), ["slapos_ha.firewall"])
        for backend in ("nftables", "ufw", "firewalld")
    },
}


def chunks(loaders, pillar):
    """[(SLS, state)] of a pillar on the minion of the loaders."""
    given, names = PILLARS[pillar]
    found = []
    for sls in names:
        low = loaders.modules.state.show_low_sls(sls, pillar=given)
        assert low and all(isinstance(chunk, dict) for chunk in low), (sls, pillar, low)
        found += [(sls, chunk) for chunk in low]
    return found
