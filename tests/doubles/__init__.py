"""Doubles of the ports: clock, disk, names, connections. Data in, recorded calls out."""
