"""Networks, action distributions and normalisation of observations and returns."""
