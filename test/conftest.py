"""Fixtures that all layers of the tests share."""

import pytest
import salt._logging
import yaml
from support import ROOT

# Salt's import keeps early log records for a standard error that is closed when it writes them, after pytest's count.
salt._logging.shutdown_temp_handler()


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture
def defaults():
    return yaml.safe_load((ROOT / "slapos_ha/defaults.yaml").read_text())


@pytest.fixture
def schema():
    return yaml.safe_load((ROOT / "slapos_ha/schema.yaml").read_text())


@pytest.fixture
def example():
    return yaml.safe_load((ROOT / "pillar.example").read_text())
