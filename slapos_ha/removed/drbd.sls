# DRBD of the service is down on this node; file, metadata and data stay. Run by orch.teardown when the agent has forgotten the service.
{%- from "slapos_ha/map.jinja" import site with context %}
DRBD resource {{ site.fqdn }} is down on {{ site.node }}:
  slapos_node.removed:
    - concern: drbd
