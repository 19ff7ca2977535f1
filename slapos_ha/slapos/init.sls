# SlapOS on a node: installed alike on both; configured where the service's filesystem is, once it is registered (slapos_ha.slapos.registered). Nothing is started.
include:
  - slapos_ha.slapos.install
{%- if salt['slapos_node.slapos_facts']().registered %}
  - slapos_ha.slapos.config
{%- endif %}
