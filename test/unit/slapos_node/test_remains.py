"""What of a site may go and what is somebody else's, as tables: no node is asked."""

import json

import pytest
from support import load_module

REMAINS = load_module("_utils/slapos_remains.py")
FQDN = "comp1.slapos.svc.paris"
FILE = f"/opt/{FQDN}.img"
LV = f"/dev/{FQDN}/comp1"
# Printed by LVM 2.03.16 (Debian 12) for a volume group on a loop device, pvs and lvs with --reportformat json.
PVS = f"""
  {{
      "report": [
          {{
              "pv": [
                  {{"pv_name":"/dev/loop7", "vg_name":"{FQDN}"}}
              ]
          }}
      ]
  }}
"""
LVS = f"""
  {{
      "report": [
          {{
              "lv": [
                  {{"vg_name":"{FQDN}", "lv_name":"comp1", "origin":""}}
              ]
          }}
      ]
  }}
"""
# How LVM 2.03.16 begins a disk: label, head of the metadata, and the text of the volume group, here of its second version.
HEAD = (
    b"\0" * 512
    + b"LABELONE\1\0\0\0\0\0\0\0LVM2 001nlZnUocEjtZWakzIsuAakmYwQgP4kuUd"
    + b"\0" * 4000
    + b'comp1.slapos.svc.paris {\nid = "CZ0vX3-5FPk-PiJR-Gu7z-UUDl-PGql-OHR1Cq"\nseqno = 1\nformat = "lvm2"\n}\n\0'
    + b"\0" * 100
)


def site(backend="loop"):
    group = "data" if backend == "lvm" else FQDN
    return {
        "site": "paris",
        "fqdn": FQDN,
        "path": "slapos/svc/comp1",
        "cfg_path": "slapos/cfg/comp1",
        "nodes": ["demo1", "demo2"],
        "service": {"name": "comp1", "namespace": "slapos"},
        "cluster": {"name": "paris"},
        "storage": {
            "backend": backend,
            "file": FILE if backend == "loop" else None,
            "device": "/dev/sdb" if backend == "device" else None,
            "group": group,
            "lv": f"/dev/{group}/comp1",
        },
    }


def seen(backend="loop", **more):
    """A node with everything of a site there, and nothing else."""
    group = site(backend)["storage"]["group"]
    disk = {"loop": "/dev/loop7", "device": "/dev/sdb", "lvm": "/dev/sda2"}[backend]
    return {
        "resource": {"disk": f"/dev/{group}/comp1"},
        "metadata": "2820CDFF103B1748",
        "lvs": [{"vg_name": group, "lv_name": "comp1", "origin": ""}],
        "pvs": [{"pv_name": disk, "vg_name": group}],
        "devices": [] if backend == "lvm" else [disk],
        "file": 600 << 20 if backend == "loop" else None,
        "held": None,
        "mounted": set(),
        **more,
    }


def told(items):
    """[(kind, name)] of what goes, and {kind: why} of what stays."""
    return (
        [(one["kind"], one["name"]) for one in items if not one["stays"]],
        {one["kind"]: one["stays"] for one in items if one["stays"]},
    )


def test_what_lvm_prints():
    assert REMAINS.report(PVS) == [{"pv_name": "/dev/loop7", "vg_name": FQDN}]
    assert REMAINS.report(LVS) == [{"vg_name": FQDN, "lv_name": "comp1", "origin": ""}]
    assert REMAINS.report('{"report": [{"lv": []}]}') == []
    with pytest.raises(json.JSONDecodeError):
        REMAINS.report("  Failed to find")


@pytest.mark.parametrize(
    "begin, written, ours",
    [
        (HEAD, 4 << 20, True),
        (HEAD.replace(b"LABELONE", b"\0" * 8), 4 << 20, True),
        (b"comp1.slapos" + HEAD.replace(b"comp1.slapos", b"comp2.slapos"), 4 << 20, False),
        (HEAD.replace(b"\0comp1", b"\0acomp1"), 4 << 20, False),
        (b"\0" * 4096, 4096, True),
        (b"\0" * 4096, 4 << 20, False),
        # Of a disk nobody says what was written to it.
        (b"\0" * 4096, None, False),
        (b"data\n", 4096, False),
        (b"", 0, True),
    ],
    ids=[
        "our group", "our group, removed", "another group", "a longer name", "made and never written to", "zeroes that somebody wrote", "an empty disk",
        "data", "an empty file",
    ],
)  # fmt: skip
def test_whose_a_file_is(begin, written, ours):
    why = REMAINS.held(begin, FQDN, written)
    assert (why is None) is ours
    assert ours or f"volume group {FQDN}" in why


