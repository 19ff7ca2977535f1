# The service's data is gone from this node: metadata, logical volume, volume group, loop device and file, the resource's file. Nothing of it comes back.
# Without the pillar slapos_ha_destroy_data, which orch.teardown gives, nothing is removed and the state says where the data is.
{%- from "slapos_ha/map.jinja" import site with context %}
Data of {{ site.path }} is gone from {{ site.node }}:
  slapos_node.removed:
    - concern: data
    - destroy_data: {{ pillar.get('slapos_ha_destroy_data') | json }}
