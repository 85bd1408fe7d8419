"""Recorded play as labels: rollouts of people, and Minari datasets."""
