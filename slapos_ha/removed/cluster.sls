# This node is in no cluster of the site. Run by orch.teardown on the second node, which leaves, and then on the first, which is alone then.
{%- from "slapos_ha/map.jinja" import site with context %}
{{ site.node }} is not in cluster {{ site.cluster.name }}:
  slapos_node.removed:
    - concern: cluster
