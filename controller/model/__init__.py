"""From topology.yaml to values, and from values to the numbers of each host."""
