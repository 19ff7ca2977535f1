# Many sites at once, canaries first, then in waves:
#   salt-run state.orch orch.rollout pillar='{"slapos_ha_rollout": {"sites": "*", "canary": "paris"}}'                    deploys what differs
#   salt-run state.orch orch.rollout pillar='{"slapos_ha_rollout": {"sites": "*"}}' test=True                             waves, and what each site would do
#   … "what": "teardown", "sites": ["paris", "lyon"], "site_arguments": {"paris": {"destroy_data": "comp1"}}              another orchestration
#   … "waves": [1, "10%", "50%"], "concurrency": 5, "budget": "5%", "deadline": 7200, "report": "/srv/reports"
# The same as salt-run slapos_ha_rollout.run; every argument is in docs/rollout.md. A rollout that died is simply run again.
The sites are rolled out:
  slapos_ha.rolled_out:
    - options: {{ salt['pillar.get']('slapos_ha_rollout', {}) | json }}
