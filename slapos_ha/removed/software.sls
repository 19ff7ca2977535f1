# The environments of re6st and SlapOS, the launchers' files below /run, and the empty folders on which the agent had mounted. Packages stay installed.
{%- from "slapos_ha/map.jinja" import site with context %}
Software of re6st and SlapOS is gone from {{ site.node }}:
  slapos_node.removed:
    - concern: software
