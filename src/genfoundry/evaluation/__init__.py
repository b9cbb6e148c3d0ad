"""How good, how sure, against what: references, features, likelihoods, scores and the page that compares models."""
