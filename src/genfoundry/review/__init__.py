"""Human evaluation: blind pairwise comparison of models' samples, from the page to the ranking."""
