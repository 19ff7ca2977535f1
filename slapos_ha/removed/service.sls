# Service, launchers and their volume are out of the agent, on both nodes; what the service has made stays. Run by orch.teardown when the service is stopped.
{%- from "slapos_ha/map.jinja" import site with context %}
Service {{ site.path }} is out of the agent on {{ site.node }}:
  slapos_node.removed:
    - concern: service
