"""Salt's real loader over this checkout, without daemons: what a masterless minion would load."""

import logging
import pathlib

import pytest
import salt.config
import yaml
from saltfactories.utils.functional import Loaders
from support import served

# Salt's own loggers let everything through, and records that nobody reads are a quarter of the time. A test that looks at the log sets its level.
logging.getLogger().setLevel(logging.INFO)


def minion_opts(folder: pathlib.Path, minion_id="demo1", pillar=None):
    """The options of a minion that has this checkout's formula as its file_roots and keeps what it writes below ``folder``."""
    opts = salt.config.DEFAULT_MINION_OPTS.copy()
    opts.update(
        id=minion_id,
        root_dir=str(folder),
        conf_file=str(folder / "minion"),
        cachedir=str(folder / "cache"),
        pki_dir=str(folder / "pki"),
        sock_dir=str(folder / "run"),
        # Not below cachedir, which the loaders empty each time they are reset.
        extension_modules=str(folder / "extmods"),
        log_file=str(folder / "minion.log"),
        file_client="local",
        file_roots={"base": [served(folder)]},
        fileserver_list_cache_time=0,
        pillar_roots={"base": [str(folder / "pillar")]},
        __role="minion",
    )
    for name in ("cache", "pki", "run", "pillar"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "pillar/top.sls").write_text(yaml.safe_dump({"base": {"*": ["site"]}}))
    (folder / "pillar/site.sls").write_text(yaml.safe_dump(pillar or {}))
    return opts


@pytest.fixture(scope="module")
def make_loaders(tmp_path_factory):
    """make_loaders(minion_id=…, pillar=…) -> Loaders with the formula's own modules synced."""

    def make(minion_id="demo1", pillar=None):
        return Loaders(minion_opts(tmp_path_factory.mktemp(minion_id), minion_id, pillar))

    return make
