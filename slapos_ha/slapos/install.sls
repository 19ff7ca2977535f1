# SlapOS's software, without anything running: cron file and units of the distribution are put aside before the package that brings them.
{%- from "slapos_ha/map.jinja" import site with context %}
{%- from "slapos_ha/repository.jinja" import known %}
{%- set install = site.slapos.install %}
{#- What software releases are built with; where nothing can be downloaded nothing is compiled. #}
{%- set compilers = [] if site.slapos.offline else ['gcc', 'g++', 'make', 'patch'] %}
include:
  - slapos_ha.users
  - slapos_ha.units

Cron jobs of SlapOS are the cluster's to run:
  slapos_node.cron_diverted:
    - name: /etc/cron.d/slapos-node

{%- if install.method == 'pip' %}

Packages that SlapOS needs are installed:
  slapos_node.programs_present:
    - programs: {{ (['ip', 'ping', 'sensors', '/usr/lib/python3*/ensurepip'] + compilers) | json }}
    - packages: {{ (['iproute2', 'iputils-ping', 'lm-sensors', 'python3-venv'] + compilers) | json }}
    - require:
      - slapos_node: Cron jobs of SlapOS are the cluster's to run
      - slapos_node: Units of the distribution are the cluster's to run
      - slapos_node: Users of SlapOS have the site's ids

SlapOS is installed in {{ install.prefix }}:
  slapos_node.environment_present:
    - name: {{ install.prefix | json }}
    - requirements: {{ install.requirements | json }}
    - find_links: {{ install.find_links | json }}
    - no_index: {{ install.no_index | json }}
    - hashes: {{ (install.hashes or none) | json }}
    - require:
      - slapos_node: Packages that SlapOS needs are installed
    - require_in:
      - slapos_node: SlapOS and what it runs are there
{%- elif install.method == 'packages' %}
{%- if install.get('repository') %}
{{ known('SlapOS', install.repository) }}
{%- endif %}

SlapOS is installed from packages:
  pkg.installed:
    - pkgs:
{%- for package, version in install.packages | dictsort %}
      - {{ ({package: version} if version else package) | json }}
{%- endfor %}
    - require:
      - slapos_node: Cron jobs of SlapOS are the cluster's to run
      - slapos_node: Units of the distribution are the cluster's to run
      - slapos_node: Users of SlapOS have the site's ids
    - require_in:
      - slapos_node: SlapOS and what it runs are there
{%- endif %}

SlapOS and what it runs are there:
  slapos_node.programs_present:
    # supervisord's configuration, which SlapOS writes itself, has this path of the watchdog whatever the prefix is.
    - programs: [slapos, ip, ping, sensors, /opt/slapos/bin/slapos-watchdog]
    - path: {{ (install.path + [install.prefix ~ '/bin']) | join(':') | json }}
