"""BAYES_OPT: a Gaussian process fitted to what was tried chooses what to try next."""