def test_all_layers_of_a_file_from_the_top_down():
    going, staying = told(REMAINS.data(seen(), site()))
    assert staying == {}
    assert going == [
        ("DRBD metadata on", LV),
        ("logical volume", LV),
        ("volume group", FQDN),
        ("physical volume", "/dev/loop7"),
        ("loop device", "/dev/loop7"),
        ("loop file", FILE),
        ("file of DRBD resource", FQDN),
    ]


def test_all_layers_of_a_disk_and_of_a_volume_group_of_somebody():
    going, staying = told(REMAINS.data(seen("device"), site("device")))
    assert [kind for kind, _ in going] == [
        "DRBD metadata on", "logical volume", "volume group", "physical volume", "file of DRBD resource",
    ] and staying == {}  # fmt: skip
    going, staying = told(REMAINS.data(seen("lvm"), site("lvm")))
    assert going == [
        ("DRBD metadata on", "/dev/data/comp1"),
        ("logical volume", "/dev/data/comp1"),
        ("file of DRBD resource", FQDN),
    ]
    assert staying == {}


def test_data_that_is_kept_says_so_layer_by_layer():
    going, staying = told(REMAINS.data(seen(), site(), "kept: no"))
    assert going == [] and set(staying.values()) == {"kept: no"} and len(staying) == 7


@pytest.mark.parametrize("left", range(1, 8))
def test_what_a_run_that_died_has_left_goes_from_where_it_stopped(left):
    """After each layer: what is still there, and no more, is to go."""
    state = seen()
    steps = [
        ("metadata", None),
        ("lvs", []),
        ("pvs", [{"pv_name": "/dev/loop7", "vg_name": ""}]),
        ("pvs", []),
        ("devices", []),
        ("file", None),
        ("resource", None),
    ]
    for key, value in steps[:left]:
        state[key] = value
    going, staying = told(REMAINS.data(state, site()))
    full, _ = told(REMAINS.data(seen(), site()))
    assert staying == {} and going == full[left:]


# backend, what is there besides or instead, what stays for it, and what still goes
FOREIGN = [
    ("loop", {"held": "theirs", "pvs": [], "lvs": [], "devices": [], "metadata": None}, {"loop file": "theirs"}, ["file of DRBD resource"]),
    (
        "loop",
        {"lvs": [{"vg_name": FQDN, "lv_name": "comp1", "origin": ""}, {"vg_name": FQDN, "lv_name": "backup", "origin": ""}]},
        {"volume group": "it also holds backup, which", "physical volume": f"volume group {FQDN} stays", "loop device": f"volume group {FQDN} stays", "loop file": "loop device /dev/loop7 stays"},
        ["DRBD metadata on", "logical volume", "file of DRBD resource"],
    ),
    (
        "loop",
        {"lvs": [{"vg_name": FQDN, "lv_name": "[comp1]", "origin": ""}, {"vg_name": FQDN, "lv_name": "comp1", "origin": ""}, {"vg_name": FQDN, "lv_name": "snap", "origin": "[comp1]"}]},
        {"DRBD metadata on": "snap is a snapshot of it", "logical volume": "snap is a snapshot", "volume group": "it also holds", "physical volume": "volume group", "loop device": "volume group", "loop file": "loop device", "file of DRBD resource": f"logical volume {LV} stays"},
        [],
    ),
    (
        "loop",
        {"pvs": [{"pv_name": "/dev/loop7", "vg_name": FQDN}, {"pv_name": "/dev/sdc", "vg_name": FQDN}]},
        {"volume group": f"it is also on /dev/sdc: vgreduce {FQDN} /dev/sdc", "physical volume": "volume group", "loop device": "volume group", "loop file": "loop device"},
        ["DRBD metadata on", "logical volume", "file of DRBD resource"],
    ),
    (
        "loop",
        {"pvs": [{"pv_name": "/dev/sdc", "vg_name": FQDN}], "devices": [], "file": None},
        {"DRBD metadata on": "is on /dev/sdc", "logical volume": "is on /dev/sdc", "volume group": "it is on /dev/sdc, so", "file of DRBD resource": "stays"},
        [],
    ),
    (
        "loop",
        {"pvs": [{"pv_name": "/dev/loop7", "vg_name": "other"}], "lvs": [], "metadata": None},
        {"physical volume": "it is of volume group other", "loop device": "it is of volume group other", "loop file": "loop device /dev/loop7 stays"},
        ["file of DRBD resource"],
    ),
    (
        "loop",
        {"pvs": [], "lvs": [], "metadata": None, "mounted": {"/dev/loop7"}},
        {"loop device": "a filesystem on it is mounted", "loop file": "loop device /dev/loop7 stays"},
        ["file of DRBD resource"],
    ),
    ("loop", {"resource": {"disk": "/dev/sdz"}, "metadata": None}, {"file of DRBD resource": f"its disk is /dev/sdz, not {LV}"}, ["logical volume", "volume group", "physical volume", "loop device", "loop file"]),
    ("lvm", {"resource": None, "metadata": None}, {"logical volume": "nothing proves that it is this site's; if it is: lvremove data/comp1"}, []),
    ("lvm", {"resource": {"disk": "/dev/data/other"}, "metadata": None}, {"logical volume": "nothing proves", "file of DRBD resource": "its disk is /dev/data/other"}, []),
    ("device", {"held": "theirs", "pvs": [{"pv_name": "/dev/sdb", "vg_name": "other"}], "lvs": [], "metadata": None}, {}, ["file of DRBD resource"]),
]  # fmt: skip


