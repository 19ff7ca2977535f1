"""A stand-in for the OpenSVC agent 2.1: a test double for the lab, never for a machine that matters."""

VERSION = "2.1-0standin"
BANNER = "slapos_ha lab stand-in for the OpenSVC agent 2.1: a test double, not the agent"
