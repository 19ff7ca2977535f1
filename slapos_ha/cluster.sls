# One cluster of two nodes, by what they hear each other, and whom they ask when they do not. Run by the orchestration: first on the preferred node, then on the
# other with the first's secret, sealed for it. All but the membership is the cluster's: the second node has it from the first, and only looks.
{%- from "slapos_ha/map.jinja" import site with context %}
{%- set cluster = site.cluster %}
{#- om would show a secret: such a heartbeat has a state of its own, which writes it into the agent's file. #}
{%- set plain = {} %}
{%- for name, heartbeat in cluster.heartbeats.items() if name not in cluster.secret_pillars %}
{%- do plain.update({name: heartbeat}) %}
{%- endfor %}
{%- set first = site.node == site.nodes[0] %}
{%- set begin = ('Cluster ' ~ cluster.name ~ ' is set up on ' ~ site.node) if first else (site.node ~ ' is a member of cluster ' ~ cluster.name) %}
{{ begin }}:
{%- if first %}
  opensvc.cluster_present:
    - name: {{ cluster.name | json }}
    - heartbeats: {{ plain | json }}
{%- if cluster.get('quorum') is false %}
    - config: {cluster: {quorum: false}}
{%- endif %}
{%- else %}
  opensvc.member:
    - name: {{ site.nodes[0] | json }}
    - secret_sealed: {{ salt['pillar.get']('slapos_ha_sealed') | json }}
    - timeout: {{ site.timeouts.cluster | json }}
{%- endif %}

{%- for name, heartbeat in cluster.heartbeats | dictsort if not first or name not in plain %}

Cluster {{ cluster.name }} has heartbeat {{ name }}:
  opensvc.heartbeat_present:
    - name: {{ name | json }}
    - config: {{ heartbeat | json }}
    - secret_pillar: {{ cluster.secret_pillars.get(name) | json }}
    - timeout: {{ site.timeouts.cluster | json }}
    - require:
      - opensvc: {{ begin }}
{%- endfor %}

{%- for name, arbitrator in cluster.arbitrators | dictsort %}
{%- set address = arbitrator.pop('address') %}

Cluster {{ cluster.name }} has {{ name }}:
  opensvc.arbitrator_present:
    - name: {{ name | json }}
    - address: {{ address | json }}
    - secret_pillar: {{ cluster.secret_pillars.get(name) | json }}
    - config: {{ arbitrator | json }}
    - require:
      - opensvc: {{ begin }}
{%- if cluster.get('quorum') %}
    - require_in:
      - opensvc: Cluster {{ cluster.name }} asks its arbitrators when it is split
{%- endif %}
{%- endfor %}
{%- if cluster.get('quorum') %}

Cluster {{ cluster.name }} asks its arbitrators when it is split:
  opensvc.quorum_present:
    - arbitrators: {{ cluster.arbitrators | sort | json }}
    - require:
      - opensvc: {{ begin }}
{%- endif %}