@pytest.mark.parametrize("backend, instead, why, still", FOREIGN)
def test_what_is_somebody_elses_stays(backend, instead, why, still):
    going, staying = told(REMAINS.data(seen(backend, **instead), site(backend)))
    assert [kind for kind, _ in going] == still
    assert set(staying) == set(why)
    for kind, words in why.items():
        assert words in staying[kind], (kind, staying[kind])


def test_several_loop_devices_on_one_file():
    state = seen(devices=["/dev/loop3", "/dev/loop7"])
    going, staying = told(REMAINS.data(state, site()))
    assert staying == {}
    assert [name for kind, name in going if kind == "loop device"] == ["/dev/loop3", "/dev/loop7"]


FILTER = '# slapos_ha begins -DO-NOT-EDIT-\ndevices { global_filter = [ "r|^/dev/drbd.*|" ] }\n# slapos_ha ends\n'


@pytest.mark.parametrize(
    "before, after", [("", ""), ("local {\n}\n", ""), ("local {\n}\n", "# more\n")]
)
def test_the_filters_lines_and_nothing_around_them(before, after):
    assert REMAINS.filter_in(before + FILTER + after) == FILTER
    assert REMAINS.filter_in(before + after) == ""


# --- Users --------------------------------------------------------------------------------------------------------------------------------------

WANTED = {
    "slapsoft": {"id": 5000, "home": "/srv/x/opt"},
    "slapuser0": {"id": 5001, "home": "/srv/slapgrid/slappart0"},
}
PASSWD = {
    "root": ["root", "x", "0", "0", "", "/root", "/bin/sh"],
    "slapsoft": ["slapsoft", "x", "5000", "5000", "", "/srv/x/opt", "/bin/sh"],
    "slapuser0": ["slapuser0", "x", "5001", "5001", "", "/srv/slapgrid/slappart0", "/bin/sh"],
}
GROUPS = {
    "slapsoft": ["slapsoft", "x", "5000", "slapuser0"],
    "slapuser0": ["slapuser0", "x", "5001", ""],
}
NOTHING = {"uid": {}, "gid": {}}


