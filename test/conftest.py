"""Fixtures that all layers of the tests share."""

import pytest
import yaml
from support import ROOT


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
