# Who may reach the ports of replication and agent on this node, by the firewall that the pillar names. With none, the default, nothing of ours is in any.
{%- from "slapos_ha/map.jinja" import site with context %}
{%- set backend = site.firewall.backend %}
No other firewall of {{ site.node }} has rules of the site:
  slapos_firewall.absent:
    - keep: {{ backend | json }}
{%- if backend == 'nftables' %}

nft is installed:
  slapos_node.programs_present:
    - programs: [nft]
    - packages: [nftables]
{%- endif %}
{%- if backend != 'none' %}
{%- set rules = salt['slapos_firewall.rules'](backend) %}

Firewall {{ backend }} of {{ site.node }} can be set:
  slapos_firewall.ready:
    - backend: {{ backend | json }}
{%- if backend == 'nftables' %}
    - require:
      - slapos_node: nft is installed

Ruleset of the site is here for the next boot:
  file.managed:
    - name: /etc/slapos_ha/firewall.nft
    - contents: {{ rules | json }}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: true
    - dir_mode: '0755'
    - require:
      - slapos_firewall: Firewall nftables of {{ site.node }} can be set

Only {{ site.peer }} reaches replication and agent of {{ site.node }}:
  slapos_firewall.nftables_loaded:
    - ruleset: {{ rules | json }}
    - require:
      - file: Ruleset of the site is here for the next boot

Unit that loads the ruleset is here:
  file.managed:
    - name: /etc/systemd/system/slapos-ha-firewall.service
    - source: salt://slapos_ha/files/slapos-ha-firewall.service
    - user: root
    - group: root
    - mode: '0644'

Ruleset is loaded at each boot:
  service.running:
    - name: slapos-ha-firewall
    - enable: true
    - require:
      - file: Unit that loads the ruleset is here
      - slapos_firewall: Only {{ site.peer }} reaches replication and agent of {{ site.node }}
{%- elif backend == 'ufw' %}

Only {{ site.peer }} reaches replication and agent of {{ site.node }}:
  slapos_firewall.ufw_ruled:
    - rules: {{ rules | json }}
    - require:
      - slapos_firewall: Firewall ufw of {{ site.node }} can be set
{%- else %}

Policy of the site is here:
  file.managed:
    - name: /etc/firewalld/policies/slapos_ha.xml
    - contents: {{ rules.policy | json }}
    - user: root
    - group: root
    - mode: '0644'
    - makedirs: true
    - dir_mode: '0750'
    - require:
      - slapos_firewall: Firewall firewalld of {{ site.node }} can be set

Only {{ site.peer }} reaches replication and agent of {{ site.node }}:
  slapos_firewall.firewalld_loaded:
    - rules: {{ rules.rules | json }}
    - require:
      - file: Policy of the site is here
{%- endif %}
{%- endif %}