def test_the_users_go_before_the_group_that_they_are_in():
    going, staying = told(REMAINS.users(WANTED, PASSWD, GROUPS, NOTHING))
    assert staying == {}
    assert going == [
        ("user", "slapuser0"), ("user", "slapsoft"), ("group", "slapuser0"), ("group", "slapsoft"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "change, stays",
    [
        ({"owned": {"uid": {5001: "/home/x"}, "gid": {}}}, {"user slapuser0": "/home/x is its", "group slapuser0": "user slapuser0 stays", "group slapsoft": "user slapuser0 stays"}),
        ({"owned": {"uid": {}, "gid": {5000: "/home/y"}}}, {"user slapsoft": "/home/y is of its group", "group slapsoft": "user slapsoft stays"}),
        ({"owned": "not known"}, {"user slapuser0": "not known", "user slapsoft": "not known", "group slapuser0": "user", "group slapsoft": "user"}),
        ({"passwd": {**PASSWD, "slapuser0": ["slapuser0", "x", "1001", "1001", "", "/home/me", "/bin/sh"]}}, {"user slapuser0": "it has id 1001, group 1001 and home /home/me, so it is not this site's", "group slapsoft": "user slapuser0 stays"}),
        ({"groups": {**GROUPS, "slapsoft": ["slapsoft", "x", "5000", "slapuser0,www-data"]}}, {"group slapsoft": "user www-data is in it"}),
        ({"passwd": {**PASSWD, "eve": ["eve", "x", "1002", "5000", "", "/", ""]}}, {"group slapsoft": "user eve is in it"}),
        ({"groups": {**GROUPS, "slapuser0": ["slapuser0", "x", "77", ""]}}, {"group slapuser0": "it has id 77"}),
        ({"keep": "kept"}, {"user slapuser0": "kept", "user slapsoft": "kept", "group slapuser0": "user", "group slapsoft": "user"}),
        ({"passwd": {}, "owned": {"uid": {}, "gid": {5001: "/z"}}}, {"group slapuser0": "/z is of it"}),
        ({"passwd": {}, "owned": "not known"}, {"group slapuser0": "not known", "group slapsoft": "not known"}),
    ],
)  # fmt: skip
def test_users_and_groups_of_somebody_stay(change, stays):
    given = {"passwd": PASSWD, "groups": GROUPS, "owned": NOTHING, "keep": None, **change}
    items = REMAINS.users(WANTED, given["passwd"], given["groups"], given["owned"], given["keep"])
    said = {f"{one['kind']} {one['name']}": one["stays"] for one in items if one["stays"]}
    assert set(said) == set(stays)
    for who, words in stays.items():
        assert words in said[who]


# --- The agent ----------------------------------------------------------------------------------------------------------------------------------

CONFIGS = {
    "slapos/svc/comp1": {"DEFAULT": {}, "env": {"slapos_ha_site": "paris"}},
    "slapos/vol/comp1-cfg": {"DEFAULT": {"children": "slapos/svc/comp1"}},
    "slapos/cfg/comp1": {"data": {"re6st": "", "slapos": "", "settings.json": ""}},
}


@pytest.mark.parametrize(
    "path, config, stays",
    [
        (None, None, {}),
        ("slapos/svc/comp1", {"env": {"slapos_ha_site": "rome"}}, dict.fromkeys(("service", "volume", "launchers"), "it is not this site's (env.slapos_ha_site is 'rome')")),
        ("slapos/svc/comp1", {"DEFAULT": {}}, dict.fromkeys(("service", "volume", "launchers"), "(env.slapos_ha_site is None)")),
        ("slapos/vol/comp1-cfg", {"DEFAULT": {"children": "slapos/svc/comp1 slapos/svc/web"}}, {"volume": "slapos/svc/web uses it"}),
        ("slapos/cfg/comp1", {"data": {"re6st": "", "mine": ""}}, {"launchers": "it also holds mine"}),
        ("slapos/cfg/comp1", {"DEFAULT": {}}, {}),
    ],
)  # fmt: skip
def test_objects_of_somebody_stay(path, config, stays):
    configs = {**CONFIGS, path: config} if path else CONFIGS
    going, staying = told(REMAINS.objects(site(), configs))
    assert set(staying) == set(stays) and all(words in staying[key] for key, words in stays.items())
    assert [kind for kind, _ in going] == [
        kind for kind in ("service", "volume", "launchers") if kind not in stays
    ]


def test_only_what_is_there():
    gone = {**CONFIGS, "slapos/svc/comp1": None}
    assert told(REMAINS.objects(site(), gone))[0] == [
        ("volume", "slapos/vol/comp1-cfg"), ("launchers", "slapos/cfg/comp1"),
    ]  # fmt: skip
    assert REMAINS.objects(site(), dict.fromkeys(CONFIGS)) == []


def status(name="paris", nodes=("demo1", "demo2"), objects=()):
    return {"cluster": {"name": name, "nodes": list(nodes)}, "objects": dict.fromkeys(objects, {})}


@pytest.mark.parametrize(
    "known, stays",
    [
        (status(), None),
        (status(objects=["cluster", "system/sec/ca", *CONFIGS]), None),
        (status(nodes=["demo1"]), None),
        (status(objects=["slapos/svc/comp1", "web/svc/shop"]), "it has web/svc/shop, which is not this site's"),
        (status(objects=["shop"]), "it has shop"),
        (status(nodes=["demo1", "demo2", "demo3"]), "demo3 is a member of it"),
    ],
)  # fmt: skip
def test_a_cluster_with_somebody_in_it_stays(known, stays):
    (one,) = REMAINS.cluster(site(), known)
    assert stays in one["stays"] if stays else one["stays"] is None


def test_another_cluster_is_none_of_ours():
    assert REMAINS.cluster(site(), status("default", ["demo1"])) == []
