# What is local to a node. Safe at any time on any node of a site (it is what a highstate runs): it never moves, restarts or formats anything.
# On a node that is not deployed yet it installs and configures; on a deployed one it converges.
{%- from "slapos_ha/map.jinja" import site with context %}
include:
  - slapos_ha.base
  - slapos_ha.re6st
  - slapos_ha.slapos
{%- if salt['opensvc.config_show'](site.path) is not none %}
  - slapos_ha.service
{%- endif %}
