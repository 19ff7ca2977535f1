"""The lab: two user-mode Linux hosts and a control node in one network namespace, for demonstrations and tests of slapos_ha."""
