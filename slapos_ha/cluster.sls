# One cluster of two nodes. Run by the orchestration: first on the preferred node, then on the other with the first's secret, sealed for it.
{%- from "slapos_ha/map.jinja" import site with context %}
{%- if site.node == site.nodes[0] %}
Cluster {{ site.cluster.name }} is set up on {{ site.node }}:
  opensvc.cluster_present:
    - name: {{ site.cluster.name | json }}
    - heartbeats: {{ site.cluster.heartbeats | json }}
{%- else %}
{{ site.node }} is a member of cluster {{ site.cluster.name }}:
  opensvc.member:
    - name: {{ site.nodes[0] | json }}
    - secret_sealed: {{ salt['pillar.get']('slapos_ha_sealed') | json }}
    - timeout: {{ site.timeouts.cluster | json }}
{%- endif %}
