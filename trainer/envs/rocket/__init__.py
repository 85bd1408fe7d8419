"""Rocket League through RocketSim: simulation, observations, rewards, actions."""
